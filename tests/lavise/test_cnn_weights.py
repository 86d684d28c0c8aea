from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from lavise.cnn_weights import set_weights_apart
from lavise.runtime import open_session

WEIGHTS: dict[str, np.ndarray] = {
    "W": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.ones(4, dtype=np.float16),
    "scale": np.array(2, dtype=np.float32),
    "to": np.array([2, 2, 1], dtype=np.int64),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """x·W times two, plus one, reshaped."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["product"]),
        helper.make_node("Mul", ["product", "scale"], ["scaled"]),
        helper.make_node("Cast", ["half"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["scaled", "ones"], ["sum"]),
        helper.make_node("Reshape", ["sum", "to"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "cnn.onnx")
    return tmp_path


def test_the_graph_computes_the_same(folder: Path) -> None:
    fed = {"x": np.array([[1, 2, 3]], dtype=np.float32)}
    [before] = open_session(folder / "cnn.onnx", device="cpu").run(["y"], fed)
    set_weights_apart(folder)
    [after] = open_session(folder / "cnn.onnx", device="cpu").run(["y"], fed)
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(after.ravel(), fed["x"][0] @ WEIGHTS["W"] * 2 + 1)


def test_arrays_of_float32_lie_apart(folder: Path) -> None:
    set_weights_apart(folder)
    apart = load_file(folder / "cnn.safetensors")
    assert list(apart) == ["W"]
    np.testing.assert_array_equal(apart["W"], WEIGHTS["W"])
    model = onnx.load(folder / "cnn.onnx", load_external_data=False)
    outside = {
        one.name for one in model.graph.initializer if one.data_location == TensorProto.EXTERNAL
    }
    assert outside == {"W"}
