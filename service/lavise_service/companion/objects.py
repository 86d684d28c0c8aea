"""Files that are there whole or not at all, in a local folder or on S3.

Locally a file is written under a temporary name, flushed to the disk, and renamed. On S3 an object
appears when its upload completes. pyarrow completes an upload even when the writing fails in the
middle, so what is written piece by piece must have a name that nothing refers to until it is done.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.fs as pafs
from prometheus_client import CollectorRegistry

from lavise.errors import EnvironmentProblem, SpecError, first_line
from lavise_service.companion.problems import ResourceExhausted
from lavise_service.companion.store_metrics import Operation, StoreMetrics

_TEMPORARY: Final = ".tmp"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CONNECT_S: Final = 5.0
_REQUEST_S: Final = 30.0


@dataclass(frozen=True)
class Entry:
    """A file of a listing.

    Attributes:
        path: Below the root, with ``/``.
        size: In bytes.
        modified: Seconds since 1970.
    """

    path: str
    size: int
    modified: float


class Objects:
    """The files below one root.

    A file that is not there is a FileNotFoundError; every other failure is an EnvironmentProblem
    that names the store, or ResourceExhausted where the disk is full.

    Args:
        filesystem: Of pyarrow.
        root: The folder in it.
        local: Whether it lies on this machine: written by rename, flushed to the disk.
        metrics: Where operations are counted.
    """

    def __init__(
        self,
        filesystem: Any,  # noqa: ANN401 - pyarrow has no types
        root: str,
        *,
        local: bool,
        metrics: StoreMetrics | None = None,
    ) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._local = local
        self._metrics = metrics or StoreMetrics(CollectorRegistry())

    def list(self, folder: str) -> list[Entry]:
        """The files below a folder, at any depth; none where there is no such folder."""
        selector = pafs.FileSelector(self._at(folder), allow_not_found=True, recursive=True)
        with self._told("list"):
            found = self._fs.get_file_info(selector)
        start = len(self._root) + 1
        return [
            Entry(info.path[start:], info.size, info.mtime_ns / 1e9)
            for info in found
            if info.type == pafs.FileType.File
        ]

    def read(self, path: str) -> bytes:
        """The content of a file."""
        with self._told("read"), self._fs.open_input_stream(self._at(path)) as stream:
            content = bytes(stream.readall())
        self._metrics.read_bytes.inc(len(content))
        return content

    @contextmanager
    def reading(self, path: str) -> Iterator[Any]:
        """A file for reading here and there, as Parquet does."""
        with self._told("read"), self._fs.open_input_file(self._at(path)) as file:
            self._metrics.read_bytes.inc(file.size())
            yield file

    def write(self, path: str, data: bytes) -> None:
        """Writes a file, or puts another in its place, at once."""
        with self.writing(path) as stream:
            stream.write(data)

    @contextmanager
    def writing(self, path: str) -> Iterator[Any]:
        """A stream whose content is the file when the block ends without an error.

        On S3 an error may leave an unfinished object for a moment: see the top of this file.
        """
        target = self._at(path)
        there = f"{target}.{secrets.token_hex(4)}{_TEMPORARY}" if self._local else target
        with self._told("write"):
            if self._local:
                self._fs.create_dir(os.path.dirname(target))  # noqa: PTH120 - pyarrow's own path
            try:
                with self._fs.open_output_stream(there) as stream:
                    yield stream
                    size = stream.tell()
                if self._local:
                    _flush(there)
                    self._fs.move(there, target)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._fs.delete_file(there)
                raise
            if self._local:
                self._flush_folders(target)
        self._metrics.written_bytes.inc(size)

    def delete(self, path: str) -> None:
        """Deletes a file; nothing happens where it is gone already."""
        with self._told("delete"), contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(self._at(path))

    def delete_folder(self, folder: str) -> None:
        """Deletes a folder and all below it, in any order; nothing happens where it is gone."""
        with self._told("delete"), contextlib.suppress(FileNotFoundError):
            self._fs.delete_dir(self._at(folder))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _flush_folders(self, path: str) -> None:
        """Makes the names durable too: a new file, and the folders that were made for it."""
        for folder in Path(path).parents:
            _flush(str(folder))
            if str(folder) == self._root:
                break

    @contextmanager
    def _told(self, operation: Operation) -> Iterator[None]:
        try:
            with self._metrics.timed(operation):
                yield
        except FileNotFoundError:
            raise
        except OSError as problem:
            if problem.errno in _FULL:
                self._metrics.failed(operation, "full")
                raise ResourceExhausted(
                    f"no room in the store at {self._root}",
                    field="store",
                    retry_after_s=60,
                    limit="store",
                ) from problem
            self._metrics.failed(operation, "unavailable")
            raise EnvironmentProblem(
                f"the store at {self._root} does not answer: {first_line(problem)}", field="store"
            ) from problem


def open_objects(
    url: str,
    *,
    s3_endpoint: str | None = None,
    s3_region: str | None = None,
    metrics: StoreMetrics | None = None,
) -> Objects:
    """Opens a store, and makes sure that it can be written to.

    Args:
        url: A folder, which is made where it is missing, or its URL: ``s3://BUCKET/FOLDER`` or
            what else pyarrow.fs reads.
        s3_endpoint: ``http://HOST:PORT`` or ``https://HOST``; otherwise as AWS_* variables say.
        s3_region: The region; otherwise as AWS_* variables say.
        metrics: Where operations are counted.

    Returns:
        The files in it.

    Raises:
        SpecError: The URL is none that can be read.
        EnvironmentProblem: The folder or bucket is not there, or cannot be written to.
    """
    try:
        if url.startswith("s3://"):
            bucket, _, path = url.removeprefix("s3://").partition("/")
            fs: Any = s3_filesystem(bucket, s3_endpoint, s3_region)
            root = f"{bucket}/{path}".rstrip("/")
        elif "://" in url:
            fs, root = pafs.FileSystem.from_uri(url)
        else:
            fs, root = pafs.LocalFileSystem(), str(Path(url).absolute())
    except (OSError, ValueError, TypeError) as problem:
        raise SpecError(
            f"LAVISE_STORE is {url!r}, which cannot be opened: {first_line(problem)}; accepted: "
            "a folder, or the URL of one, such as s3://BUCKET/FOLDER",
            field="LAVISE_STORE",
        ) from problem
    objects = Objects(fs, root, local=isinstance(fs, pafs.LocalFileSystem), metrics=metrics)
    probe = f"probe-{secrets.token_hex(8)}"
    objects.write(probe, b"")
    objects.delete(probe)
    return objects


def s3_filesystem(bucket: str, endpoint: str | None, region: str | None) -> Any:  # noqa: ANN401 - pyarrow has no types
    """S3 with a bound on how long it may stay silent.

    Args:
        bucket: Its name, for the region where none is given.
        endpoint: ``http://HOST:PORT`` or ``https://HOST``; otherwise as AWS_* variables say.
        region: The region; otherwise as AWS_* variables say.

    Returns:
        A filesystem whose paths begin with the bucket's name.
    """
    endpoint = (
        endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    )
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None:  # another server's regions mean nothing; Amazon knows that of a bucket
        region = "us-east-1" if endpoint else pafs.resolve_s3_region(bucket)
    return pafs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
    )


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
