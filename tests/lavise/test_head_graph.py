"""A CNN whose classifier the mapper holds: whatever is asked, the predictions are the CNN's own."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import lavise.explainer
import lavise.graphs
from lavise.bundle import open_bundle, write_manifest
from lavise.cnn import load_cnn
from lavise.errors import ImageError
from lavise.explainer import Explainer
from lavise.options import METHODS, ExplainOptions
from lavise.runtime import open_session
from tests.tiny_bundle import teach_tiny_bundle
from tests.tiny_cnn import DEAD_FILTER, INPUT_SIZE, SPEC


@pytest.fixture(scope="module")
def bundle(tiny_pictures: Path, tiny_words: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("apart") / "bundle"
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


def test_the_classifier_lies_apart(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.head_layer == "body"
    outputs = [one.name for one in open_session(bundle / "cnn.onnx", device="cpu").get_outputs()]
    assert outputs == ["map_0", "peak_0", "mean_0", "map_1", "peak_1", "mean_1"]
    assert "head.onnx" in manifest.files


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
        ExplainOptions(layer="body", filters=(DEAD_FILTER,)),  # no words graph runs for it
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


def test_a_damaged_classifier_is_said(
    bundle: Path, images: list[np.ndarray], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    head = onnx.load(copy / "head.onnx")
    [weights] = [one for one in head.graph.initializer if one.name == "W"]
    weights.CopyFrom(numpy_helper.from_array(np.full((4, 12), np.nan, dtype=np.float32), "W"))
    onnx.save(head, copy / "head.onnx")
    write_manifest(copy, open_bundle(bundle).manifest)
    with pytest.raises(ImageError, match="not finite"):
        Explainer.open(copy, device="cpu").explain(images, ExplainOptions(layer="stem"))
