"""Images to upload, at a pace that leaves time for something to go wrong."""

import io
import threading
import time
from collections.abc import Sequence
from typing import TypeAlias, overload

from tests.tiny_cnn import COLOURS, picture

Picture: TypeAlias = tuple[str, bytes]


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(list(COLOURS.values())[seed % len(COLOURS)], seed).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES: list[Picture] = [(f"{i:03}.png", png(i)) for i in range(300)]


class Slowly(Sequence[Picture]):
    """Images that are sent one every few milliseconds, the last one when it may.

    Attributes:
        furthest: Index of the last one that was asked for.
        may_end: Set it to let the last one go.
    """

    def __init__(self, images: Sequence[Picture]) -> None:
        self._images = images
        self.furthest = 0
        self.may_end = threading.Event()

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | Sequence[Picture]:
        assert isinstance(index, int)
        time.sleep(0.003)
        if index == len(self) - 1:
            self.may_end.wait(30)
        self.furthest = max(self.furthest, index)
        return self._images[index]
