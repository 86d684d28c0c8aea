import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavise.bundle import open_bundle
from lavise.catalog_table import read_catalog
from lavise.errors import DatasetError, RequestError
from lavise.evaluate.evaluation import EvaluationOptions, evaluate
from lavise.evaluate.report import Evaluation, Layer, Recall
from lavise.explainer import Explainer
from lavise.graph_terms import GRAPH_METHODS
from lavise.options import ExplainOptions
from lavise.runtime import open_session
from tests.bundle_copies import with_ceiling, without_catalog
from tests.lavise.evaluate import oracles
from tests.lavise.evaluate.patches import OUTSIDE, UNTAUGHT, Patches
from tests.tiny_cnn import CHANNELS, COLOURS, DEAD_FILTER, LAYERS

IMAGES = 24
DATASET = Patches(IMAGES)
KNOWN = (*COLOURS, UNTAUGHT)


@pytest.fixture(scope="module")
def found(tiny_bundle: Path) -> Evaluation:
    return evaluate(open_bundle(tiny_bundle), DATASET, EvaluationOptions(), device="cpu")


def cnn_of(explainer: Explainer) -> Any:
    return open_session(explainer.bundle.path / "cnn.onnx", device="cpu", threads=1)


def layer_of(found: Evaluation, name: str) -> Layer:
    return next(layer for layer in found.layers if layer.layer == name)


def row_of(layer: Layer, method: str, categories: str = "all") -> Recall:
    return next(r for r in layer.recall if (r.method, r.categories) == (method, categories))


@pytest.fixture(scope="module")
def looked(tiny_bundle: Path) -> dict[str, list[tuple[int, int, dict[str, bool], float]]]:
    """By layer: image, filter, and whether each of the image's categories is a right answer."""
    explainer = Explainer.open(tiny_bundle, device="cpu", threads=1)
    session = cnn_of(explainer)
    pairs = defaultdict(list)
    for i in range(IMAGES):
        image = DATASET.fetch(i, explainer.input_size)
        for number, name in enumerate(LAYERS):
            catalog = explainer.catalog(name)
            assert catalog is not None
            [maps] = session.run([f"map_{number}"], {"images": image.pixels[None]})
            for f in range(CHANNELS[name]):
                active = oracles.enlarged(maps[0, f], explainer.input_size) > catalog.threshold[f]
                right = {
                    r.category: oracles.iou(active, r.mask) > 0.04
                    for r in sorted(image.regions, key=lambda r: oracles.iou(active, r.mask))
                    if r.category in KNOWN
                }
                if any(right.values()):
                    pairs[name].append((i, f, right, float(maps[0, f].max())))
    return pairs


@pytest.mark.parametrize("method", GRAPH_METHODS)
@pytest.mark.parametrize("name", LAYERS)
def test_recall_is_the_papers(
    tiny_bundle: Path,
    found: Evaluation,
    looked: dict[str, list[tuple[int, int, dict[str, bool], float]]],
    name: str,
    method: str,
) -> None:
    """Every pair and every word, by loops over the explainer's own answers."""
    explainer = Explainer.open(tiny_bundle, device="cpu", threads=1)
    shares = defaultdict(list)
    for i, f, right, _ in looked[name]:
        image = DATASET.fetch(i, explainer.input_size).pixels
        options = ExplainOptions(layer=name, filters=(f,), top_k=16, method=method)
        [said] = explainer.explain([image], options)
        words = [word for word, _ in said.words(0)]
        for group, members in (("all", KNOWN), ("seen", COLOURS), ("unseen", (UNTAUGHT,))):
            answers = [c for c, is_right in right.items() if is_right and c in members]
            for k in (1, 5, 10, 20):
                if answers:
                    hits = sum(c in words[:k] for c in answers)
                    shares[group, k].append(hits / len(answers))
    for group in ("all", "seen", "unseen"):
        row = row_of(layer_of(found, name), method, group)
        assert row.pairs == len(shares[group, 1]) > 0
        assert row.candidates == 16
        for k in (1, 5, 10, 20):
            assert row.recall[str(k)].value == pytest.approx(np.mean(shares[group, k]))


@pytest.mark.parametrize("name", LAYERS)
def test_network_dissection_on_the_same_pairs(
    tiny_bundle: Path,
    found: Evaluation,
    looked: dict[str, list[tuple[int, int, dict[str, bool], float]]],
    name: str,
) -> None:
    explainer = Explainer.open(tiny_bundle, device="cpu", threads=1)
    catalog = explainer.catalog(name)
    assert catalog is not None
    active, annotated = defaultdict(list), defaultdict(list)
    for i in range(IMAGES):
        image = DATASET.fetch(i, explainer.input_size)
        [maps] = cnn_of(explainer).run(
            [f"map_{LAYERS.index(name)}"], {"images": image.pixels[None]}
        )
        for f in range(CHANNELS[name]):
            large = oracles.enlarged(maps[0, f], explainer.input_size)
            active[f].append(large > catalog.threshold[f])
        for c in KNOWN:
            masks = [r.mask for r in image.regions if r.category == c]
            annotated[c].append(
                np.any([np.zeros_like(image.pixels[:, :, 0], bool), *masks], axis=0)
            )
    layer = layer_of(found, name)
    iou = {
        f: {c: oracles.dissected(active[f], annotated[c]) for c in KNOWN}
        for f in range(CHANNELS[name])
    }
    for f, by_category in iou.items():
        one = layer.per_filter[f]
        assert one.netdissect_iou == pytest.approx(max(by_category.values()))
        assert (one.netdissect is None) == (max(by_category.values()) == 0)
        if one.netdissect is not None:
            assert by_category[one.netdissect] == pytest.approx(one.netdissect_iou)
    hits = []
    for _, f, right, _ in looked[name]:
        answers = [c for c, is_right in right.items() if is_right]
        hits.append((layer.per_filter[f].netdissect in answers) / len(answers))
    row = row_of(layer, "netdissect")
    assert row.pairs == len(hits)
    assert row.candidates == len(KNOWN)
    assert row.recall["1"].value == pytest.approx(np.mean(hits))
    # It is judged by its own labels here; labels of other images cannot do better.
    other = row_of(layer, "netdissect-other-half").recall["5"].value
    assert other is not None
    assert 0 < other <= (row.recall["5"].value or 0)


def test_what_was_measured_is_said(found: Evaluation, tiny_bundle: Path) -> None:
    assert found.bundle_digest == open_bundle(tiny_bundle).digest
    assert found.measured.images == IMAGES
    assert found.measured.outside_vocabulary == (OUTSIDE,)
    assert (found.measured.seen, found.measured.unseen) == (len(COLOURS), 1)
    assert any(OUTSIDE in note for note in found.notes)
    labels = [{r.category for r in DATASET.fetch(i, 32).regions} for i in range(IMAGES)]
    assert found.measured.annotations == sum(len(one & set(KNOWN)) for one in labels)
    assert found.settings.thresholds == "catalog"
    dead = layer_of(found, "body").per_filter[DEAD_FILTER]
    assert (dead.pairs, dead.recall_at_5, dead.top_images, dead.selective) == (0, None, (), None)


def test_single_filters_by_hand(found: Evaluation, tiny_bundle: Path) -> None:
    """Most active images and the label that the catalog names first."""
    explainer = Explainer.open(tiny_bundle, device="cpu", threads=1)
    catalog = read_catalog(explainer.bundle, "body")
    assert catalog is not None
    session = cnn_of(explainer)
    peaks = np.stack(
        [
            session.run(["peak_1"], {"images": DATASET.fetch(i, 32).pixels[None]})[0][0]
            for i in range(IMAGES)
        ]
    )
    for one in layer_of(found, "body").per_filter[:DEAD_FILTER]:
        order = np.argsort(-peaks[:, one.index], kind="stable")[:4]
        assert [top.image for top in one.top_images] == [
            i for i in order.tolist() if peaks[i, one.index] > 0
        ]
        named = [word for word, _ in catalog.words[one.index] if word in KNOWN]
        assert one.label == (named[0] if named else None)
        assert set(one.label_scores) == {"auprc", "f1", "correlation", "auroc"}
        assert one.threshold == pytest.approx(catalog.threshold[one.index])


def test_chance_is_how_often_labels_are_there(found: Evaluation) -> None:
    """Over half of the images, so about as often as over all of them."""
    body = layer_of(found, "body")
    labels = [{r.category for r in DATASET.fetch(i, 32).regions} for i in range(IMAGES)]
    scored = [one.label for one in body.per_filter if one.label_scores["auprc"] is not None]
    often = np.mean([[label in one for one in labels] for label in scored])
    assert body.labels[0].filters == len(scored)
    assert body.labels[0].chance_auprc == pytest.approx(often, abs=0.15)


def test_json_has_no_number_that_json_has_not(found: Evaluation) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(text)

    text = found.model_dump_json()
    document = json.loads(text, parse_constant=refuse)
    assert document["form"] == "lavise.evaluation.v1"
    assert Evaluation.model_validate_json(text) == found


def test_the_same_seed_gives_the_same_result(found: Evaluation, tiny_bundle: Path) -> None:
    again = evaluate(open_bundle(tiny_bundle), DATASET, EvaluationOptions(), device="cpu")
    assert again == found


def test_thresholds_of_the_dataset_itself(
    tiny_bundle: Path, found: Evaluation, tmp_path: Path
) -> None:
    bare = open_bundle(without_catalog(tiny_bundle, tmp_path / "bare"))
    own = evaluate(bare, DATASET, EvaluationOptions(), device="cpu")
    assert own.settings.thresholds == "dataset"
    assert any("no catalog" in note for note in own.notes)
    body = layer_of(own, "body")
    assert [row.source for row in body.labels] == ["netdissect"]
    assert row_of(body, "activation").pairs == row_of(body, "attention").pairs > 0
    assert body.per_filter[0].words == ()
    asked = EvaluationOptions(thresholds="dataset")
    both = evaluate(open_bundle(tiny_bundle), DATASET, asked, device="cpu")
    assert both.layers[0].recall == own.layers[0].recall
    assert both.layers[0].recall != found.layers[0].recall
    session = open_session(bare.path / "cnn.onnx", device="cpu")
    cells = np.concatenate(
        [
            session.run(["map_1"], {"images": DATASET.fetch(i, 32).pixels[None]})[0][0, 0].ravel()
            for i in range(IMAGES)
        ]
    )
    assert np.mean(cells > body.per_filter[0].threshold) <= 0.006
    with pytest.raises(RequestError, match="lavise catalog"):
        evaluate(bare, DATASET, EvaluationOptions(thresholds="catalog"), device="cpu")


def test_a_saturating_layer_ranks_by_mean(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(with_ceiling(tiny_bundle, tmp_path / "low", "body", 0.4))
    found = evaluate(bundle, DATASET, EvaluationOptions(), device="cpu")
    means = open_session(bundle.path / "cnn.onnx", device="cpu").run(
        ["mean_1"], {"images": np.stack([DATASET.fetch(i, 32).pixels for i in range(IMAGES)])}
    )[0]
    one = layer_of(found, "body").per_filter[0]
    assert one.top_images[0].activation == pytest.approx(means[:, 0].max())


def test_unseen_is_what_was_held_out(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    everything = evaluate(bundle, DATASET, EvaluationOptions(unseen=1.0), device="cpu")
    assert everything.measured.unseen == 1
    assert any("count as seen" in note for note in everything.notes)
    nothing = evaluate(bundle, DATASET, EvaluationOptions(unseen=0.0), device="cpu")
    assert nothing.measured.unseen == 0
    assert any(note.startswith("Nothing is unseen") for note in nothing.notes)
    row = row_of(nothing.layers[0], "attention", "unseen")
    assert (row.pairs, row.recall["1"].value) == (0, None)


def test_images_that_cannot_be_read_are_left_out(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    said: list[str] = []
    torn = Patches(12, broken=(0, 5))
    found = evaluate(bundle, torn, EvaluationOptions(), device="cpu", say=said.append)
    assert (found.measured.images, found.measured.left_out) == (10, 2)
    assert [line for line in said if "torn" in line] == said
    assert len(said) == 2
    shown = {t.image for one in found.layers[0].per_filter for t in one.top_images}
    assert not shown & {0, 5}
    with pytest.raises(DatasetError, match="no readable image"):
        evaluate(bundle, Patches(2, broken=(0, 1)), EvaluationOptions(), device="cpu")
    with pytest.raises(DatasetError, match="has no image"):
        evaluate(bundle, Patches(0), EvaluationOptions(), device="cpu")


def test_one_image_is_little_but_enough(tiny_bundle: Path) -> None:
    found = evaluate(open_bundle(tiny_bundle), Patches(9), EvaluationOptions(images=1))
    assert found.measured.images == 1
    assert all(s.value is None for row in found.layers[0].labels for s in row.scores.values())
    with pytest.raises(RequestError, match="images is 0"):
        evaluate(open_bundle(tiny_bundle), Patches(9), EvaluationOptions(images=0))
