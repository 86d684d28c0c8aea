"""A zip or a tar that comes in pieces: its images, name by name.

It is spooled to a temporary file that has no name, and so is gone with the process. A zip can only
be trusted by its table of contents, which comes last; a tar is read by the same way so that both
are bounded alike.
"""

import asyncio
import io
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Final

from lavise.errors import RequestError
from lavise_service.companion.archive_entries import ArchiveLimits
from lavise_service.companion.problems import ResourceExhausted, TooLarge, UnsupportedMediaType
from lavise_service.companion.tar_archive import tar_images
from lavise_service.companion.zip_archive import zip_images

_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_PACKED_TAR: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
_TAR_MAGIC_AT: Final = 257


class Archive:
    """An archive that has come in whole; see receive_archive.

    Attributes:
        skipped: Names of the files that are no images, as far as it has been read.
    """

    def __init__(self, file: IO[bytes], n_bytes: int, limits: ArchiveLimits) -> None:
        self.skipped: list[str] = []
        head = file.read(_TAR_MAGIC_AT + 5)
        file.seek(0)
        if head.startswith(_ZIP):
            self._images = zip_images(file, n_bytes, limits, self.skipped)
        elif head.startswith(_PACKED_TAR) or head[_TAR_MAGIC_AT:] == b"ustar":
            self._images = tar_images(file, n_bytes, limits, self.skipped)
        else:
            raise UnsupportedMediaType(
                "this is no archive that is read here; accepted: zip, tar, tar.gz, tar.bz2, tar.xz",
                field="archive",
            )

    async def images(self) -> AsyncGenerator[tuple[str, bytes]]:
        """Yields name and content of each image, in the order of the archive.

        Raises:
            RequestError: The archive is damaged or hostile, unpacks to too much, or holds no
                image; the message names the entry.
        """
        found = False
        while (image := await asyncio.to_thread(next, self._images, None)) is not None:
            found = True
            yield image
        if not found:
            raise RequestError(
                f"the archive holds no image; {len(self.skipped)} other files were passed over",
                field="archive",
            )


@asynccontextmanager
async def receive_archive(
    chunks: AsyncIterator[bytes], limits: ArchiveLimits
) -> AsyncIterator[Archive]:
    """Takes an archive in; it is there until the block ends.

    Args:
        chunks: Its pieces, such as the body of an HTTP request.
        limits: What it may cost.

    Yields:
        The archive.

    Raises:
        TooLarge: It has more bytes than it may.
        UnsupportedMediaType: It is none that is read here.
        ResourceExhausted: There is no room for it on the disk.
    """
    with tempfile.TemporaryFile(buffering=0) as file:
        n_bytes = 0
        async for chunk in chunks:
            n_bytes += len(chunk)
            if n_bytes > limits.max_archive_bytes:
                raise TooLarge(
                    f"the archive has more than {limits.max_archive_bytes:,} bytes; send several, "
                    "or allow more by LAVISE_MAX_ARCHIVE_BYTES",
                    field="archive",
                )
            try:
                await asyncio.to_thread(_write, file, chunk)
            except OSError as problem:
                raise ResourceExhausted(
                    f"no room for the archive in {tempfile.gettempdir()}: {problem.strerror}",
                    field="archive",
                    retry_after_s=60,
                    limit="store",
                ) from problem
        file.seek(0)
        with io.BufferedReader(file) as whole:
            yield Archive(whole, n_bytes, limits)


def _write(file: io.FileIO, data: bytes) -> None:
    """Without a buffer: what a full disk does not take must not come up later, at closing."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
