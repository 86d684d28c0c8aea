"""The parts of an image set while it is uploaded: what their names say, and which of them count.

A part is a Parquet file of the images FIRST to END - 1, and its name says all that a listing needs:
the upload that it belongs to, FIRST, END, and how many of the images were rejected. So the parts
themselves are the state of an upload, and no second file can disagree with them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

FOLDER: Final = "parts"
_NAME: Final = re.compile(r"([0-9a-f]{16})-(\d{9})-(\d{9})-(\d{9})\.parquet")


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        upload: The upload that wrote it.
        first: The index of its first image.
        end: One more than the index of its last image.
        rejected: How many of them could not be read.
    """

    upload: str
    first: int
    end: int
    rejected: int

    @property
    def file(self) -> str:
        """The name of its file, in the folder of the parts."""
        return f"{self.upload}-{self.first:09d}-{self.end:09d}-{self.rejected:09d}.parquet"

    @classmethod
    def of(cls, file: str) -> Self | None:
        """The part that a file's name tells of; None where it is no part's."""
        match = _NAME.fullmatch(file)
        return match and cls(match[1], *map(int, match.groups()[1:]))


def chain(parts: Iterable[Part]) -> list[tuple[Part, int]]:
    """The parts that follow each other from image 0, and where each begins to count.

    Two senders of one set may write parts that overlap. Each image counts once, from the part
    that reaches furthest; what lies beyond a gap does not count.

    Args:
        parts: Of one upload, in any order.

    Returns:
        (part, first index that counts) in order; the end of the last part is where an upload
        resumes.
    """
    found: list[tuple[Part, int]] = []
    position, best = 0, None
    waiting = sorted(parts, key=lambda part: (part.first, part.end), reverse=True)
    while True:
        while waiting and waiting[-1].first <= position:
            part = waiting.pop()
            best = part if best is None or part.end > best.end else best
        if best is None or best.end <= position:
            return found
        found.append((best, position))
        position = best.end
