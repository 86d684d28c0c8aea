"""One graph from images to words: it chooses filters, and predicts as the CNN does."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import lavise.explainer
import lavise.graphs
from lavise.bundle import open_bundle
from lavise.cnn import load_cnn
from lavise.errors import ImageError
from lavise.explainer import Explainer
from lavise.graphs import OPEN, Graphs
from lavise.options import METHODS, ExplainOptions
from lavise.runtime import open_session
from tests.bundle_copies import with_nan
from tests.tiny_bundle import teach_tiny_bundle
from tests.tiny_cnn import CHANNELS, DEAD_FILTER, INPUT_SIZE, SPEC


@pytest.fixture(scope="module")
def bundle(tiny_pictures: Path, tiny_words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its mapper for ``body`` holds the CNN's classifier."""
    out = tmp_path_factory.mktemp("joined") / "bundle"
    return teach_tiny_bundle(tiny_pictures, tiny_words, out, own_classes=True)


@pytest.fixture(scope="module")
def explainer(bundle: Path) -> Explainer:
    return Explainer.open(bundle, device="cpu", threads=1)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (5, INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8))


def own_logits(images: list[np.ndarray]) -> np.ndarray:
    """(B, 4), from the module itself."""
    cnn = load_cnn(SPEC)
    assert cnn.module is not None
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return np.asarray(cnn.module.eval()((pixels - 127) / 128))


def test_the_classifier_is_run_once(bundle: Path) -> None:
    """By the mapper that holds it, or else by the CNN."""
    for layer, method, by_cnn in (
        ("stem", "attention", True),
        ("body", "attention", False),
        ("body", "attention-paper", True),
    ):
        model = onnx.load(bundle / f"words.{layer}.{method}.onnx", load_external_data=False)
        assert any(list(one.dims) == [4, 12] for one in model.graph.initializer) == by_cnn


def test_weights_lie_on_disk_once(bundle: Path) -> None:
    for file in bundle.glob("*.onnx"):
        model = onnx.load(file, load_external_data=False)
        inside = [
            one
            for one in model.graph.initializer
            if one.data_location != onnx.TensorProto.EXTERNAL and one.ByteSize() > 1200
        ]
        # What is left is what the concepts speak for.
        assert {one.name for one in inside} <= {"concept_handicap", "concept_word"}


@pytest.mark.parametrize("layer", ["stem", "body"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_layer_predicts_alike(
    method: str, layer: str, explainer: Explainer, images: list[np.ndarray]
) -> None:
    found = explainer.explain(images, ExplainOptions(layer=layer, filters=(1, 2), method=method))
    logits = np.stack([one.logits for one in found])
    np.testing.assert_allclose(logits, own_logits(images), rtol=1e-4, atol=1e-4)


def test_a_batch_that_asks_for_different_things(
    explainer: Explainer, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (lavise.explainer, lavise.graphs):
        monkeypatch.setattr(module, "FACTORISE_FROM", 5)
    asked = [
        ExplainOptions(layer="body", filters=(3,)),
        ExplainOptions(layer="body", all_filters=True),
        ExplainOptions(layer="body", filters=(DEAD_FILTER,)),
        ExplainOptions(layer="stem"),
        ExplainOptions(layer="body", filters=(3, 4), method="attention-paper"),
    ]
    found = explainer.explain(images, asked)
    logits = np.stack([one.logits for one in found])
    np.testing.assert_allclose(logits, own_logits(images), rtol=1e-4, atol=1e-4)
    assert found[2].inactive.all()
    assert found[0].predictions()[0][1] == pytest.approx(
        np.exp(logits[0].max()) / np.exp(logits[0]).sum(), rel=1e-4
    )


def test_sizes_stay_known(bundle: Path) -> None:
    """Else ONNX Runtime copies all scores to change a few of them."""
    for form, n_rows in (("attention.many", "G"), ("original.many", "F"), ("attention", "R")):
        model = onnx.load(bundle / f"words.body.{form}.onnx", load_external_data=False)
        inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
        sizes = {one.name: one.type.tensor_type.shape.dim for one in inferred}
        before, after = sizes["cosine"], sizes["scores"]
        assert [size.dim_param or size.dim_value for size in before] == ["B", n_rows, 16]
        assert list(after) == list(before)


@pytest.mark.parametrize("layer", ["stem", "body"])
def test_filters_may_be_left_open(layer: str, bundle: Path, images: list[np.ndarray]) -> None:
    """At the j-th place the j-th most active, whatever is named beside, for each image alone."""
    graphs = Graphs(open_bundle(bundle), device="cpu", threads=1)
    filters = np.array([[OPEN] * 5, [2, OPEN, OPEN, 0, OPEN]])
    said = graphs.explain(layer, "attention", np.stack(images[:2]), filters, 3)
    order = np.argsort(-said.peak, axis=1, kind="stable")
    assert said.filters[0].tolist() == order[0, :5].tolist()
    assert said.filters[1].tolist() == [2, order[1, 1], order[1, 2], 0, order[1, 4]]


@pytest.mark.parametrize("factorise_from", [1, 1000])
def test_maps_are_those_of_the_cnn(
    factorise_from: int, bundle: Path, images: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where inactive filters are left out, of which each image has others."""
    monkeypatch.setattr(lavise.graphs, "FACTORISE_FROM", factorise_from)
    graphs = Graphs(open_bundle(bundle), device="cpu", threads=1)
    batch = np.stack([*images[:2], np.zeros_like(images[0])])
    [maps] = open_session(bundle / "cnn.onnx", device="cpu").run(["map_1"], {"images": batch})
    every = np.tile(np.arange(CHANNELS["body"])[::-1], (3, 1))
    said = graphs.explain("body", "attention", batch, every, 2, maps=True)
    expected = maps.reshape(3, CHANNELS["body"], -1)[:, ::-1]
    np.testing.assert_array_equal(said.filters, every)
    np.testing.assert_array_equal(said.inactive, expected.max(2) <= 0)
    assert said.inactive[:, CHANNELS["body"] - 1 - DEAD_FILTER].all()
    assert said.maps is not None
    active = ~said.inactive
    np.testing.assert_allclose(said.maps[active], expected[active], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.peak, maps.max((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.mean, maps.mean((2, 3)), rtol=1e-4, atol=1e-6)


def test_a_damaged_classifier_is_said(
    bundle: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    damaged = with_nan(bundle, tmp_path / "bundle", (4, 12))
    with pytest.raises(ImageError, match="not finite for image 0"):
        Explainer.open(damaged, device="cpu").explain(images, ExplainOptions(layer="stem"))
