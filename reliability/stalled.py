"""Clients that begin and then say nothing more: the companion must let go of them by itself."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final

from lavise.client.requests import upload_parts
from lavise.v1 import bias_pb2
from reliability.clients import METADATA, outcome
from reliability.records import Call
from reliability.truth import members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from reliability.calls import World

_PATIENCE_S: Final = 120.0
_PIECES: Final = 4
_LENGTH: Final = 1_000_000


async def stalled_calls(world: World, start: float, begin: float) -> list[Call]:
    """Two uploads over gRPC, one over HTTP, and two Explains over HTTP, none of which goes on."""
    await asyncio.sleep(max(0.0, begin + start - time.monotonic()))
    ways = (_upload_grpc, _upload_grpc, _upload_http, _explain_http, _explain_http)
    return await asyncio.gather(*(_call(way, world, start) for way in ways))


async def _call(way: Callable[[World], Awaitable[str]], world: World, due: float) -> Call:
    start = time.monotonic()
    try:
        code = await way(world)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the outcome
        code, _ = outcome(problem)
    return Call("stalled", due, time.monotonic() - start, code=code)


async def _upload_grpc(world: World) -> str:
    images = [world.truth.images[number] for number in members(0)]

    async def parts() -> AsyncIterator[bias_pb2.UploadImageSetRequest]:
        for part in itertools.islice(upload_parts(bias_pb2.ImageSetMetadata(), images, 0), _PIECES):
            yield part
        await asyncio.sleep(_PATIENCE_S)

    await world.clients.bias.UploadImageSet(parts(), metadata=METADATA, timeout=_PATIENCE_S)
    return "OK"


async def _upload_http(world: World) -> str:
    return await _post(world, "/v1/imageSets", "application/zip")


async def _explain_http(world: World) -> str:
    return await _post(world, "/v1/explain", "image/jpeg")


async def _post(world: World, path: str, kind: str) -> str:
    """Sends half a request by hand: an HTTP client would not listen before it has sent the rest."""
    host, _, port = world.clients.http_places[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        key, token = METADATA[0]
        head = (f"POST {path} HTTP/1.1", f"host: {host}", f"content-type: {kind}",
                f"content-length: {_LENGTH}", f"{key}: {token}", "", "")  # fmt: skip
        writer.write("\r\n".join(head).encode() + world.truth.images[0][1][:1000])
        async with asyncio.timeout(_PATIENCE_S):
            status = await reader.readline()
    finally:
        writer.close()
    return status.split()[1].decode() if status else "closed without a word"
