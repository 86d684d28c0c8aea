"""Sets the weights of an exported CNN apart: cnn.onnx without them, cnn.safetensors with them.

Every graph of a bundle that begins at images holds the CNN (lavise.joined_graph); its weights lie
on disk once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, numpy_helper

from lavise.graph_model import external
from lavise.tensors import write_tensors

if TYPE_CHECKING:
    from pathlib import Path


def set_weights_apart(folder: Path) -> None:
    """Moves the float32 arrays of cnn.onnx to cnn.safetensors.

    Args:
        folder: Of the bundle.

    Raises:
        OSError: The disk is full or the folder cannot be written.
    """
    model = onnx.load(folder / "cnn.onnx")
    weights = [one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT]
    arrays = {one.name: numpy_helper.to_array(one) for one in weights}
    # What has no value has no place in a file, and a number alone may be the size of something.
    arrays = {name: array for name, array in arrays.items() if array.size and array.ndim}
    places = write_tensors(folder / "cnn.safetensors", arrays)
    for one in weights:
        if one.name in places:
            one.CopyFrom(external(one.name, places[one.name]))
    onnx.save(model, folder / "cnn.onnx")
