"""How far the companion is on its way out, and what it still works on."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

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
        self._calls = 0
        self._none = asyncio.Event()
        self._none.set()

    def check(self) -> None:
        """Raises Unavailable where no new call is let in."""
        if self.stage is Stage.CLOSING:
            raise Unavailable("the server is shutting down", retry_after_s=1.0)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Counts a call while it is worked on.

        Raises:
            Unavailable: No new call is let in.
        """
        self.check()
        self._calls += 1
        self._none.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._none.set()

    async def drained(self) -> None:
        """Returns when nothing is worked on."""
        await self._none.wait()
