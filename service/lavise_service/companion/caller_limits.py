"""How much one caller may ask: calls a second and calls at a time, over both doors.

The rate is kept by the generic cell rate algorithm (ITU-T I.371): one number a caller, the time at
which the next call is due if all before it had come evenly.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final

from lavise_service.companion.problems import ResourceExhausted

# Who is idle is forgotten beyond this many; tokens are few, certificates as many as are signed.
_MOST_REMEMBERED: Final = 4096


@dataclass
class _Caller:
    due: float = 0.0
    at_work: int = 0


class CallerLimits:
    """The calls of every caller. Use it from one event loop.

    Args:
        per_second: Calls a second over time; as many may come at once after a pause. 0: no limit.
        concurrent: Calls at a time. 0: no limit.
        clock: Seconds.
    """

    def __init__(
        self, *, per_second: int = 0, concurrent: int = 0, clock: Callable[[], float] = monotonic
    ) -> None:
        self._per_second = per_second
        self._concurrent = concurrent
        self._clock = clock
        self._callers: dict[str, _Caller] = {}

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Counts a call of a caller while it is worked on.

        Args:
            name: Of the caller.

        Raises:
            ResourceExhausted: That is one too many; says when to try again.
        """
        if not (self._per_second or self._concurrent):
            yield
            return
        caller = self._callers.get(name) or self._begun(name)
        if self._concurrent and caller.at_work >= self._concurrent:
            raise ResourceExhausted(
                f"{self._concurrent} calls of {name!r} are being worked on, which is the limit of "
                "each caller; wait for one of them",
                retry_after_s=1.0,
            )
        if self._per_second:
            self._count(caller, name)
        caller.at_work += 1
        try:
            yield
        finally:
            caller.at_work -= 1

    def _count(self, caller: _Caller, name: str) -> None:
        now, interval = self._clock(), 1 / self._per_second
        due = max(caller.due, now)
        # A second's calls may come at once; half a step, so that rounding takes none of them.
        wait = due - now - (1 - interval / 2)
        if wait > 0:
            raise ResourceExhausted(
                f"{name!r} asks more than {self._per_second} times a second, which is the limit of "
                "each caller; ask more slowly",
                retry_after_s=wait,
                limit="rate",
            )
        caller.due = due + interval

    def _begun(self, name: str) -> _Caller:
        if len(self._callers) >= _MOST_REMEMBERED:
            now = self._clock()
            self._callers = {
                other: caller
                for other, caller in self._callers.items()
                if caller.at_work or caller.due > now
            }
        return self._callers.setdefault(name, _Caller())
