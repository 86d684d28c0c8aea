"""Handlers of gRPC methods, made from other handlers: what interceptors are built of.

grpc knows four kinds of methods, by who streams. What is done around a call is the same for all.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    suppress,
)
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError

from lavise.errors import LaviseError, RequestError
from lavise_service.companion.pace import Pace
from lavise_service.companion.problems import RequestTimeout

_READ_ON_BYTES: Final = 8 * 2**20
_READ_ON_S: Final = 10.0
_READ_ON_IDLE_S: Final = 2.0

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
# In quotes: the class takes no types at run time.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Around: TypeAlias = Callable[[Context], AbstractAsyncContextManager[None]]


def wrapped(handler: Handler, around: Around) -> Handler:
    """A handler that does its work inside a context manager."""
    inner = _behaviour(handler)

    async def one(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        async with around(context):
            return await inner(request, context)

    async def several(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
        async with around(context):
            async for answer in _answers(inner(request, context)):
                yield answer

    return _like(
        handler,
        several if handler.response_streaming else one,
        streaming=handler.request_streaming,
        parse=handler.request_deserializer,
    )


def reading(
    handler: Handler, idle_s: float, *, admit: Callable[[], None] = lambda: None
) -> Handler:
    """A handler that reads and parses its messages itself.

    So bytes that are no message are our error and not grpc's, a caller who stops sending, or sends
    a byte now and then, is not waited for, and a single message is only read once the call is let
    in.

    Args:
        handler: Another.
        idle_s: Seconds that a caller may send nothing.
        admit: Raises what refuses the call before its message is read.
    """
    inner, parse = _behaviour(handler), handler.request_deserializer
    if parse is None:
        return handler

    async def messages(stream: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
        pace = Pace(idle_s)
        while (data := await pace.wait_for(anext(stream, None))) is not None:
            pace.came(len(data))
            yield _parsed(data, parse)

    async def request_of(stream: AsyncIterator[bytes]) -> Any:  # noqa: ANN401 - any message
        if handler.request_streaming:
            return messages(stream)
        data = await Pace(idle_s).wait_for(anext(stream, None))
        if data is None:
            raise RequestError("the call ended without a message")
        return _parsed(data, parse)

    async def one(stream: AsyncIterator[bytes], context: Context) -> Any:  # noqa: ANN401
        async with _heard(stream):
            admit()
            return await inner(await request_of(stream), context)

    async def several(stream: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        admit()
        async for answer in _answers(inner(await request_of(stream), context)):
            yield answer

    return _like(
        handler, several if handler.response_streaming else one, streaming=True, parse=None
    )


@asynccontextmanager
async def _heard(stream: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Reads a little of what is refused, so that the refusal is heard.

    A client that is still writing would find the call closed, and grpc.aio's says INTERNAL then,
    not why.
    """
    try:
        yield
    except RequestTimeout:  # who sends nothing is not waited for
        raise
    except LaviseError:
        left = _READ_ON_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_READ_ON_S):
                while left > 0:
                    data = await asyncio.wait_for(anext(stream, None), _READ_ON_IDLE_S)
                    if data is None:
                        break
                    left -= len(data)
        raise


def _parsed(data: bytes, parse: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - any message
    try:
        return parse(data)
    except DecodeError as problem:
        raise RequestError("a message is not of the kind that is wanted") from problem


async def _answers(made: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - a generator, or a coroutine
    """The answers of a method; none where it writes them itself, by ``context.write``."""
    if not hasattr(made, "__aiter__"):
        await made
        return
    async with aclosing(made):
        async for answer in made:
            yield answer


def _behaviour(handler: Handler) -> Callable[[Any, Context], Any]:
    """The one function that a handler has, of the four it may have."""
    found = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return cast("Callable[[Any, Context], Any]", found)


def _like(
    handler: Handler,
    behaviour: Callable[[Any, Context], Any],
    *,
    streaming: bool,
    parse: Callable[[bytes], Any] | None,
) -> Handler:
    """A handler that answers in the same way as another."""
    asks = "stream" if streaming else "unary"
    answers = "stream" if handler.response_streaming else "unary"
    make = getattr(grpc, f"{asks}_{answers}_rpc_method_handler")
    return cast("Handler", make(behaviour, parse, handler.response_serializer))
