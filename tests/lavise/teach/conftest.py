"""Small trainings, of a CNN that is a graph: exporting a module takes seconds."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lavise.cnn import TargetCnn, load_cnn
from lavise.images import list_images, prepare
from tests.tiny_cnn import INPUT_SIZE, TinyCnn

CLASSES = TinyCnn.class_names


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Two threads wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory, tiny_pictures: Path) -> tuple[Path, list[str]]:
    """The tiny CNN as an ONNX file that takes normalised pixels, and the names of its layers."""
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            trained(TinyCnn().eval(), tiny_pictures),
            (torch.zeros(2, 3, INPUT_SIZE, INPUT_SIZE),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        )
    assert program is not None
    program.save(path)
    nodes = program.model_proto.graph.node
    return path, [node.output[0] for node in nodes if node.op_type == "Relu"]


def trained(cnn: TinyCnn, pictures: Path) -> TinyCnn:
    """Fits the head to its four classes, by least squares."""
    files = [file for name in CLASSES for file in list_images(pictures / name)]
    pixels = np.stack([prepare(file.read_bytes(), INPUT_SIZE) for file in files])
    images = torch.from_numpy((pixels.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)
    wanted = np.eye(4)[[CLASSES.index(file.parent.name) for file in files]]
    with torch.no_grad():
        features = cnn.body(cnn.stem(images)).mean((2, 3)).double().numpy()
        design = np.concatenate([features, np.ones((len(features), 1))], axis=1)
        fitted = np.linalg.lstsq(design, 10 * wanted, rcond=1e-6)[0]  # (13, 4)
        cnn.head.weight.copy_(torch.from_numpy(fitted[:-1].T))
        cnn.head.bias.copy_(torch.from_numpy(fitted[-1]))
        assert np.mean(cnn(images).argmax(1).numpy() == wanted.argmax(1)) > 0.9
    return cnn


@pytest.fixture(scope="session")
def open_cnn(graph: tuple[Path, list[str]]) -> Callable[..., TargetCnn]:
    def opened(names: tuple[str, ...] = CLASSES) -> TargetCnn:
        mean, std = TinyCnn.mean, TinyCnn.std
        return load_cnn(f"onnx:{graph[0]}", class_names=names, mean=mean, std=std)

    return opened


@pytest.fixture(scope="session")
def body(graph: tuple[Path, list[str]]) -> str:
    """The layer that feeds the head."""
    return graph[1][1]


@pytest.fixture(scope="session")
def stem(graph: tuple[Path, list[str]]) -> str:
    return graph[1][0]
