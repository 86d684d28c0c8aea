"""What is done to the servers, for real, and put right again. The load does the others itself."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Final

from reliability.records import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from reliability.plan import Fault, Plan
    from reliability.servers import Servers

_RESTART_S: Final = 1.0
"""What a supervisor takes to notice that TorchServe is gone."""


def inject(servers: Servers, plan: Plan, begin: float) -> list[Event]:
    """Does each fault when its time has come; call it from the main thread.

    Args:
        servers: Whom it happens to.
        plan: What, and when.
        begin: When the calm minutes end, by time.monotonic().

    Returns:
        What happened.
    """
    events = []
    for fault in plan.faults:
        time.sleep(max(0.0, begin + fault.start - time.monotonic()))
        start = time.monotonic() - begin
        note = _FAULTS[fault.what](servers, fault)
        events.append(Event(fault.what, round(start, 2), round(start + fault.lasts, 2), note))
    return events


def _kill_worker(servers: Servers, _: Fault) -> str:
    """SIGKILL to the youngest, so that the oldest lives long enough for its memory to be judged."""
    workers = servers.workers
    if not workers:
        return "there was none to kill"
    workers[-1].kill()
    return f"one of {len(workers)} workers"


def _kill_torchserve(servers: Servers, _: Fault) -> str:
    pid = servers.torchserve.pid
    assert pid is not None
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    time.sleep(_RESTART_S)
    servers.torchserve.stop()  # what is left of its group
    servers.torchserve.start()
    return f"both workers answered {time.monotonic() - start:.1f} s later"


def _make_read_only(servers: Servers, fault: Fault) -> str:
    start = time.monotonic()
    servers.set_read_only(yes=True)
    waited = time.monotonic() - start
    time.sleep(fault.lasts)
    servers.set_read_only(yes=False)
    return f"remounted read-only after {waited * 1000:.0f} ms"


def _roll(servers: Servers, _: Fault) -> str:
    companion = servers.companions[0]
    start = time.monotonic()
    status = companion.end()
    drained = time.monotonic() - start
    companion.start()
    return (
        f"exit status {status} after {drained:.1f} s; the next one ready "
        f"{time.monotonic() - start:.1f} s after SIGTERM"
    )


def _by_the_load(_servers: Servers, _fault: Fault) -> str:
    return ""


_FAULTS: Final[dict[str, Callable[[Servers, Fault], str]]] = {
    "worker": _kill_worker,
    "torchserve": _kill_torchserve,
    "read-only": _make_read_only,
    "roll": _roll,
    "stalled": _by_the_load,
    "burst": _by_the_load,
}
