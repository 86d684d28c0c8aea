"""Clients that begin and then say nothing more: the companion must let go of them by itself."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from lavise.client.requests import upload_parts
from lavise.v1 import bias_pb2
from reliability.clients import METADATA, http_outcome, outcome
from reliability.records import Call
from reliability.truth import members

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from reliability.calls import World

_PATIENCE_S: Final = 120.0
_PIECES: Final = 4


async def stalled_calls(world: World, start: float, begin: float) -> list[Call]:
    """Two uploads over gRPC, one over HTTP, and two Explains over HTTP, none of which goes on."""
    await asyncio.sleep(max(0.0, begin + start - time.monotonic()))
    ways = (_upload_grpc, _upload_grpc, _upload_http, _explain_http, _explain_http)
    return await asyncio.gather(*(_call(way, world, start) for way in ways))


async def _call(way: Callable[[World], Awaitable[tuple[str, bool]]], world: World, due: float) -> Call:
    start = time.monotonic()
    code, hint = await way(world)
    return Call("stalled", due, time.monotonic() - start, code=code, hint=hint)


async def _upload_grpc(world: World) -> tuple[str, bool]:
    images = [world.truth.images[number] for number in members(0)]

    async def parts() -> AsyncIterator[bias_pb2.UploadImageSetRequest]:
        for part in itertools.islice(upload_parts(bias_pb2.ImageSetMetadata(), images, 0), _PIECES):
            yield part
        await asyncio.sleep(_PATIENCE_S)

    try:
        await world.clients.bias.UploadImageSet(parts(), metadata=METADATA, timeout=_PATIENCE_S)
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is the outcome
        return outcome(problem)
    return "OK", False


async def _upload_http(world: World) -> tuple[str, bool]:
    return await _post(world, "/v1/imageSets", {"content-type": "application/zip"})


async def _explain_http(world: World) -> tuple[str, bool]:
    return await _post(world, "/v1/explain", {"content-type": "image/jpeg"})


async def _post(world: World, path: str, headers: dict[str, str]) -> tuple[str, bool]:
    image = world.truth.images[0][1]

    async def body() -> AsyncIterator[bytes]:
        yield image[: len(image) // 2]
        await asyncio.sleep(_PATIENCE_S)

    asked: dict[str, Any] = {"content": body(), "headers": headers, "timeout": _PATIENCE_S}
    try:
        answer: httpx.Response = await world.clients.http("POST", path, **asked)
    except Exception as problem:  # noqa: BLE001 - likewise
        return outcome(problem)
    return http_outcome(answer)
