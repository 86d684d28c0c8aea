"""Exports a target CNN to the one graph that a bundle serves: cnn.onnx.

uint8 images (B, S, S, 3) go in, so that a quarter of the bytes travel to the device, and pixels
are normalised there. For the i-th tapped layer come out ``map_i`` (B, C, H, W), and per filter
``peak_i`` and ``mean_i`` (B, C), its max and mean over space; ``logits`` (B, K) where the CNN has
a head.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lavise.errors import SpecError
from lavise.manifest import CnnEntry, LayerEntry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch

    from lavise.cnn import TargetCnn


def export_cnn(cnn: TargetCnn, layers: Sequence[str], path: Path) -> CnnEntry:
    """Exports a CNN with its tapped layers.

    Args:
        cnn: From load_cnn.
        layers: Module names (torch) or tensor names (``onnx:``), at least one; empty takes the
            CNN's default layer.
        path: Where cnn.onnx goes.

    Returns:
        What was exported, for the manifest.

    Raises:
        SpecError: A layer is unknown or is no feature map, or the CNN cannot be exported.
        OSError: The disk is full or the folder cannot be written.
    """
    names = list(dict.fromkeys(layers)) or [cnn.default_layer]
    if not names[0]:
        raise SpecError(f"name the layer to explain; {_layers_hint(cnn)}", field="layer")
    if cnn.module is not None:
        shapes = _export_torch(cnn, names, path)
        size = cnn.input_size
    else:
        size, shapes = _export_onnx(cnn, names, path)
    return CnnEntry(
        spec=cnn.spec,
        input_size=size,
        mean=cnn.mean,
        std=cnn.std,
        class_names=cnn.class_names,
        layers=tuple(
            LayerEntry(name=name, channels=c, height=h, width=w)
            for name, (c, h, w) in zip(names, shapes, strict=True)
        ),
    )


def _layers_hint(cnn: TargetCnn) -> str:
    if cnn.module is not None:
        names = [name for name, _ in cnn.module.named_modules() if name.count(".") < 2 and name]
        return f"layers of {cnn.spec}: {', '.join(names[-12:])}"
    assert cnn.onnx_file is not None  # noqa: S101 - one of the two is set
    graph = onnx.load(cnn.onnx_file, load_external_data=False).graph
    names = [node.output[0] for node in graph.node if node.op_type in {"Relu", "Conv", "Clip"}]
    return f"tensors of {cnn.spec}: {', '.join(names[-8:])}"


def _export_torch(cnn: TargetCnn, names: Sequence[str], path: Path) -> list[tuple[int, int, int]]:
    import torch

    module = cnn.module
    assert module is not None  # noqa: S101 - the caller chose by it
    known = dict(module.named_modules())
    for name in names:
        if name not in known:
            raise SpecError(f"no layer {name!r}; {_layers_hint(cnn)}", field="layer")
    tapped = _tapped(module, names, cnn)
    example = torch.zeros(2, cnn.input_size, cnn.input_size, 3, dtype=torch.uint8)
    with torch.no_grad():
        outputs = tapped(example)
    has_head = len(outputs) % 3 == 1
    maps = outputs[has_head::3]
    for name, feature_map in zip(names, maps, strict=True):
        if feature_map.ndim != 4:
            raise SpecError(
                f"layer {name!r} gives shape {tuple(feature_map.shape[1:])}, not a feature map "
                f"(C, H, W); {_layers_hint(cnn)}",
                field="layer",
            )
    batch = torch.export.Dim("batch", min=1, max=4096)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            program = torch.onnx.export(
                tapped,
                (example,),
                dynamo=True,
                verbose=False,
                dynamic_shapes=({0: batch},),
                input_names=["images"],
                output_names=_output_names(len(names), has_head=has_head),
                opset_version=20,
            )
    except Exception as error:
        raise SpecError(
            f"CNN {cnn.spec!r} cannot be exported to ONNX: {str(error).splitlines()[0]}",
            field="cnn",
        ) from error
    finally:
        quiet.setLevel(level)
    assert program is not None  # noqa: S101 - dynamo=True always returns the program
    onnx.save(program.model_proto, path)
    return [(int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in maps]


def _output_names(n_layers: int, *, has_head: bool) -> list[str]:
    names = ["logits"] if has_head else []
    for i in range(n_layers):
        names += [f"map_{i}", f"peak_{i}", f"mean_{i}"]
    return names


def _tapped(module: torch.nn.Module, names: Sequence[str], cnn: TargetCnn) -> torch.nn.Module:
    """The CNN with pixels normalised inside and its tapped layers among its outputs."""
    import torch

    class Tapped(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.cnn = module
            self.maps: dict[str, torch.Tensor] = {}
            self.register_buffer("mean", torch.tensor(cnn.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(cnn.std).view(1, 3, 1, 1))
            for name in names:
                module.get_submodule(name).register_forward_hook(self._keep(name))

        def _keep(self, name: str) -> Any:  # noqa: ANN401 - torch's hook type is private
            def hook(_module: object, _inputs: object, output: torch.Tensor) -> None:
                self.maps[name] = output

            return hook

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pixels = images.permute(0, 3, 1, 2).float()
            answer = self.cnn((pixels - self.mean) / self.std)
            is_head = torch.is_tensor(answer) and answer.ndim == 2
            outputs = [answer] if is_head else []
            for name in names:
                feature_map = self.maps[name]
                if feature_map.ndim != 4:
                    outputs += [feature_map, feature_map, feature_map]
                    continue
                outputs += [feature_map, feature_map.amax((2, 3)), feature_map.mean((2, 3))]
            return tuple(outputs)

    return Tapped().eval()


def _export_onnx(
    cnn: TargetCnn, names: Sequence[str], path: Path
) -> tuple[int, list[tuple[int, int, int]]]:
    """Puts normalisation in front of a given graph, and taps behind it."""
    assert cnn.onnx_file is not None  # noqa: S101 - the caller chose by it
    try:
        model = onnx.shape_inference.infer_shapes(onnx.load(cnn.onnx_file))
    except Exception as error:
        raise SpecError(
            f"CNN {cnn.spec!r} is no readable ONNX file: {str(error).splitlines()[0]}", field="cnn"
        ) from error
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in weights]
    if len(inputs) != 1:
        raise SpecError(
            f"CNN {cnn.spec!r} has {len(inputs)} inputs; accepted: one, the images", field="cnn"
        )
    dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
    if len(dims) != 4 or 3 not in (dims[1], dims[3]):
        raise SpecError(
            f"CNN {cnn.spec!r} takes shape {dims}; accepted: (N, 3, H, W) or (N, H, W, 3)",
            field="cnn",
        )
    channels_first = dims[1] == 3
    size = (dims[2] if channels_first else dims[1]) or cnn.input_size
    known = {name for node in graph.node for name in node.output}
    for name in names:
        if name not in known:
            raise SpecError(f"no tensor {name!r}; {_layers_hint(cnn)}", field="tap")
    two_dimensional = [
        o for o in graph.output if len(o.type.tensor_type.shape.dim) == 2 and o.name not in names
    ]
    taps_first = [_channels_first(model, name, channels_first=channels_first) for name in names]

    # Every value of the graph is given a prefix, so that ours cannot clash with theirs.
    model = onnx.compose.add_prefix(model, "cnn/")
    graph = model.graph
    opset = next(o.version for o in model.opset_import if not o.domain)
    before = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["pixels", "mean"], ["centred"]),
    ]
    target = f"cnn/{inputs[0].name}"
    if channels_first:
        before.append(helper.make_node("Div", ["centred", "std"], ["scaled"]))
        before.append(helper.make_node("Transpose", ["scaled"], [target], perm=[0, 3, 1, 2]))
    else:
        before.append(helper.make_node("Div", ["centred", "std"], [target]))
    after = [
        helper.make_node("Identity", [f"cnn/{o.name}"], ["logits"]) for o in two_dimensional[:1]
    ]
    axes_as_input = opset >= 18
    reduce_axes: dict[str, Any] = {} if axes_as_input else {"axes": [2, 3]}
    more = ["space"] if axes_as_input else []
    for i, (name, first) in enumerate(zip(names, taps_first, strict=True)):
        kind = "Identity" if first else "Transpose"
        options: dict[str, Any] = {} if first else {"perm": [0, 3, 1, 2]}
        after.append(helper.make_node(kind, [f"cnn/{name}"], [f"map_{i}"], **options))
        for op, out in (("ReduceMax", f"peak_{i}"), ("ReduceMean", f"mean_{i}")):
            after.append(
                helper.make_node(op, [f"map_{i}", *more], [out], keepdims=0, **reduce_axes)
            )
    constants = [
        numpy_helper.from_array(np.array(cnn.mean, dtype=np.float32), "mean"),
        numpy_helper.from_array(np.array(cnn.std, dtype=np.float32), "std"),
        numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "space"),
    ]
    outputs = _output_names(len(names), has_head=bool(two_dimensional))
    whole = helper.make_graph(
        [*before, *graph.node, *after],
        "cnn",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", size, size, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [*graph.initializer, *constants],
    )
    onnx.save(
        helper.make_model(whole, opset_imports=model.opset_import, ir_version=model.ir_version),
        path,
    )
    return size, _measure_shapes(cnn, path, names, size)


def _channels_first(model: onnx.ModelProto, name: str, *, channels_first: bool) -> bool:
    """Whether a tensor is (N, C, H, W): by its shape where H = W tells, else as the input is."""
    for value in [*model.graph.value_info, *model.graph.output]:
        if value.name == name:
            dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
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
            f"({str(error).splitlines()[0]}); export it with a dynamic batch dimension",
            field="cnn",
        ) from error
    for name, feature_map in zip(names, maps, strict=True):
        if feature_map.ndim != 4 or feature_map.shape[0] != 2:
            raise SpecError(
                f"tensor {name!r} has shape {feature_map.shape}, not a feature map of the batch; "
                f"{_layers_hint(cnn)}",
                field="tap",
            )
    return [tuple(m.shape[1:]) for m in maps]
