"""How many calls are worked on at a time; the others hear at once when to come again."""

from collections.abc import Iterator
from contextlib import contextmanager

from lavise_service.companion.problems import ResourceExhausted


class Slots:
    """So many calls at a time, over all doors. Use it from one event loop.

    Args:
        limit: At most so many.
        what: What they are, in the plural, for the error.

    Attributes:
        limit: Likewise.
        taken: How many are.
    """

    def __init__(self, limit: int, what: str) -> None:
        self.limit = limit
        self.taken = 0
        self._what = what

    def check(self) -> None:
        """Raises ResourceExhausted where none is free."""
        if self.taken >= self.limit:
            raise ResourceExhausted(
                f"{self.limit} {self._what} are being worked on, which is the limit; try again "
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
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
