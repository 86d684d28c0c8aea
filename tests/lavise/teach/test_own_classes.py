from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lavise.errors import DatasetError
from lavise.runtime import open_session
from lavise.teach.features import LayerFeatures
from lavise.teach.own_classes import Head, draw_examples, find_head

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 3)).astype(np.float32)
B = RNG.normal(size=4).astype(np.float32)


def linear(form: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """The nodes from ``mean_0`` (B, 3) to ``logits``, the same classifier in many spellings."""
    node = helper.make_node
    zero = np.zeros(4, dtype=np.float32)
    forms: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
        "Gemm": ([node("Gemm", ["mean_0", "W", "b"], ["logits"])], {"W": W.T, "b": B}),
        "Gemm transB": (
            [node("Gemm", ["mean_0", "W", "b"], ["logits"], transB=1)],
            {"W": W, "b": B},
        ),
        "Gemm row bias": (
            [node("Gemm", ["mean_0", "W", "b"], ["logits"], transB=1)],
            {"W": W, "b": B[None]},
        ),
        "Gemm no bias": ([node("Gemm", ["mean_0", "W"], ["logits"], transB=1)], {"W": W, "": zero}),
        "MatMul + Add": (
            [node("MatMul", ["mean_0", "W"], ["x"]), node("Add", ["x", "b"], ["logits"])],
            {"W": W.T, "b": B},
        ),
        "Add + MatMul": (
            [node("MatMul", ["mean_0", "W"], ["x"]), node("Add", ["b", "x"], ["logits"])],
            {"W": W.T, "b": B},
        ),
        "MatMul": ([node("MatMul", ["mean_0", "W"], ["logits"])], {"W": W.T, "": zero}),
        "behind Identity and Reshape": (
            [
                node("Gemm", ["mean_0", "W", "b"], ["x"], transB=1),
                node("Identity", ["x"], ["y"]),
                node("Reshape", ["y", "shape"], ["logits"]),
            ],
            {"W": W, "b": B, "shape": np.array([-1, 4])},
        ),
        # What is no linear classifier on the mean of this layer.
        "scaled": (
            [node("Gemm", ["mean_0", "W", "b"], ["logits"], transB=1, alpha=2.0)],
            {"W": W, "b": B},
        ),
        "of another feature": (
            [
                node("Mul", ["mean_0", "mean_0"], ["x"]),
                node("Gemm", ["x", "W", "b"], ["logits"], transB=1),
            ],
            {"W": W, "b": B},
        ),
        "of the maximum": (
            [node("Gemm", ["peak_0", "W", "b"], ["logits"], transB=1)],
            {"W": W, "b": B},
        ),
        "tanh": (
            [
                node("Gemm", ["mean_0", "W", "b"], ["x"], transB=1),
                node("Tanh", ["x"], ["logits"]),
            ],
            {"W": W, "b": B},
        ),
        "of two layers": (
            [
                node("Gemm", ["mean_0", "W", "b"], ["x"], transB=1),
                node("Gemm", ["mean_0", "W", "b"], ["y"], transB=1),
                node("Add", ["x", "y"], ["logits"]),
            ],
            {"W": W, "b": B},
        ),
    }
    nodes, weights = forms[form]
    return nodes, {name: value for name, value in weights.items() if name}


def graph_with(form: str, path: Path, *, has_head: bool = True) -> Any:
    """cnn.onnx as a bundle has it, its feature map the pixels themselves."""
    nodes, weights = linear(form) if has_head else ([], {})
    before = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["map_0"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMax", ["map_0", "space"], ["peak_0"], keepdims=0),
        helper.make_node("ReduceMean", ["map_0", "space"], ["mean_0"], keepdims=0),
        # A second layer that feeds nothing, with as many channels.
        helper.make_node("Mul", ["map_0", "map_0"], ["map_1"]),
        helper.make_node("ReduceMean", ["map_1", "space"], ["mean_1"], keepdims=0),
    ]
    constants = {
        "scale": np.array(100, dtype=np.float32),
        "space": np.array([2, 3]),
        **weights,
    }
    outputs = [*(["logits"] if has_head else []), "map_0", "peak_0", "mean_0", "map_1", "mean_1"]
    graph = helper.make_graph(
        [*before, *nodes],
        "cnn",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 5, 5, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 20)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return open_session(path, device="cpu")


@pytest.mark.parametrize(
    "form",
    [
        "Gemm",
        "Gemm transB",
        "Gemm row bias",
        "Gemm no bias",
        "MatMul + Add",
        "Add + MatMul",
        "MatMul",
        "behind Identity and Reshape",
    ],
)
def test_a_linear_head_is_found_however_it_is_written(form: str, tmp_path: Path) -> None:
    path = tmp_path / "cnn.onnx"
    session = graph_with(form, path)
    head = find_head(path, session, 0)
    assert head is not None
    np.testing.assert_array_equal(head.W, W)
    assert head.b.shape == (4,)
    expected = B if "bias" not in form.replace("row bias", "") and form != "MatMul" else 0 * B
    np.testing.assert_array_equal(head.b, expected)
    assert find_head(path, session, 1) is None  # another layer, of the same width


@pytest.mark.parametrize(
    "form", ["scaled", "of another feature", "of the maximum", "tanh", "of two layers"]
)
def test_other_heads_are_none(form: str, tmp_path: Path) -> None:
    session = graph_with(form, tmp_path / "cnn.onnx")
    assert find_head(tmp_path / "cnn.onnx", session, 0) is None


def test_without_logits_there_is_no_head(tmp_path: Path) -> None:
    session = graph_with("Gemm", tmp_path / "cnn.onnx", has_head=False)
    assert find_head(tmp_path / "cnn.onnx", session, 0) is None


def features(n: int = 200, C: int = 30, *, relu: bool = True, seed: int = 1) -> LayerFeatures:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(C, C))
    images = 2 + rng.normal(size=(n, C)) @ mixing * 0.3
    if relu:
        images = np.maximum(images, 0)
    images = images.astype(np.float32)
    none = np.zeros((0, C), dtype=np.float32)
    return LayerFeatures(none, images, images.max(axis=0), float(images.min()))


@pytest.mark.parametrize("relu", [True, False])
def test_drawn_examples_are_what_the_head_calls_their_class(*, relu: bool) -> None:
    rng = np.random.default_rng(2)
    layer = features(relu=relu)
    W = rng.normal(size=(12, 30)).astype(np.float32)
    head = Head(W, -W @ layer.images[:].mean(axis=0))  # on the whole it prefers no class

    x, label = draw_examples(head, layer, 10, rng)

    assert x.shape == (120, 30)
    assert x.dtype == np.float32
    assert np.bincount(label).tolist() == [10] * 12
    called = (x @ head.W.T + head.b).argmax(axis=1)
    assert np.mean(called == label) > 0.8
    assert (x.min() >= 0) == relu


def test_regions_count_where_there_are_more_of_them() -> None:
    layer = features(20)
    layer.regions = 100 + features(300, seed=3).images[:]
    head = Head(np.eye(4, 30, dtype=np.float32), np.zeros(4))
    x, _ = draw_examples(head, layer, 50, np.random.default_rng(0))
    assert np.median(x) > 90


@pytest.mark.parametrize("n", [1, 15])
def test_few_images_are_too_few(n: int) -> None:
    head = Head(np.eye(4, 30, dtype=np.float32), np.zeros(4))
    with pytest.raises(DatasetError, match=f"at least 16 images.*found {n}") as caught:
        draw_examples(head, features(n), 2, np.random.default_rng(0))
    assert caught.value.field == "dataset"


def test_the_generator_decides() -> None:
    head = Head(np.eye(4, 30, dtype=np.float32), np.zeros(4))
    layer = features()
    one, same = (draw_examples(head, layer, 3, np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(one, same)
