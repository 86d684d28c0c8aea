import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from lavise import explainer as explaining
from lavise import graphs
from lavise.bundle import open_bundle, write_manifest
from lavise.catalog import load_mapper, load_vocabulary
from lavise.errors import EnvironmentProblem, ImageError, RequestError
from lavise.explainer import DEFAULT_MOST_ACTIVE, Explainer
from lavise.explanation import N_PREDICTIONS, Explanation
from lavise.images import prepare
from lavise.kin import kin_words
from lavise.options import METHODS, ExplainOptions
from lavise.runtime import open_session
from lavise.word_scores import named_words
from tests.bundle_copies import with_ceiling, with_nan, without_catalog
from tests.oracle import scores
from tests.tiny_cnn import CHANNELS, COLOURS, DEAD_FILTER, INPUT_SIZE, LAYERS, TinyCnn

N_WORDS = 16


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Explainer:
    return Explainer.open(tiny_bundle, device="cpu", threads=1)


@pytest.fixture(scope="module")
def images(tiny_pictures: Path) -> list[np.ndarray]:
    files = [tiny_pictures / colour / "03.png" for colour in COLOURS]
    return [prepare(file.read_bytes(), INPUT_SIZE) for file in files]


def maps_of(explainer: Explainer, image: np.ndarray, layer: str) -> np.ndarray:
    """(C, H, W), from the graph itself."""
    session = open_session(explainer.bundle.path / "cnn.onnx", device="cpu")
    found = session.run([f"map_{LAYERS.index(layer)}"], {"images": image[None]})
    return np.asarray(found[0][0])


def check_against_equations(explainer: Explainer, image: np.ndarray, got: Explanation) -> None:
    """Every word of an answer, by the oracle."""
    bundle = explainer.bundle
    position = LAYERS.index(got.layer)
    mapper = load_mapper(bundle, bundle.manifest.mappers[position])
    words = load_vocabulary(bundle)
    vocabulary = words.vectors
    found, near = kin_words(mapper.concepts, words.words, named_words(mapper.E, vocabulary), 8)
    kin = [
        {word: s for word, s in zip(*row, strict=True) if s > 0}
        for row in zip(found.tolist(), near.tolist(), strict=True)
    ]
    feature_map = maps_of(explainer, image, got.layer)
    for row, f in enumerate(got.filters.tolist()):
        right = scores(feature_map, f, mapper, vocabulary, "attention", kin=kin)
        assert got.inactive[row] == (right is None)
        assert got.activation[row] == pytest.approx(feature_map[f].max(), rel=1e-5)
        if right is None:
            assert got.words(row) == []
            continue
        expected, tolerance = right
        said = got.words(row)
        assert len({word for word, _ in said}) == len(said) == got.scores.shape[1]
        for word, score in said:
            assert score == pytest.approx(expected[explainer.vocabulary.index(word)], abs=tolerance)
        best = np.sort(expected)[::-1][: len(said)]
        np.testing.assert_allclose([score for _, score in said], best, atol=tolerance)


def same(a: Explanation, b: Explanation) -> None:
    """Two answers say the same, words of equal score aside."""
    assert a.layer == b.layer
    np.testing.assert_array_equal(a.filters, b.filters)
    np.testing.assert_allclose(a.activation, b.activation, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(a.inactive, b.inactive)
    for row in range(len(a.filters)):
        pairs = zip(a.words(row), b.words(row), strict=True)
        for (word_a, score_a), (word_b, score_b) in pairs:
            assert score_a == pytest.approx(score_b, abs=1e-4)
            assert word_a == word_b or score_a == pytest.approx(score_b, abs=1e-6)
    for (label_a, share_a), (label_b, share_b) in zip(
        a.predictions(), b.predictions(), strict=True
    ):
        assert label_a == label_b
        assert share_a == pytest.approx(share_b, rel=1e-4)
    for one, other in ((a.threshold, b.threshold), (a.qualified, b.qualified)):
        assert one is not None
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layer", LAYERS)
def test_words_follow_from_the_equations(
    layer: str, explainer: Explainer, images: list[np.ndarray]
) -> None:
    options = ExplainOptions(layer=layer, all_filters=True, top_k=N_WORDS)
    for image, explanation in zip(images, explainer.explain(images, options), strict=True):
        assert explanation.filters.tolist() == list(range(CHANNELS[layer]))
        check_against_equations(explainer, image, explanation)


def test_cnn_is_the_torch_module(explainer: Explainer, images: list[np.ndarray]) -> None:
    import torch

    cnn = TinyCnn().eval()
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        probabilities = cnn((pixels - 127) / 128).softmax(1).numpy()
    for expected, got in zip(probabilities, explainer.explain(images), strict=True):
        assert [label for label, _ in got.predictions()] == [
            TinyCnn.class_names[i] for i in np.argsort(-expected)
        ]
        np.testing.assert_allclose(
            [share for _, share in got.predictions()], np.sort(expected)[::-1], rtol=1e-4
        )
        assert len(got.predictions()) == min(N_PREDICTIONS, 4)


OPTIONS = [
    ExplainOptions(),
    ExplainOptions(layer="body", all_filters=True, top_k=16),
    ExplainOptions(layer="stem", filters=(7, 0, 3), top_k=1),
    ExplainOptions(layer="body", filters=(DEAD_FILTER,), top_k=2),
    ExplainOptions(layer="stem", most_active=8, method="original"),
    ExplainOptions(layer="body", most_active=1, method="attention-paper", top_k=3),
    ExplainOptions(layer="stem", all_filters=True, method="activation"),
    ExplainOptions(layer="body", filters=(1, DEAD_FILTER, 0), method="attention-code"),
    ExplainOptions(layer="body", filters=(2, 5), method="image", top_k=4),
]


def test_a_batch_with_an_option_each_equals_one_by_one(
    explainer: Explainer, images: list[np.ndarray]
) -> None:
    asked = [(images[i % 6], options) for i, options in enumerate(OPTIONS * 2)]
    together = explainer.explain([image for image, _ in asked], [one for _, one in asked])
    for (image, options), batched in zip(asked, together, strict=True):
        [alone] = explainer.explain([image], options)
        same(batched, alone)


@pytest.mark.parametrize("method", METHODS)
def test_one_option_for_all_equals_one_by_one(
    method: str, explainer: Explainer, images: list[np.ndarray]
) -> None:
    options = ExplainOptions(method=method, layer="body", all_filters=True)
    for image, batched in zip(images, explainer.explain(images, options), strict=True):
        [alone] = explainer.explain([image], options)
        same(batched, alone)


def test_padding_never_leaks(explainer: Explainer, images: list[np.ndarray]) -> None:
    """Images of one run ask for different numbers of filters."""
    chosen: list[tuple[int, ...]] = [(3,), (1, 2, 4, 6, 7, 5), (0, 2), (DEAD_FILTER,)]
    options = [ExplainOptions(layer="body", filters=filters) for filters in chosen]
    got = explainer.explain(images[:4], options)
    for filters, image, explanation in zip(chosen, images, got, strict=False):
        assert tuple(explanation.filters.tolist()) == filters
        assert explanation.word_ids.shape == explanation.scores.shape == (len(filters), 5)
        check_against_equations(explainer, image, explanation)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"original"}))
def test_an_inactive_filter_has_no_words(
    method: str, explainer: Explainer, images: list[np.ndarray]
) -> None:
    options = ExplainOptions(layer="body", filters=(DEAD_FILTER, 0), method=method)
    for explanation in explainer.explain(images, options):
        assert explanation.inactive[0]
        assert explanation.activation[0] == 0
        assert explanation.words(0) == []


@pytest.mark.parametrize("factorise_from", [1, 4, 1000])
def test_few_or_many_filters_give_the_same(
    factorise_from: int,
    explainer: Explainer,
    images: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [ExplainOptions(layer="body", most_active=n) for n in (1, 3, 5, 12)]
    expected = explainer.explain(images[:4], options)
    for module in (explaining, graphs):
        monkeypatch.setattr(module, "FACTORISE_FROM", factorise_from)
    for one, other in zip(explainer.explain(images[:4], options), expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("limit", [1, N_WORDS * 2 * 3, N_WORDS * 12 * 6 - 1])
@pytest.mark.parametrize("method", METHODS)
def test_scores_that_do_not_fit_are_computed_in_parts(
    limit: int,
    method: str,
    explainer: Explainer,
    images: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ExplainOptions(layer="body", all_filters=True, method=method)
    expected = explainer.explain(images[:3], options)
    monkeypatch.setattr(graphs, "_MAX_SCORES", limit)
    for one, other in zip(explainer.explain(images[:3], options), expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("factorise_from", [1, 1000])
@pytest.mark.parametrize("ceiling", [None, 1e9])
@pytest.mark.parametrize("method", METHODS)
def test_parts_of_the_most_active(
    method: str,
    ceiling: float | None,
    factorise_from: int,
    tiny_bundle: Path,
    images: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with maps, where a layer saturates, and where inactive filters are left out."""
    bundle = tiny_bundle
    if ceiling is not None:
        bundle = with_ceiling(tiny_bundle, tmp_path / "bundle", "body", ceiling)
    explainer = Explainer.open(bundle, device="cpu", threads=1)
    options = ExplainOptions(layer="body", most_active=12, method=method, heatmaps=True)
    expected = explainer.explain(images[:2], options)
    for module in (explaining, graphs):
        monkeypatch.setattr(module, "FACTORISE_FROM", factorise_from)
    monkeypatch.setattr(graphs, "_MAX_SCORES", N_WORDS * 5)
    for one, other in zip(explainer.explain(images[:2], options), expected, strict=True):
        same(one, other)
        assert one.heatmaps is not None
        assert other.heatmaps is not None
        differences = one.heatmaps.astype(int) - other.heatmaps
        assert np.abs(differences).max() <= 1


def test_rows_are_counted_from_either_end(explainer: Explainer, images: list[np.ndarray]) -> None:
    [got] = explainer.explain(images[:1], ExplainOptions(layer="body", all_filters=True))
    assert got.words(-1) == got.words(11) == []
    assert got.words(-2) == got.words(10)
    with pytest.raises(IndexError):
        got.words(12)


def test_filters_may_be_numpys(explainer: Explainer, images: list[np.ndarray]) -> None:
    filters = tuple(np.array([3, 1], dtype=np.uint16))
    [got] = explainer.explain(images[:1], ExplainOptions(layer="body", filters=filters))
    assert got.filters.tolist() == [3, 1]


def test_a_batch_with_several_k_and_some_heat_maps(
    explainer: Explainer, images: list[np.ndarray]
) -> None:
    asked = [ExplainOptions(top_k=3, heatmaps=True), ExplainOptions(top_k=7)]
    for one, alone in zip(
        explainer.explain(images[:2], asked),
        [explainer.explain([images[i]], asked[i])[0] for i in range(2)],
        strict=True,
    ):
        same(one, alone)
        assert (one.heatmaps is None) == (alone.heatmaps is None)
        if one.heatmaps is not None and alone.heatmaps is not None:
            np.testing.assert_array_equal(one.heatmaps, alone.heatmaps)


def test_most_active_are_the_most_active(explainer: Explainer, images: list[np.ndarray]) -> None:
    for n in (1, 4, 11, 12):
        [got] = explainer.explain(images[:1], ExplainOptions(layer="body", most_active=n))
        peaks = maps_of(explainer, images[0], "body").max((1, 2))
        np.testing.assert_allclose(got.activation, np.sort(peaks)[::-1][:n], rtol=1e-6)
        assert len(set(got.filters.tolist())) == n


def test_defaults(explainer: Explainer, images: list[np.ndarray]) -> None:
    [got] = explainer.explain(images[:1])
    assert got.layer == explainer.layers[0] == "stem"
    assert len(got.filters) == min(DEFAULT_MOST_ACTIVE, CHANNELS["stem"])
    assert got.scores.shape[1] == 5
    assert (np.diff(got.activation) <= 0).all()
    [body] = explainer.explain(images[:1], ExplainOptions(layer="body"))
    assert len(body.filters) == DEFAULT_MOST_ACTIVE


def test_image_method_is_what_a_person_would_do(
    explainer: Explainer, images: list[np.ndarray]
) -> None:
    """Enlarge the map, cut it at T_f, black out the rest, explain the whole masked image."""
    catalog = explainer.catalog("body")
    assert catalog is not None
    options = ExplainOptions(layer="body", all_filters=True, method="image")
    some_active = False
    for image, got in zip(images, explainer.explain(images, options), strict=True):
        feature_map = maps_of(explainer, image, "body")
        for f in range(CHANNELS["body"]):
            large = Image.fromarray(feature_map[f]).resize(
                (INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR
            )
            mask = np.asarray(large) > catalog.threshold[f]
            assert got.inactive[f] == (not mask.any())
            if not mask.any():
                continue
            some_active = True
            masked = np.where(mask[:, :, None], image, 0).astype(np.uint8)
            whole = ExplainOptions(layer="body", filters=(f,), method="original")
            [by_hand] = explainer.explain([masked], whole)
            np.testing.assert_allclose(got.scores[f], by_hand.scores[0], atol=1e-5)
    assert some_active


def test_thresholds_of_a_saturated_layer_can_be_reached(
    tiny_bundle: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    """T_f at the ceiling: nothing exceeds it, what reaches it counts, in every place alike."""
    peak = float(maps_of(Explainer.open(tiny_bundle, device="cpu"), images[0], "body").max())
    path = with_ceiling(tiny_bundle, tmp_path / "bundle", "body", peak)
    saturated = Explainer.open(path, device="cpu")
    catalog = saturated.catalog("body")
    assert catalog is not None
    catalog.threshold[:] = peak
    for method in ("activation", "image"):
        options = ExplainOptions(layer="body", all_filters=True, method=method)
        [got] = saturated.explain(images[:1], options)
        assert got.qualified is not None
        assert got.qualified.sum() == 1
        if method == "activation":
            np.testing.assert_array_equal(got.qualified, ~got.inactive)


def test_saturated_layers_rank_by_mean(
    tiny_bundle: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    path = with_ceiling(tiny_bundle, tmp_path / "bundle", "stem", 1e9)
    saturated = Explainer.open(path, device="cpu")
    [got] = saturated.explain(images[:1], ExplainOptions(most_active=3))
    means = maps_of(saturated, images[0], "stem").mean((1, 2))
    np.testing.assert_allclose(got.activation, np.sort(means)[::-1][:3], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "field", "says"),
    [
        (ExplainOptions(layer="tail"), "layer", "unknown layer 'tail'; accepted: stem, body"),
        (ExplainOptions(method="gradcam"), "method", "accepted: attention,"),
        (ExplainOptions(top_k=0), "top_k", "accepted: 1 to 16"),
        (ExplainOptions(top_k=-3), "top_k", "accepted: 1 to 16"),
        (ExplainOptions(top_k=17), "top_k", "accepted: 1 to 16"),
        (ExplainOptions(filters=()), "filters", "empty"),
        (ExplainOptions(filters=(8,)), "filters", "filter 8 .* filters 0 to 7"),
        (ExplainOptions(layer="body", filters=(0, 12)), "filters", "filter 12 .* filters 0 to 11"),
        (ExplainOptions(filters=(-1,)), "filters", "filter -1 is out of range"),
        (ExplainOptions(filters=(2, 5, 2)), "filters", "filter 2 is asked for more than once"),
        (ExplainOptions(most_active=0), "most_active", "accepted: 1 to 8"),
        (ExplainOptions(most_active=9), "most_active", "accepted: 1 to 8"),
        (ExplainOptions(filters=(1,), most_active=1), "filters", "one of"),
        (ExplainOptions(most_active=1, all_filters=True), "filters", "one of"),
        (ExplainOptions(filters=(1,), all_filters=True), "filters", "one of"),
    ],
)
def test_wrong_options_name_their_field(
    options: ExplainOptions,
    field: str,
    says: str,
    explainer: Explainer,
    images: list[np.ndarray],
) -> None:
    with pytest.raises(RequestError, match=says) as caught:
        explainer.validate(options)
    assert caught.value.field == field
    with pytest.raises(RequestError, match=says):  # among good ones as well
        explainer.explain(images[:2], [ExplainOptions(), options])


def test_methods_that_need_a_catalog_say_so(tiny_bundle: Path, tmp_path: Path) -> None:
    path = without_catalog(tiny_bundle, tmp_path / "bundle")
    plain = Explainer.open(path, device="cpu")
    for method in ("activation", "image"):
        with pytest.raises(RequestError, match="lavise catalog") as caught:
            plain.validate(ExplainOptions(method=method))
        assert caught.value.field == "method"
    [got] = plain.explain([np.zeros((INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)])
    assert got.threshold is None
    assert got.qualified is None


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((31, 32, 3), dtype=np.uint8),
        np.zeros((3, 32, 32), dtype=np.uint8),
        np.zeros((32, 32), dtype=np.uint8),
        np.zeros((1, 32, 32, 3), dtype=np.uint8),
        np.zeros((32, 32, 4), dtype=np.uint8),
        np.zeros((32, 32, 3), dtype=np.float32),
        np.zeros((0,), dtype=np.uint8),
    ],
)
def test_wrong_arrays_are_refused(image: np.ndarray, explainer: Explainer) -> None:
    with pytest.raises(ImageError, match=r"accepted: uint8 \(32, 32, 3\)") as caught:
        explainer.explain([np.zeros((32, 32, 3), dtype=np.uint8), image])
    assert caught.value.field == "images"


def test_strided_images_are_the_same_images(explainer: Explainer, images: list[np.ndarray]) -> None:
    turned = np.ascontiguousarray(images[0][:, ::-1])[:, ::-1]
    same(explainer.explain([turned])[0], explainer.explain([images[0]])[0])


def test_no_image_no_answer(explainer: Explainer) -> None:
    assert explainer.explain([]) == []
    with pytest.raises(RequestError, match="0 images but 1 options"):
        explainer.explain([], [ExplainOptions()])


def test_values_that_are_not_finite_give_no_words(
    tiny_bundle: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    """One weight of one filter is NaN: that filter would answer with the words that sort last."""
    path = with_nan(tiny_bundle, tmp_path / "bundle", (CHANNELS["body"],), 2)
    damaged = Explainer.open(path, device="cpu")
    for method in METHODS:
        options = ExplainOptions(layer="body", filters=(2, 3), method=method)
        with pytest.raises(ImageError, match=r"not finite.*'body'"):
            damaged.explain(images[:2], options)


@pytest.mark.parametrize("every", [False, True])
def test_an_image_that_overflows_is_named(
    tiny_bundle: Path, tmp_path: Path, *, every: bool
) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    for file in path.glob("*.onnx"):  # mean grey gives 0 / 0, all else 1
        model = onnx.load(file, load_external_data=False)
        [divide] = [node for node in model.graph.node if node.op_type == "Div"][:1]
        divide.input[1] = divide.input[0]
        onnx.save(model, file)
    write_manifest(path, open_bundle(tiny_bundle).manifest)
    explainer = Explainer.open(path, device="cpu", threads=1)
    options = ExplainOptions(layer="body", most_active=None if every else 3, all_filters=every)
    light, grey = (np.full((INPUT_SIZE, INPUT_SIZE, 3), v, dtype=np.uint8) for v in (200, 127))
    with pytest.raises(ImageError, match="not finite for image 1 on layer 'body'"):
        explainer.explain([light, grey], options)
    assert len(explainer.explain([light], options)) == 1


def test_gpu_that_is_promised_and_not_there(
    tiny_bundle: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU build of ONNX Runtime lists CUDA on any machine, and falls back to the CPU."""
    real = onnxruntime.InferenceSession

    def falls_back(path: str, options: Any, providers: list[Any]) -> Any:
        return real(path, options, providers=providers[-1:])

    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "InferenceSession", falls_back)
    explainer = Explainer.open(tiny_bundle)
    assert explainer.device == "cpu"
    assert explainer.providers == ["CPUExecutionProvider"]
    assert explainer.explain(images[:1])
    with pytest.raises(EnvironmentProblem, match="no usable GPU"):
        Explainer.open(tiny_bundle, device="cuda")


def test_every_explanation_carries_its_catalog(
    explainer: Explainer, images: list[np.ndarray]
) -> None:
    for layer, image in itertools.product(LAYERS, images):
        [got] = explainer.explain([image], ExplainOptions(layer=layer, all_filters=True))
        catalog = explainer.catalog(layer)
        assert catalog is not None
        assert got.threshold is not None
        assert got.qualified is not None
        np.testing.assert_array_equal(got.threshold, catalog.threshold)
        peak = maps_of(explainer, image, layer).max((1, 2))
        np.testing.assert_array_equal(got.qualified, peak > catalog.threshold)
