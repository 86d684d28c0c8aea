"""Batches of images on their way through TorchServe into the store, in order.

A few batches are away at a time while more are read; memory holds those and no more, whatever the
size of the set. Several batches make a part in the store, and what came back is kept whatever
happens to the rest.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa
from google.rpc import code_pb2
from prometheus_client import Counter

from lavise.profile import ProfileSchema, profile_of_answer, profile_table
from lavise.v1.bias_pb2 import RejectedImage
from lavise_service.companion.store import Store
from lavise_service.torchserve.config import MAX_MESSAGE_BYTES
from lavise_service.wire import entries

LONGEST_TEXT: Final = 1000
"""Characters that are kept of a text from outside."""
# Of a part, so that what a broken upload loses is seconds of work.
_BATCHES_PER_PART: Final = 8
_BATCH_BYTES: Final = MAX_MESSAGE_BYTES - 2**20
_MiB: Final = 2**20


class Profiler(Protocol):
    """Who makes numbers of images: lavise_service.companion.upstream.Upstream."""

    async def profile(
        self, images: Sequence[bytes], request: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """ProfileResponse, in JSON form, of encoded images and a ProfileRequest."""


@dataclass
class Batch:
    """Images that follow each other.

    Attributes:
        first: The index of the first.
        end: One more than that of the last.
        indices: Of the images that TorchServe is asked for.
        sources: Their names.
        images: Encoded.
        rejected: The others.
    """

    first: int
    end: int
    indices: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    rejected: list[RejectedImage] = field(default_factory=list)
    _n_bytes: int = 0

    def takes(self, image: bytes, most: int) -> bool:
        """Whether there is room for one more, of ``most`` images and of a message to TorchServe."""
        return self.end - self.first < most and self._n_bytes + len(image) <= _BATCH_BYTES

    def put(self, source: str, image: bytes, max_bytes: int) -> None:
        """Takes the next image; one that is empty or over ``max_bytes`` is rejected."""
        index = self.end
        source = source[:LONGEST_TEXT] or f"image {index}"
        self.end += 1
        if 0 < len(image) <= max_bytes:
            self.indices.append(index)
            self.sources.append(source)
            self.images.append(image)
            self._n_bytes += len(image)
            return
        trouble = f"it has more than {max_bytes / _MiB:.3g} MiB" if image else "it is empty"
        self.rejected.append(
            _rejected(index, source, code_pb2.INVALID_ARGUMENT, f"{source}: {trouble}")
        )


@dataclass(frozen=True)
class _Done:
    """A batch that came back: its images that count, and those that do not."""

    first: int
    end: int
    table: pa.Table
    rejected: list[RejectedImage]


class Intake:
    """Batches on their way through TorchServe into the store, in order."""

    def __init__(
        self,
        name: str,
        store: Store,
        upstream: Profiler,
        schema: ProfileSchema,
        request: Mapping[str, Any],
        counted: Counter,
    ) -> None:
        self._name, self._store, self._upstream = name, store, upstream
        self._schema, self._request, self._counted = schema, request, counted
        self._running: deque[asyncio.Task[_Done]] = deque()
        self._done: list[_Done] = []

    async def put(self, batch: Batch, most: int) -> None:
        """Sends a batch on its way when fewer than ``most`` are."""
        while len(self._running) >= most:
            await self._next()
        self._running.append(asyncio.create_task(self._profiled(batch)))

    async def settle(self) -> None:
        """Waits for all batches."""
        while self._running:
            await self._next()

    async def close(self) -> None:
        """Drops what has not come back, and keeps what has."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._keep()

    async def _next(self) -> None:
        self._done.append(await self._running[0])
        self._running.popleft()
        if len(self._done) == _BATCHES_PER_PART:
            await self._keep()

    async def _keep(self) -> None:
        done, self._done = self._done, []
        if done:
            tables = [one.table for one in done if one.table.num_rows] or [done[0].table]
            rejected = [image for one in done for image in one.rejected]
            await asyncio.to_thread(
                self._store.append_part,
                self._name,
                done[0].first,
                done[-1].end,
                pa.concat_tables(tables),
                rejected,
            )
            self._counted.labels("accepted").inc(sum(one.num_rows for one in tables))
            self._counted.labels("rejected").inc(len(rejected))

    async def _profiled(self, batch: Batch) -> _Done:
        # Without images the question would be another one.
        answer: Mapping[str, Any] = {"bundleDigest": self._schema.bundle_digest, "images": ()}
        if batch.images:
            answer = await self._upstream.profile(batch.images, self._request)
        profile, refused = profile_of_answer(answer, self._schema, batch.indices, batch.sources)
        # The handler calls an image by its place in the batch, which says nothing to the sender.
        called = dict(
            zip(
                batch.indices,
                zip(entries(batch.images, None), batch.sources, strict=True),
                strict=True,
            )
        )
        rejected = batch.rejected.copy()
        for index, status in refused.items():
            place, source = called[index]
            message = str(status.get("message", "")).replace(f"{place}:", f"{source}:", 1)
            rejected.append(_rejected(index, source, int(status.get("code", 0)), message))
        rejected.sort(key=lambda one: one.index)
        return _Done(batch.first, batch.end, profile_table(profile), rejected)


def _rejected(index: int, source: str, code: int, message: str) -> RejectedImage:
    found = RejectedImage(index=index, source=source)
    found.error.code, found.error.message = code, message[:LONGEST_TEXT]
    return found
