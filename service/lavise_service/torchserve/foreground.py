"""Serve until somebody says stop, and then leave nothing behind."""

import signal
import time
from collections.abc import Callable
from types import FrameType

from lavise_service.torchserve.process import TorchServe

_POLL_S = 0.2


def run_forever(
    server: TorchServe,
    *,
    when_ready: Callable[[TorchServe], None],
    beside: Callable[[Callable[[], bool]], None] | None = None,
) -> None:
    """Starts a server and returns after Ctrl-C, SIGTERM or a closed terminal has stopped it.

    Call it from the main thread (only there Python handles signals). A signal counts from the
    first moment on, while the models still load, and a second one changes nothing: stopping
    takes seconds and always ends.

    Args:
        server: The server, not started yet.
        when_ready: Called once, when every model answers.
        beside: Run then in this thread, until it returns; it is given a function that says when
            it is time to end. The server is stopped after it.

    Raises:
        EnvironmentProblem: If the server cannot start, or ends by itself.
    """
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        server.start(should_stop=lambda: bool(received))
        if not received:
            when_ready(server)
        if beside is not None and not received:
            beside(lambda: bool(received))
        while beside is None and not received:
            server.raise_if_ended()
            time.sleep(_POLL_S)
    finally:
        server.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
