"""What an archive may hold: its names, its sizes, and which entries are images."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Self

from lavise.errors import RequestError
from lavise.images import SUFFIXES
from lavise_service.companion.settings import Settings

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_LONGEST_NAME: Final = 1000
# Beside images an archive has folders, notes, and on a Mac one more file for each image.
_ENTRIES_PER_IMAGE: Final = 3
_OTHER_ENTRIES: Final = 1000


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may cost.

    Args:
        max_archive_bytes: As it is sent.
        max_ratio: How many times its size it may unpack to.
        max_image_bytes: Of an image; an image of more is passed on cut short, one byte longer
            than this, so that it is rejected and the others are not.
        max_images: Images in it.
    """

    max_archive_bytes: int
    max_ratio: int
    max_image_bytes: int
    max_images: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The limits that the settings name."""
        return cls(
            settings.max_archive_bytes,
            settings.max_archive_ratio,
            settings.max_image_bytes,
            settings.max_images_per_set,
        )

    @property
    def max_entries(self) -> int:
        """Entries of any kind."""
        return _ENTRIES_PER_IMAGE * self.max_images + _OTHER_ENTRIES


class Tally:
    """Counts what an archive holds, and refuses it when that is too much.

    Args:
        limits: What it may cost.
        n_bytes: Its size.
    """

    def __init__(self, limits: ArchiveLimits, n_bytes: int) -> None:
        self._limits = limits
        # A small archive may hold one image whatever the ratio: a blank page packs well.
        self._most_bytes = max(limits.max_ratio * n_bytes, limits.max_image_bytes)
        self._bytes = self._entries = self._images = 0

    def entry(self, name: str) -> None:
        """Counts an entry."""
        self._entries += 1
        if self._entries > self._limits.max_entries:
            raise refused(name, f"the archive has more than {self._limits.max_entries:,} entries")

    def image(self, name: str) -> None:
        """Counts an image."""
        self._images += 1
        if self._images > self._limits.max_images:
            raise refused(
                name,
                f"the archive has more than {self._limits.max_images:,} images; send several, or "
                "allow more by LAVISE_MAX_IMAGES_PER_SET",
            )

    def unpacked(self, name: str, n_bytes: int) -> None:
        """Counts bytes that come out of it."""
        self._bytes += n_bytes
        if self._bytes > self._most_bytes:
            raise refused(
                name,
                f"the archive unpacks to more than {self._limits.max_ratio} times its size, as "
                "only a zip bomb does; LAVISE_MAX_ARCHIVE_RATIO can allow more",
            )


def checked_name(name: str) -> str:
    """The name of an entry, without ``./``.

    Args:
        name: As the archive has it.

    Returns:
        A relative path with ``/``, as text that UTF-8 can carry; empty for the root folder.

    Raises:
        RequestError: It leads out of the folder that it would be unpacked into, or is no name.
    """
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    path = PurePosixPath(shown)
    trouble = (
        ("it is absolute" if shown.startswith("/") or _DRIVE.match(shown) else "")
        or ("it has a backslash" if "\\" in shown else "")
        or ("it has '..'" if ".." in path.parts else "")
        or ("it has control characters" if any(ord(c) < 32 or ord(c) == 127 for c in shown) else "")
        or ("it is too long" if len(shown) > _LONGEST_NAME else "")
    )
    if trouble:
        raise refused(shown, f"{trouble}; accepted: relative names with '/', such as cats/1.jpg")
    return "" if path == PurePosixPath() else str(path)


def is_image(name: str) -> bool:
    """Whether an entry is taken as an image: by its suffix, hidden files and folders left out."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not hidden and path.suffix.lower() in SUFFIXES


def refused(name: str, trouble: str) -> RequestError:
    """An archive that is refused because of one of its entries."""
    return RequestError(
        f"{name[:200]!r} in the archive is not accepted: {trouble}", field="archive"
    )


def damaged(trouble: str) -> RequestError:
    """An archive that cannot be read to its end."""
    return RequestError(
        f"the archive is damaged or was cut short: {trouble}; pack it again and send it again",
        field="archive",
    )
