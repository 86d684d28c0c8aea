from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from lavise.cnn_weights import set_weights_apart
from lavise.runtime import open_session

WEIGHTS: dict[str, np.ndarray] = {
    "W": np.arange(1200, dtype=np.float32).reshape(3, 400),
    "half": np.ones(800, dtype=np.float16),
    "scales": np.array([1, 2], dtype=np.float32),
    "to": np.array([400, 2], dtype=np.int64),
}


@pytest.fixture(params=[False, True], ids=["initializer", "constant"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """x·W enlarged twofold, plus one, reshaped; W in one of the two forms that exporters write."""
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["product"]),
        helper.make_node("Resize", ["product", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Cast", ["half"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["large", "ones"], ["sum"]),
        helper.make_node("Reshape", ["sum", "to"], ["y"]),
    ]
    arrays = [numpy_helper.from_array(value, name) for name, value in WEIGHTS.items()]
    if request.param:
        nodes.insert(0, helper.make_node("Constant", [], ["W"], value=arrays.pop(0)))
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        arrays,
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
    np.testing.assert_array_equal(after.ravel(), np.repeat(fed["x"][0] @ WEIGHTS["W"], 2) + 1)


def test_large_arrays_lie_apart(folder: Path) -> None:
    """What is small may be a size, which is read in the graph itself before anything runs."""
    set_weights_apart(folder)
    apart = load_file(folder / "cnn.safetensors")
    assert set(apart) == {"W", "half"}
    for name, array in apart.items():
        assert array.dtype == WEIGHTS[name].dtype
        np.testing.assert_array_equal(array, WEIGHTS[name])
    model = onnx.load(folder / "cnn.onnx", load_external_data=False)
    places = {one.name: one.data_location for one in model.graph.initializer}
    assert {name for name, place in places.items() if place == TensorProto.EXTERNAL} == set(apart)
