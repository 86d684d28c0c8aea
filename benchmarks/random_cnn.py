"""ResNet-18 without its weights: what filters look like that have learned nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import torch

from lavise.torchvision_on_cpu import import_torchvision

if TYPE_CHECKING:
    from collections.abc import Callable

LAYER: Final = "layer4"


def _network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    network: torch.nn.Module = import_torchvision().models.resnet18(weights=None)
    return network


seed_0: Callable[[], torch.nn.Module] = partial(_network, 0)
seed_1: Callable[[], torch.nn.Module] = partial(_network, 1)
seed_2: Callable[[], torch.nn.Module] = partial(_network, 2)
