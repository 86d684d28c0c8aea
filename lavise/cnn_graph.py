"""Exports a target CNN to one graph: cnn.onnx, which those that answer begin with.

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

import onnx

from lavise.errors import SpecError, first_line
from lavise.given_graph import PROBABILITIES, export_given_graph, output_names, tensors_hint
from lavise.manifest import CnnEntry, LayerEntry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import torch
    from torch.utils.hooks import RemovableHandle

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
        size, shapes = export_given_graph(cnn, names, path)
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
    if cnn.module is None:
        return tensors_hint(cnn)
    names = [name for name, _ in cnn.module.named_modules() if name.count(".") < 2 and name]
    return f"layers of {cnn.spec}: {', '.join(names[-12:])}"


def _export_torch(cnn: TargetCnn, names: Sequence[str], path: Path) -> list[tuple[int, int, int]]:
    module = cnn.module
    assert module is not None  # noqa: S101 - the caller chose by it
    known = dict(module.named_modules())
    for name in names:
        if name not in known:
            raise SpecError(f"no layer {name!r}; {_layers_hint(cnn)}", field="layer")
    tapped, hooks = _tapped(module, names, cnn)
    try:
        model, maps = _export_tapped(tapped, names, cnn)
    finally:
        for hook in hooks:
            hook.remove()
    onnx.save(model, path)
    return [(int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in maps]


def _export_tapped(
    tapped: torch.nn.Module, names: Sequence[str], cnn: TargetCnn
) -> tuple[onnx.ModelProto, Sequence[torch.Tensor]]:
    """The graph, and an example of each tapped layer's feature map."""
    import torch

    example = torch.zeros(2, cnn.input_size, cnn.input_size, 3, dtype=torch.uint8)
    try:
        with torch.no_grad():
            outputs = tapped(example)
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(
            f"CNN {cnn.spec!r} does not run on images of {cnn.input_size} x {cnn.input_size} "
            f"pixels ({first_line(error)}); give the size that it takes",
            field="cnn",
        ) from error
    has_head = len(outputs) % 3 == 1
    maps = outputs[has_head::3]
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
                output_names=output_names(len(names), has_head=has_head),
                opset_version=20,
            )
    except Exception as error:
        raise SpecError(
            f"CNN {cnn.spec!r} cannot be exported to ONNX: {first_line(error.__cause__ or error)}",
            field="cnn",
        ) from error
    finally:
        quiet.setLevel(level)
    assert program is not None  # noqa: S101 - dynamo=True always returns the program
    model = program.model_proto
    for node in model.graph.node:
        if node.op_type in PROBABILITIES and "logits" in node.output:
            node.op_type = "Identity"
            del node.attribute[:]
    return model, maps


def _tapped(
    module: torch.nn.Module, names: Sequence[str], cnn: TargetCnn
) -> tuple[torch.nn.Module, list[RemovableHandle]]:
    """The CNN with pixels normalised inside and its tapped layers among its outputs.

    Its hooks on the CNN are to be removed when it has served.
    """
    import torch

    hooks: list[RemovableHandle] = []

    class Tapped(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.cnn = module
            self.maps: dict[str, torch.Tensor] = {}
            self.register_buffer("mean", torch.tensor(cnn.mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(cnn.std).view(1, 3, 1, 1))
            hooks.extend(
                module.get_submodule(name).register_forward_hook(self._keep(name)) for name in names
            )

        def _keep(self, name: str) -> Any:  # noqa: ANN401 - torch's hook type is private
            def hook(_module: object, _inputs: object, output: object) -> None:
                if not torch.is_tensor(output) or output.ndim != 4:
                    what = tuple(output.shape[1:]) if torch.is_tensor(output) else type(output)
                    raise SpecError(
                        f"layer {name!r} gives {what}, not a feature map (C, H, W); "
                        f"{_layers_hint(cnn)}",
                        field="layer",
                    )
                # A copy: what follows may work in place, as a residual block's addition does.
                self.maps[name] = output.clone()

            return hook

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pixels = images.permute(0, 3, 1, 2).float()
            answer = self.cnn((pixels - self.mean) / self.std)
            is_head = torch.is_tensor(answer) and answer.ndim == 2
            outputs = [answer] if is_head else []
            for name in names:
                if name not in self.maps:
                    raise SpecError(
                        f"layer {name!r} takes no part in what the CNN computes; "
                        f"{_layers_hint(cnn)}",
                        field="layer",
                    )
                feature_map = self.maps[name]
                outputs += [feature_map, feature_map.amax((2, 3)), feature_map.mean((2, 3))]
            return tuple(outputs)

    return Tapped().eval(), hooks
