"""Where a training stands, on disk: a killed one goes on from there to the same mapper.

The file is torch's format, read with ``weights_only``: tensors, numbers and lists, and no code. It
is written under another name and renamed.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from lavise.errors import EnvironmentProblem
from lavise.teach.whole_files import whole_file

if TYPE_CHECKING:
    from pathlib import Path

EVERY_S: Final = 30.0


@dataclass
class Checkpoint:
    """The place of one training's checkpoint.

    Attributes:
        file: Its name holds a digest of all that the training depends on.
        every_s: Seconds between two of them, within an epoch; one is written after each epoch too.
    """

    file: Path
    every_s: float = EVERY_S
    _last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, state: dict[str, Any]) -> None:
        """Writes where the training stands; a kill at any moment leaves the old one or this one.

        Args:
            state: Tensors, numbers, texts, and lists and dicts of them.

        Raises:
            EnvironmentProblem: The disk is full or the folder cannot be written.
        """
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.file) as stream:
                torch.save(state, stream)
        except (OSError, RuntimeError) as error:  # RuntimeError is how torch reports a full disk
            raise EnvironmentProblem(
                f"checkpoint {str(self.file)!r} could not be written: {error}; free some space, or "
                "name another folder",
                field="cache",
            ) from error
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Reads where the training stood.

        Returns:
            What save() was given; None where there is no checkpoint, or one that cannot be read.
        """
        if not self.file.is_file():
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pickle protocols, in a damaged file
                found = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception:  # noqa: BLE001 - a damaged file makes torch stumble in any way
            return None
        return found if isinstance(found, dict) else None
