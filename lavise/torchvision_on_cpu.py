"""Imports torchvision beside a CPU build of torch.

torchvision's wheel is a CUDA build. Beside a CPU torch its compiled operators do not load, and
``import torchvision`` then fails on two of them that it registers meta kernels for. Declaring
these two lets the rest (models, transforms, feature extraction) work; calling them still fails.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def import_torchvision() -> ModuleType:
    """Imports torchvision, declaring the missing operators only when the import fails so.

    Returns:
        The torchvision package, its ``models`` imported.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: It fails for another reason.
    """
    import torch

    try:
        return importlib.import_module("torchvision.models") and importlib.import_module(
            "torchvision"
        )
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
    for name, schema in _SCHEMAS.items():
        torch.library.define(name, schema)
    importlib.import_module("torchvision.models")
    return importlib.import_module("torchvision")
