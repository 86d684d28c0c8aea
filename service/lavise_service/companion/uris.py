"""Images below a folder that clients may name: ``file:///...`` and ``s3://...`` on an allow-list.

A URI is compared with the list before anything is opened. Locally each folder on the way is then
opened from the one before, and no symbolic link is followed below the folder on the list: what is
swapped for a link meanwhile leads nowhere. On S3 only the bucket and the path are taken from the
URI; the server that is asked is the operator's choice.
"""

import asyncio
import errno
import itertools
import os
import re
import stat
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import quote, unquote_to_bytes

import pyarrow.fs as pafs

from lavise.errors import EnvironmentProblem, RequestError, SpecError, first_line
from lavise_service.companion.archive_entries import is_image
from lavise_service.companion.objects import s3_filesystem
from lavise_service.companion.problems import NotFound, PermissionDenied
from lavise_service.companion.settings import Settings

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LONGEST: Final = 2000
# Images that are read while others are worked on: S3 answers late, but many at a time.
_AHEAD: Final = 4
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocked by a pipe that nobody writes to.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Folder:
    """A folder, as a URI names it.

    Attributes:
        bucket: On S3; empty for a local folder.
        parts: The names on the way to it.
    """

    bucket: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, uri: str) -> Self:
        """Reads a URI, strictly.

        Raises:
            RequestError: It is none of the two kinds, or has anything but names in it.
        """
        scheme, colon, rest = uri.partition("://")
        host, _, path = rest.partition("/")
        if len(uri) > _LONGEST or not colon or scheme not in {"file", "s3"}:
            raise _wrong(uri, "it is of another kind")
        if scheme == "file" and (host or not rest):
            raise _wrong(uri, "it names a host")
        if scheme == "s3" and not _BUCKET.fullmatch(host):
            raise _wrong(uri, "it names no bucket")
        if any(c in path for c in "?#") or _PERCENT.search(path):
            raise _wrong(uri, "it has a query, a fragment or a stray '%'")
        names = path.removesuffix("/").split("/") if path else []
        try:
            parts = tuple(unquote_to_bytes(name).decode() for name in names)
        except UnicodeError:
            raise _wrong(uri, "it is not UTF-8") from None
        for part in parts:
            odd = any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in part)
            if part in {"", ".", ".."} or odd:
                raise _wrong(uri, f"{part!r} in it is no name")
        return cls(host, parts)

    def holds(self, other: "Folder") -> bool:
        """Whether another folder is this one, or below it."""
        return self.bucket == other.bucket and self.parts == other.parts[: len(self.parts)]

    def __str__(self) -> str:
        start = f"s3://{self.bucket}" if self.bucket else "file://"
        return f"{start}/{'/'.join(map(quote, self.parts))}"


class UriImages:
    """Reads the images of folders on the allow-list.

    Args:
        settings: The list, limits, and where S3 is.

    Raises:
        SpecError: An entry of the list is no such URI.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        try:
            self._allowed = [Folder.of(uri) for uri in settings.allowed_uris]
        except RequestError as problem:
            raise SpecError(
                f"LAVISE_ALLOWED_URIS: {problem.message}", field="LAVISE_ALLOWED_URIS"
            ) from problem

    async def images(self, uri: str) -> AsyncGenerator[tuple[str, bytes]]:
        """Yields the name, below the folder, and the content of each image, by name.

        Hidden files and symbolic links are left out. Of an image over max_image_bytes one byte
        more than that comes, so that it can be rejected.

        Args:
            uri: ``file:///FOLDER`` or ``s3://BUCKET/FOLDER``.

        Raises:
            RequestError: This is no such URI, or the folder holds no image or too many.
            PermissionDenied: It is not below one that is allowed, or a link is on the way.
            NotFound: There is no such folder.
            EnvironmentProblem: It cannot be read.
        """
        folder = Folder.of(uri)
        allowed = next((one for one in self._allowed if one.holds(folder)), None)
        if allowed is None:
            below = ", ".join(map(str, self._allowed)) or "none; LAVISE_ALLOWED_URIS can allow some"
            raise PermissionDenied(
                f"{folder} is not allowed as a source of images; allowed: {below}", field="uri"
            )
        source = self._bucket(folder) if folder.bucket else _Disk(allowed, folder, self._most)
        with _told(folder):
            names = await asyncio.to_thread(lambda: sorted(self._bounded(source.names(), folder)))
        if not names:
            raise RequestError(
                f"{folder} holds no image; hidden files and symbolic links are left out",
                field="uri",
            )
        async with aclosing(_ahead(names, source.read, folder)) as images:
            async for image in images:
                yield image

    @property
    def _most(self) -> int:
        return self._settings.max_image_bytes + 1

    def _bucket(self, folder: Folder) -> "_Bucket":
        s3 = s3_filesystem(folder.bucket, self._settings.s3_endpoint, self._settings.s3_region)
        return _Bucket(s3, folder, self._most)

    def _bounded(self, names: Iterator[str], folder: Folder) -> Iterator[str]:
        for n, name in enumerate(names, 1):
            if n > self._settings.max_images_per_set:
                raise RequestError(
                    f"{folder} holds more than {self._settings.max_images_per_set:,} images; name "
                    "a folder in it, or allow more by LAVISE_MAX_IMAGES_PER_SET",
                    field="uri",
                )
            yield name


class _Disk:
    """A local folder, whose allowed ancestor is trusted and nothing below it."""

    def __init__(self, allowed: Folder, folder: Folder, most: int) -> None:
        self._root = "/" + "/".join(allowed.parts)
        self._below = folder.parts[len(allowed.parts) :]
        self._most = most

    def names(self) -> Iterator[str]:
        with self._opened(self._below) as top:
            for path, folders, files, at in os.fwalk(".", dir_fd=top, onerror=_raise):
                folders[:] = [name for name in folders if not name.startswith(".")]
                start = path[2:] + "/" if path != "." else ""
                for name in files:
                    if is_image(name) and _is_plain(name, at):
                        yield start + name

    def read(self, name: str) -> bytes:
        *folders, file = name.split("/")
        with self._opened((*self._below, *folders)) as folder:
            descriptor = os.open(file, _FILE, dir_fd=folder)
        with open(descriptor, "rb") as opened:  # noqa: PTH123 - a descriptor
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            return opened.read(self._most)

    @contextmanager
    def _opened(self, parts: tuple[str, ...]) -> Iterator[int]:
        """The descriptor of a folder, reached name by name."""
        folder = os.open(self._root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in parts:
                inner = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


class _Bucket:
    """A folder on S3."""

    def __init__(self, s3: Any, folder: Folder, most: int) -> None:  # noqa: ANN401 - pyarrow has no types
        self._s3 = s3
        self._at = "/".join((folder.bucket, *folder.parts))
        self._most = most

    def names(self) -> Iterator[str]:
        for info in self._s3.get_file_info(pafs.FileSelector(self._at, recursive=True)):
            name = info.path[len(self._at) + 1 :]
            if info.type == pafs.FileType.File and is_image(name):
                yield name

    def read(self, name: str) -> bytes:
        with self._s3.open_input_stream(f"{self._at}/{name}") as stream:
            return bytes(stream.read(self._most))


async def _ahead(
    names: list[str], read: Callable[[str], bytes], folder: Folder
) -> AsyncGenerator[tuple[str, bytes]]:
    """Reads files in threads, a few before they are asked for, in order."""
    waiting = iter(names)
    reading: deque[tuple[str, asyncio.Task[bytes]]] = deque()
    try:
        while True:
            for name in itertools.islice(waiting, _AHEAD - len(reading)):
                reading.append((name, asyncio.create_task(asyncio.to_thread(read, name))))
            if not reading:
                return
            name, task = reading[0]
            with _told(folder):
                content = await task
            reading.popleft()
            yield name.encode("utf-8", "replace").decode(), content
    finally:
        for _, task in reading:
            task.cancel()


@contextmanager
def _told(folder: Folder) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as problem:
        raise NotFound(
            f"there is no folder {folder}, or a file in it has gone", field="uri"
        ) from problem
    except OSError as problem:
        if problem.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise PermissionDenied(
                f"{folder} is no folder, or a symbolic link is on the way; none is followed",
                field="uri",
            ) from problem
        raise EnvironmentProblem(
            f"{folder} cannot be read: {first_line(problem)}", field="uri"
        ) from problem


def _is_plain(name: str, folder: int) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _raise(problem: OSError) -> None:
    raise problem


def _wrong(uri: str, trouble: str) -> RequestError:
    return RequestError(
        f"uri {uri[:200]!r} is not accepted: {trouble}; accepted: file:///FOLDER and "
        "s3://BUCKET/FOLDER",
        field="uri",
    )
