"""From a graph's text to a model whose weights lie in safetensors files beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper, numpy_helper, parser

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from lavise.tensors import Location


def finished(
    text: str, constants: Mapping[str, np.ndarray], weights: Mapping[str, Location]
) -> onnx.ModelProto:
    """A graph's text with the constants and weights that its nodes name.

    Args:
        text: In ONNX's text form.
        constants: By name; those that no node reads are left out.
        weights: Where each weight lies; likewise.

    Returns:
        The model.
    """
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name, value in constants.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    for name, place in weights.items():
        if name in used:
            model.graph.initializer.append(external(name, place))
    return model


def external(name: str, place: Location) -> onnx.TensorProto:
    """An initializer whose bytes lie in a safetensors file beside the graph.

    Args:
        name: Of the initializer.
        place: Where the bytes lie.
    """
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(place.dtype),
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (
        ("location", place.file),
        ("offset", str(place.offset)),
        ("length", str(place.length)),
    ):
        tensor.external_data.add(key=key, value=value)
    return tensor
