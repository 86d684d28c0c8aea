"""TorchServe and the companion as one program: one start, one Ctrl-C."""

import asyncio
from collections.abc import Callable

from lavise_service.companion.lifecycle import Doors, serve
from lavise_service.companion.logs import configure_logging
from lavise_service.companion.settings import Address, Settings
from lavise_service.torchserve import TorchServe, run_forever

_POLL_S = 0.2


def run_together(
    server: TorchServe, settings: Settings, *, when_ready: Callable[[TorchServe, Doors], None]
) -> None:
    """Starts both and returns after Ctrl-C, SIGTERM or a closed terminal has stopped both.

    The companion answers what it has accepted before TorchServe is stopped. Call it from the main
    thread.

    Args:
        server: TorchServe, not started yet.
        settings: Of the companion; where TorchServe is, and what it serves, comes from ``server``.
        when_ready: Called once, when the models answer and both doors of the companion are open.

    Raises:
        LaviseError: One of them cannot start, or ends by itself.
    """

    def beside(should_stop: Callable[[], bool]) -> None:
        configure_logging()
        asyncio.run(_companion(server, settings, should_stop, when_ready))

    run_forever(server, when_ready=lambda _: None, beside=beside)


async def _companion(
    server: TorchServe,
    settings: Settings,
    should_stop: Callable[[], bool],
    when_ready: Callable[[TorchServe, Doors], None],
) -> None:
    host, _, port = server.grpc_target.rpartition(":")
    model = settings.model if settings.model in server.models else server.models[0]
    ours = settings.model_copy(update={"torchserve": Address(host, int(port)), "model": model})
    stop = asyncio.Event()

    async def watch() -> None:
        try:
            while not should_stop():
                server.raise_if_ended()
                await asyncio.sleep(_POLL_S)
        finally:
            stop.set()

    watching = asyncio.create_task(watch())
    try:
        await serve(ours, stop, when_open=lambda doors: when_ready(server, doors))
    except BaseException:
        watching.cancel()
        raise
    await watching  # it has ended, since it alone sets stop: with a signal, or with TorchServe
