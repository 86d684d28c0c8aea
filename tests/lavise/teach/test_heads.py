from pathlib import Path

import numpy as np
import pytest

from lavise.cnn import load_cnn
from lavise.cnn_graph import export_cnn
from lavise.runtime import open_session
from lavise.teach.features import Features, LayerFeatures
from lavise.teach.heads import heads_of
from tests.tiny_cnn import CHANNELS, LAYERS, SPEC


@pytest.mark.parametrize("sayable", [True, False])
def test_a_person_is_told_how_well_a_layer_says_what_the_head_says(
    *, sayable: bool, tmp_path: Path
) -> None:
    graph = tmp_path / "cnn.onnx"
    export_cnn(load_cnn(SPEC), LAYERS, graph)
    rng = np.random.default_rng(0)
    images = [rng.normal(size=(400, CHANNELS[name])).astype(np.float32) for name in LAYERS]
    none = [image[:0] for image in images]
    logits = images[0][:, :4] if sayable else rng.normal(size=(400, 4)).astype(np.float32)
    found = Features(
        [LayerFeatures(r, i, i.max(axis=0), 0.0) for r, i in zip(none, images, strict=True)],
        np.zeros(0, dtype=np.int32),
        np.zeros(0, dtype=np.int32),
        logits,
        (),
    )
    told: list[str] = []

    probed, fed = heads_of(graph, open_session(graph, threads=1), LAYERS, found, told.append)

    assert probed[0].W.shape == (4, CHANNELS["stem"])
    assert fed[0].W.shape == (4, CHANNELS["body"])
    assert fed[1] == {}
    [line] = told
    assert line.startswith("stem does not feed the classifier")
    assert ("take a later layer" in line) != sayable
    assert (probed[1]["head-agreement"] > 0.9) == sayable
