"""Images of a tar, plain or compressed, in one pass."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, Protocol, Self, cast

from lavise.errors import RequestError, first_line
from lavise_service.companion.archive_entries import (
    ArchiveLimits,
    Tally,
    checked_name,
    damaged,
    is_image,
    refused,
)

_CHUNK: Final = 2**16
_XZ_MEMORY: Final = 2**27  # bytes; xz -9 needs 65 MiB, and a file says how much it needs
_LONGEST_HEADER: Final = 2**16
_HEADERS: Final = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
_PLAIN: Final = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE}
_UNREADABLE: Final = (
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    RecursionError,  # headers of headers of headers
)


class _Readable(Protocol):
    def read(self, n: int, /) -> bytes: ...


def tar_images(
    file: IO[bytes], n_bytes: int, limits: ArchiveLimits, skipped: list[str]
) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each image, in the order of the archive.

    What is wrong with an entry is found when its turn comes.

    Args:
        file: The archive; plain, or packed with gzip, bzip2 or xz.
        n_bytes: Its size.
        limits: What it may cost.
        skipped: Gets the names of files that are no images.

    Raises:
        RequestError: The archive is damaged, hostile or too large.
    """
    tally = Tally(limits, n_bytes)
    stream = _Counted(_unpacked(file), tally)
    try:
        with tarfile.open(fileobj=cast("Any", stream), mode="r|", tarinfo=_Entry) as archive:
            while (member := archive.next()) is not None:
                # A list of all entries would grow with the archive.
                archive.members = []  # type: ignore[attr-defined]
                name = stream.entry = checked_name(member.name)
                tally.entry(name)
                if member.type not in _PLAIN or member.sparse:
                    raise refused(
                        name, "it is a link or a device; accepted: plain files and folders"
                    )
                if member.isdir():
                    continue
                if not is_image(name):
                    skipped.append(name)
                    continue
                tally.image(name)
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a plain file
                yield name, content.read(limits.max_image_bytes + 1)
        while stream.read(_CHUNK):
            pass  # the checksum of what is packed comes last
    except RequestError:
        raise
    except _UNREADABLE as problem:
        raise damaged(f"{stream.entry} {first_line(problem)}".strip()) from problem


class _Entry(tarfile.TarInfo):
    """An entry; unlike tarfile's own, damage is no end, and headers are bounded."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as problem:
            raise damaged(str(problem)) from problem

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        if self.type in _HEADERS and not 0 <= self.size <= _LONGEST_HEADER:
            raise damaged(f"a header has {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


class _Counted:
    """A stream that is counted as it comes."""

    def __init__(self, stream: _Readable, tally: Tally) -> None:
        self._stream, self._tally = stream, tally
        self.entry = ""

    def read(self, n: int) -> bytes:
        data = self._stream.read(n)
        self._tally.unpacked(self.entry, len(data))
        return data


class _Xz:
    """What is inside an xz file; unlike lzma's own, with a bound on memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unpack = _xz()

    def read(self, n: int, /) -> bytes:
        while True:
            data = b""
            if self._unpack.eof:  # another stream may follow, after zeros
                data = (self._unpack.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
                if not data:
                    return b""
                self._unpack = _xz()
            elif self._unpack.needs_input:
                data = self._file.read(_CHUNK)
                if not data:
                    raise EOFError("xz stream ended before its end marker")
            if unpacked := self._unpack.decompress(data, n):
                return unpacked


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _unpacked(file: IO[bytes]) -> _Readable:
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if magic.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if magic.startswith(b"\xfd7zXZ\0"):
        return _Xz(file)
    return file
