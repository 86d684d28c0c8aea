"""EfficientNet-Lite0 with its layers under names that can be tapped.

The packaged network applies ReLU6 through one module that every block shares, so its last
feature map has no name of its own; here it is ``features``, and the blocks are ``blocks.0`` to
``blocks.15``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from efficientnet_lite_pytorch import EfficientNet

if TYPE_CHECKING:
    from pathlib import Path


class EfficientNetLite0(torch.nn.Module):
    """EfficientNet-Lite0 (https://github.com/tensorflow/tpu, efficientnet/lite).

    Args:
        weights: State dict file of the packaged ImageNet weights.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        packaged = EfficientNet.from_name("efficientnet-lite0")
        packaged.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.stem = torch.nn.Sequential(packaged._conv_stem, packaged._bn0, torch.nn.ReLU6())  # noqa: SLF001 - its parts have no public names
        self.blocks = packaged._blocks  # noqa: SLF001
        self.features = torch.nn.Sequential(packaged._conv_head, packaged._bn1, torch.nn.ReLU6())  # noqa: SLF001
        self.classifier = packaged._fc  # noqa: SLF001

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classifies.

        Args:
            images: (B, 3, 224, 224), normalised.

        Returns:
            Logits (B, 1000).
        """
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits
