"""Images of a zip, by its table of contents, each byte of it read at most once."""

import lzma
import stat
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final

from lavise.errors import RequestError, first_line
from lavise_service.companion.archive_entries import (
    ArchiveLimits,
    Tally,
    checked_name,
    damaged,
    is_image,
    refused,
)

_LOCAL_HEADER: Final = 30  # bytes, before the name
# Of the table of contents, for each entry; zipfile reads it at once and makes objects of it.
_TABLE_BYTES_PER_ENTRY: Final = 100
_ENCRYPTED: Final = 0x1 | 0x40
_METHODS: Final = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    ValueError,
    OverflowError,
)


class _Bounded:
    """A file that refuses to return more than a bound at once, until that is lifted."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file = file
        self.most: int | None = most

    def read(self, n: int = -1) -> bytes:
        if self.most is None:
            return self._file.read(n)
        data = self._file.read(self.most + 1 if n < 0 else min(n, self.most + 1))
        if len(data) > self.most:
            raise damaged(f"its table of contents has more than {self.most:,} bytes")
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - seek, tell and the like
        return getattr(self._file, name)


def zip_images(
    file: IO[bytes], n_bytes: int, limits: ArchiveLimits, skipped: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each image, in the order of the table of contents.

    Nothing is yielded before all entries are checked.

    Args:
        file: The archive, seekable.
        n_bytes: Its size.
        limits: What it may cost.
        skipped: Gets the names of files that are no images.

    Raises:
        RequestError: The archive is damaged, hostile or too large.
    """
    name = ""
    try:
        most = max(limits.max_entries * _TABLE_BYTES_PER_ENTRY, 2**17)
        bounded = _Bounded(file, most)
        with zipfile.ZipFile(bounded) as archive:
            bounded.most = None
            for name, info in _checked(archive, n_bytes, limits, skipped):
                with archive.open(info) as entry:
                    content = entry.read(limits.max_image_bytes + 1)
                yield name, content
    except RequestError:
        raise
    except _UNREADABLE as problem:
        raise damaged(f"{name} {first_line(problem)}".strip()) from problem


def _checked(
    archive: zipfile.ZipFile, n_bytes: int, limits: ArchiveLimits, skipped: list[str]
) -> list[tuple[str, zipfile.ZipInfo]]:
    tally, found = Tally(limits, n_bytes), []
    for info in archive.infolist():
        # zipfile cuts names at a NUL; the whole name is what was meant.
        name = checked_name(info.orig_filename)
        tally.entry(name)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise refused(name, "it is a link or a device; accepted: plain files and folders")
        if info.flag_bits & _ENCRYPTED:
            raise refused(name, "it is encrypted; accepted: archives without a password")
        if info.is_dir() or kind == stat.S_IFDIR:
            continue
        if not is_image(name):
            skipped.append(name)
            continue
        if info.compress_type not in _METHODS:
            raise refused(
                name, f"its compression is not read here; accepted: {', '.join(_METHODS.values())}"
            )
        tally.image(name)
        tally.unpacked(name, info.file_size)
        found.append((name, info))
    _refuse_overlaps(archive)
    return found


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Entries that share their bytes unpack to far more than the sum of what is sent."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [*(info.header_offset for info in infos[1:]), archive.start_dir]
    for info, following in zip(infos, ends, strict=True):
        if info.header_offset + _LOCAL_HEADER + info.compress_size > following:
            raise refused(info.orig_filename, "it overlaps with another entry")
