"""From settings to two open doors and back: start, serve, drain, end.

The end: readiness says no, connections are no longer kept open, and for ``linger_s`` everything
is still answered, so that callers move on by themselves; then new calls are refused, what is being
worked on gets ``drain_s`` to end, and the doors close.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from lavise.errors import EnvironmentProblem
from lavise.heap import bound_heap, settle_heap
from lavise_service.companion.assembly import Companion
from lavise_service.companion.grpc_server import grpc_door
from lavise_service.companion.housekeeping import keep_house, keep_small
from lavise_service.companion.http.app import http_app
from lavise_service.companion.http_server import http_server, listen
from lavise_service.companion.in_flight import Stage
from lavise_service.companion.logs import configure_logging
from lavise_service.companion.settings import Address, Settings

LINGER_S = 1.0
DRAIN_S = 20.0
_CUT_OFF_S = 5.0
_LAST_WORDS_S = 0.3
_GOODBYE_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Doors:
    """Where the companion listens.

    Attributes:
        grpc: The port is the real one, also where 0 was asked for.
        http: Likewise.
    """

    grpc: Address
    http: Address


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    *,
    when_open: Callable[[Doors], None] = lambda _: None,
    linger_s: float = LINGER_S,
    drain_s: float = DRAIN_S,
) -> None:
    """Opens the doors, and returns once ``stop`` is set and every call is answered.

    Args:
        settings: What to serve, and where.
        stop: Set it to end.
        when_open: Called once, when both doors are open; readiness may come later.
        linger_s: Seconds of full service after readiness says no.
        drain_s: Seconds that calls in flight then get.

    Raises:
        EnvironmentProblem: An address cannot be used, or a door closed by itself.
        SpecError: A file that the settings name cannot be used.
    """
    companion = Companion.assemble(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(companion.close)
        door = grpc_door(companion)
        stack.push_async_callback(door.server.stop, None)
        socket = stack.enter_context(listen(settings.http_listen))
        web = http_server(http_app(companion), tls=companion.tls)
        await door.server.start()
        doors = Doors(
            grpc=settings.grpc_listen._replace(port=door.port),
            http=settings.http_listen._replace(port=socket.getsockname()[1]),
        )
        house = keep_house(companion.store, companion.comparisons)
        ready = companion.readiness.watch()
        async with _running(ready), _running(house), _running(keep_small()):
            serving = asyncio.create_task(web.serve(sockets=[socket]))
            _log.info("open", extra={"grpc": str(doors.grpc), "http": str(doors.http)})
            when_open(doors)
            await _until(stop, serving)
            await _drain(companion, linger_s=linger_s, drain_s=drain_s)
        web.should_exit = True
        # Answers are still being written: cut off, their callers would hear CANCELLED. Where nobody
        # watches health, it takes no longer than they do.
        await asyncio.gather(door.server.stop(_GOODBYE_S), serving)
    _log.info("closed")


def run(settings: Settings, *, when_open: Callable[[Doors], None] = lambda _: None) -> None:
    """Serves in the foreground until Ctrl-C, SIGTERM or a closed terminal; logs JSON lines.

    Call it from the main thread.

    Args:
        settings: What to serve, and where.
        when_open: Called once, when both doors are open.

    Raises:
        LaviseError: As ``serve`` does.
    """
    configure_logging()
    bound_heap()

    def opened(doors: Doors) -> None:
        settle_heap()
        when_open(doors)

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(settings, stop, when_open=opened)

    asyncio.run(until_signal())


async def _until(stop: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    """Returns when it is time to end.

    Raises:
        EnvironmentProblem: The HTTP server ended by itself.
    """
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if serving.done():
        raise EnvironmentProblem("the HTTP server ended by itself") from serving.exception()


async def _drain(companion: Companion, *, linger_s: float, drain_s: float) -> None:
    _log.info("draining", extra={"linger_s": linger_s, "drain_s": drain_s})
    companion.in_flight.stage = Stage.LEAVING
    await companion.readiness.drain()
    await asyncio.sleep(linger_s)
    companion.in_flight.stage = Stage.CLOSING
    try:
        async with asyncio.timeout(drain_s):
            await companion.in_flight.drained()
    except TimeoutError:
        _log.warning("calls are cut off", extra={"drain_s": drain_s})
        companion.in_flight.cut_off()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CUT_OFF_S):
                await companion.in_flight.drained()
    # A call that arrives as a server stops is cut off without a word: let those who have just
    # been answered ask once more and be refused.
    await asyncio.sleep(_LAST_WORDS_S)


@contextlib.asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs something beside a block, and ends it with the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
