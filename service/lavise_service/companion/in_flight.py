"""How far the companion is on its way out, and what it still works on."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, cast

from lavise_service.companion.problems import Unavailable


class Stage(IntEnum):
    """The stages of its life, in order.

    OPEN: everything is answered. LEAVING: likewise, but readiness says no, and no HTTP connection
    is kept open. CLOSING: what is worked on ends; new calls are refused, and told to come again.
    """

    OPEN = 0
    LEAVING = 1
    CLOSING = 2


class InFlight:
    """The calls being worked on, over both doors. Use it from one event loop."""

    def __init__(self) -> None:
        self.stage = Stage.OPEN
        self._calls: set[asyncio.Task[Any]] = set()
        self._cut_off = False
        self._none = asyncio.Event()
        self._none.set()

    def check(self) -> None:
        """Raises Unavailable where no new call is let in."""
        if self.stage is Stage.CLOSING:
            raise _leaving()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts a call while it is worked on, in a task of its own.

        Raises:
            Unavailable: No new call is let in, or this one is cut off.
        """
        self.check()
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._calls.add(task)
        self._none.clear()
        try:
            yield
        except asyncio.CancelledError:
            if self._cut_off:
                task.uncancel()
                raise _leaving() from None
            raise
        finally:
            self._calls.remove(task)
            if not self._calls:
                self._none.set()

    def cut_off(self) -> None:
        """Ends the calls that are still worked on: they end Unavailable, and may be sent again."""
        self._cut_off = True
        for task in self._calls:
            task.cancel()

    async def drained(self) -> None:
        """Returns when nothing is worked on."""
        await self._none.wait()


def _leaving() -> Unavailable:
    return Unavailable("the server is shutting down", retry_after_s=1.0)
