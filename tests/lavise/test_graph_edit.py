"""A graph whose branch takes names from around it, and one weight of which is sparse."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lavise.graph_edit import keep_only, rename_all
from lavise.runtime import import_onnxruntime

X = np.array([1, 2, 3], dtype=np.float32)


def branching() -> onnx.ModelProto:
    """y = x·2 + 5 where x sums to more than 0, else x; z = x + [0, 7, 0]; unused = -x."""
    info = helper.make_tensor_value_info
    then = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "two"], ["twice"]),
            helper.make_node("Add", ["twice", "five"], ["more"]),
        ],
        "then",
        [],
        [info("more", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(5, dtype=np.float32), "five")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["as_is"])],
        "else",
        [],
        [info("as_is", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["x", "rare"], ["z"]),
        helper.make_node("Neg", ["x"], ["unused"]),
    ]
    weights = {
        "two": np.array(2, dtype=np.float32),
        "zero": np.array(0, dtype=np.float32),
        "idle": np.array(1, dtype=np.float32),
    }
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([7], dtype=np.float32), "rare"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "rare_at"),
        [3],
    )
    graph = helper.make_graph(
        nodes,
        "branching",
        [info("x", TensorProto.FLOAT, [3])],
        [info(name, TensorProto.FLOAT, None) for name in ("y", "z", "unused")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
        sparse_initializer=[sparse],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    session = import_onnxruntime().InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in session.get_outputs()]
    fed = {one.name: x for one in session.get_inputs()}
    return dict(zip(names, session.run(names, fed), strict=True))


@pytest.mark.parametrize("sign", [1, -1])
def test_names_are_new_everywhere(sign: int) -> None:
    model = branching()
    before = run(model, sign * X)
    rename_all(model.graph, "of/".__add__)
    after = run(model, sign * X)
    assert set(after) == {"of/y", "of/z", "of/unused"}
    for name, value in before.items():
        np.testing.assert_array_equal(after[f"of/{name}"], value)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("kept", "weights", "sparse"),
    [("y", {"two", "zero"}, 0), ("z", set(), 1), ("unused", set(), 0)],
)
def test_what_is_needed_stays(kept: str, weights: set[str], sparse: int, sign: int) -> None:
    model = branching()
    before = run(model, sign * X)
    keep_only(model.graph, {kept})
    assert {one.name for one in model.graph.initializer} == weights
    assert len(model.graph.sparse_initializer) == sparse
    after = run(model, sign * X)
    assert set(after) == {kept}
    np.testing.assert_array_equal(after[kept], before[kept])
