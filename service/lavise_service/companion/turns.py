"""Who goes first at TorchServe, whose queue knows no order but that of arrival.

A batch of it is answered when all of it is done. So an Explain call that comes upon a few requests
of 16 images each, of sets that are taken in or pages that are drawn, waits for seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Turns:
    """Large requests that come while somebody waits for a small one go one after the other."""

    def __init__(self) -> None:
        self._at_once = 0
        self._turn = asyncio.Lock()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Goes around a request that somebody waits for."""
        self._at_once += 1
        try:
            yield
        finally:
            self._at_once -= 1

    @asynccontextmanager
    async def in_turn(self) -> AsyncIterator[None]:
        """Goes around a large one; waits for its turn where there is anybody to give way to."""
        if not self._at_once:
            yield
            return
        async with self._turn:
            yield
