"""How many calls are worked on at a time; the others hear at once when to come again."""

from collections.abc import Iterator
from contextlib import contextmanager

from lavise_service.companion.problems import ResourceExhausted


class Slots:
    """So many calls at a time, over all doors. Use it from one event loop.

    Args:
        limit: At most so many.
        what: What they are, in the plural, for the error.
    """

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0

    def check(self) -> None:
        """Raises ResourceExhausted where none is free."""
        if self._taken >= self._limit:
            raise ResourceExhausted(
                f"{self._limit} {self._what} are being worked on, which is the limit; try again "
                "in a moment",
                retry_after_s=1.0,
            )

    @contextmanager
    def one(self) -> Iterator[None]:
        """Holds a slot.

        Raises:
            ResourceExhausted: None is free.
        """
        self.check()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
