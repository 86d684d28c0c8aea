"""Sets the weights of an exported CNN apart: cnn.onnx without them, cnn.safetensors with them.

Every graph of a bundle that begins at images holds the CNN (lavise.joined_graph); its weights lie
on disk once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import onnx
from onnx import numpy_helper

from lavise.graph_model import external
from lavise.tensors import write_tensors

if TYPE_CHECKING:
    from pathlib import Path

_LEAST_BYTES: Final = 1024
"""Smaller arrays stay: to infer shapes, ONNX Runtime must read some in the graph itself."""
_KINDS: Final = frozenset("fiub")
"""Of numpy's types; what else ONNX knows, safetensors may not."""


def set_weights_apart(folder: Path) -> None:
    """Moves the large arrays of cnn.onnx to cnn.safetensors.

    Args:
        folder: Of the bundle.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    model = onnx.load(folder / "cnn.onnx")
    _lift_constants(model.graph)
    arrays = {}
    for one in model.graph.initializer:
        array = numpy_helper.to_array(one)
        if array.nbytes >= _LEAST_BYTES and array.dtype.kind in _KINDS:
            arrays[one.name] = array
    places = write_tensors(folder / "cnn.safetensors", arrays, dtype=None)
    for one in model.graph.initializer:
        if one.name in places:
            one.CopyFrom(external(one.name, places[one.name]))
    onnx.save(model, folder / "cnn.onnx")


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Weights that some exporters write as nodes."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensors = [one.t for one in node.attribute if one.name == "value"]
        if tensors and numpy_helper.to_array(tensors[0]).nbytes >= _LEAST_BYTES:
            lifted = graph.initializer.add()
            lifted.CopyFrom(tensors[0])
            lifted.name = node.output[0]
            graph.node.remove(node)
