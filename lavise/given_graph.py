"""A target CNN that is given as an ONNX graph: normalisation in front of it, taps behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from lavise.errors import SpecError, first_line
from lavise.graph_edit import rename_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lavise.cnn import TargetCnn

PROBABILITIES: Final = ("Softmax", "LogSoftmax")
"""What a head may end in; the logits are what goes in there."""
_OPSET: Final = 20
_OLDEST_OPSET: Final = 18
"""Since then reductions take their axes as an input."""


def export_given_graph(
    cnn: TargetCnn, names: Sequence[str], path: Path
) -> tuple[int, list[tuple[int, int, int]]]:
    """Writes cnn.onnx for a CNN that is a graph already.

    Args:
        cnn: From ``onnx:FILE``.
        names: Tensors to tap, at least one.
        path: Where cnn.onnx goes.

    Returns:
        The side of the input image, and (C, H, W) of each tapped tensor.

    Raises:
        SpecError: A tensor is unknown or is no feature map, or the graph is not what a CNN's is.
        OSError: The disk is full or the folder cannot be written.
    """
    assert cnn.onnx_file is not None  # noqa: S101 - the caller chose by it
    try:
        model = onnx.shape_inference.infer_shapes(_modern(cnn, onnx.load(cnn.onnx_file)))
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(
            f"CNN {cnn.spec!r} is no readable ONNX file: {first_line(error)}", field="cnn"
        ) from error
    given, size, channels_first = _images(cnn, model.graph)
    producer = {name: node for node in model.graph.node for name in node.output}
    _check_taps(cnn, model, names, producer)
    taps_first = [_channels_first(model, name, channels_first=channels_first) for name in names]
    head = _head_of(model.graph.output, producer)

    # Every value of the graph is given a prefix, so that ours cannot clash with theirs.
    rename_all(model.graph, "cnn/".__add__)
    before = _normalise(f"cnn/{given}", channels_first=channels_first)
    after = [helper.make_node("Identity", [f"cnn/{head}"], ["logits"])] if head else []
    for i, (name, first) in enumerate(zip(names, taps_first, strict=True)):
        after += _tap(f"cnn/{name}", i, channels_first=first)
    constants = [
        numpy_helper.from_array(np.array(cnn.mean, dtype=np.float32), "mean"),
        numpy_helper.from_array(np.array(cnn.std, dtype=np.float32), "std"),
        numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "space"),
    ]
    outputs = output_names(len(names), has_head=bool(head))
    whole = helper.make_graph(
        [*before, *model.graph.node, *after],
        "cnn",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [*model.graph.initializer, *constants],
        sparse_initializer=model.graph.sparse_initializer,
    )
    onnx.save(
        helper.make_model(
            whole,
            opset_imports=model.opset_import,
            ir_version=model.ir_version,
            functions=model.functions,
        ),
        path,
    )
    return size, _measure_shapes(cnn, path, names, size)


def _modern(cnn: TargetCnn, model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in an operator set that it can share with ours (lavise.joined_graph)."""
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), None)
    if opset is None or opset >= _OLDEST_OPSET:
        return model
    try:
        # The converter drops the bodies of local functions.
        inlined = onnx.inliner.inline_local_functions(model)
        return onnx.version_converter.convert_version(inlined, _OPSET)
    except Exception as error:
        reason = first_line(error).rpartition("failed: ")[2]  # before it, a line of its source
        raise SpecError(
            f"CNN {cnn.spec!r} is written in ONNX operator set {opset}, and cannot be converted to "
            f"{_OPSET} ({reason}); export it again in {_OLDEST_OPSET} or newer",
            field="cnn",
        ) from error


def _images(cnn: TargetCnn, graph: onnx.GraphProto) -> tuple[str, int, bool]:
    """The graph's input: its name, the side of an image, and whether it is (N, 3, H, W)."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in weights]
    if len(inputs) != 1:
        raise SpecError(
            f"CNN {cnn.spec!r} has {len(inputs)} inputs; accepted: one, the images", field="cnn"
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        raise SpecError(
            f"CNN {cnn.spec!r} takes {TensorProto.DataType.Name(kind)}; accepted: FLOAT, "
            "normalised pixels",
            field="cnn",
        )
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4 or 3 not in (dims[1], dims[3]):
        raise SpecError(
            f"CNN {cnn.spec!r} takes shape {dims}; accepted: (N, 3, H, W) or (N, H, W, 3)",
            field="cnn",
        )
    channels_first = dims[1] == 3
    height, width = dims[2:] if channels_first else dims[1:3]
    if height != width:
        raise SpecError(
            f"CNN {cnn.spec!r} takes images of {width} x {height} pixels; accepted: square ones",
            field="cnn",
        )
    return inputs[0].name, height or cnn.input_size, channels_first


def _check_taps(
    cnn: TargetCnn,
    model: onnx.ModelProto,
    names: Sequence[str],
    producer: Mapping[str, onnx.NodeProto],
) -> None:
    for name in names:
        if name not in producer:
            raise SpecError(f"no tensor {name!r}; {tensors_hint(cnn)}", field="tap")
        shape = _shape_of(model, name)
        if shape is not None and len(shape) != 4:
            raise SpecError(
                f"tensor {name!r} has {len(shape)} dimensions, not the 4 of a batch of feature "
                f"maps; {tensors_hint(cnn)}",
                field="tap",
            )


def tensors_hint(cnn: TargetCnn) -> str:
    """Names that a person may have meant, for an error.

    Args:
        cnn: From ``onnx:FILE``.

    Returns:
        The last tensors that look like feature maps.
    """
    assert cnn.onnx_file is not None  # noqa: S101 - the caller chose by it
    graph = onnx.load(cnn.onnx_file, load_external_data=False).graph
    names = [node.output[0] for node in graph.node if node.op_type in {"Relu", "Conv", "Clip"}]
    return f"tensors of {cnn.spec}: {', '.join(names[-8:])}"


def output_names(n_layers: int, *, has_head: bool) -> list[str]:
    """The outputs of cnn.onnx, in order.

    Args:
        n_layers: Tapped layers.
        has_head: Whether the CNN has one.

    Returns:
        Names.
    """
    names = ["logits"] if has_head else []
    for i in range(n_layers):
        names += [f"map_{i}", f"peak_{i}", f"mean_{i}"]
    return names


def _normalise(target: str, *, channels_first: bool) -> list[onnx.NodeProto]:
    """From uint8 images (B, S, S, 3) to what the graph takes."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
    ]
    if not channels_first:
        return [*nodes, helper.make_node("Div", ["centred", "std"], [target])]
    return [
        *nodes,
        helper.make_node("Div", ["centred", "std"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], [target], perm=[0, 3, 1, 2]),
    ]


def _tap(tensor: str, position: int, *, channels_first: bool) -> list[onnx.NodeProto]:
    """From a tensor of the graph to the outputs of a tapped layer."""
    inputs = [f"map_{position}", "space"]
    kind = "Identity" if channels_first else "Transpose"
    options: dict[str, Any] = {} if channels_first else {"perm": [0, 3, 1, 2]}
    return [
        helper.make_node(kind, [tensor], [f"map_{position}"], **options),
        helper.make_node("ReduceMax", inputs, [f"peak_{position}"], keepdims=0),
        helper.make_node("ReduceMean", inputs, [f"mean_{position}"], keepdims=0),
    ]


def _head_of(outputs: Sequence[onnx.ValueInfoProto], producer: Mapping[str, onnx.NodeProto]) -> str:
    """The tensor with the logits: the first output of two dimensions; empty where there is none."""
    for output in outputs:
        if len(output.type.tensor_type.shape.dim) == 2 and output.name in producer:
            node = producer[output.name]
            return node.input[0] if node.op_type in PROBABILITIES else output.name
    return ""


def _shape_of(model: onnx.ModelProto, name: str) -> list[int] | None:
    """A tensor's dimensions, 0 where they are open; None where not even their number is known."""
    for value in [*model.graph.value_info, *model.graph.output]:
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return [d.dim_value for d in value.type.tensor_type.shape.dim]
    return None


def _channels_first(model: onnx.ModelProto, name: str, *, channels_first: bool) -> bool:
    """Whether a tensor is (N, C, H, W): by its shape where H = W tells, else as the input is."""
    dims = _shape_of(model, name) or []
    if len(dims) == 4 and dims[2] == dims[3] != dims[1]:
        return True
    if len(dims) == 4 and dims[1] == dims[2] != dims[3]:
        return False
    return channels_first


def _measure_shapes(
    cnn: TargetCnn, path: Path, names: Sequence[str], size: int
) -> list[tuple[int, int, int]]:
    from lavise.runtime import open_session

    example = np.zeros((2, size, size, 3), dtype=np.uint8)
    try:
        session = open_session(path, device="cpu")
        maps = session.run([f"map_{i}" for i in range(len(names))], {"images": example})
    except Exception as error:
        raise SpecError(
            f"CNN {cnn.spec!r} does not run on a batch of two images "
            f"({first_line(error)}); export it with a dynamic batch dimension",
            field="cnn",
        ) from error
    for name, feature_map in zip(names, maps, strict=True):
        if feature_map.ndim != 4 or feature_map.shape[0] != 2:
            raise SpecError(
                f"tensor {name!r} has shape {feature_map.shape}, not a feature map of the batch; "
                f"{tensors_hint(cnn)}",
                field="tap",
            )
    return [tuple(m.shape[1:]) for m in maps]
