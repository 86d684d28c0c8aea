"""How slowly a caller may send: not still for long, and not a byte now and then."""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import Final, TypeVar

from lavise_service.companion.problems import RequestTimeout

# Bytes per second that must be reached on average: a byte now and then is no upload.
_SLOWEST: Final = 1024

T = TypeVar("T")


class Pace:
    """The pace of one request.

    Args:
        idle_s: Seconds that it may stand still.
    """

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._waited_s = 0.0
        self._bytes = 0

    async def wait_for(self, piece: Awaitable[T]) -> T:
        """Waits for what the caller sends next.

        Raises:
            RequestTimeout: The request stands still, or comes too slowly.
        """
        start = monotonic()
        behind_s = max(0.0, self._waited_s - self._bytes / _SLOWEST)
        try:
            async with asyncio.timeout(max(0.0, self._idle_s - behind_s)):
                return await piece
        except TimeoutError:
            raise RequestTimeout(
                f"the request came too slowly: accepted are {self._idle_s:g} s without a byte, and "
                f"{_SLOWEST} bytes per second over a longer time"
            ) from None
        finally:
            # Only what the caller made us wait: what we do with the bytes may take its time.
            self._waited_s += monotonic() - start

    def came(self, n_bytes: int) -> None:
        """Says how much came."""
        self._bytes += n_bytes
