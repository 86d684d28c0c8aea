"""One comparison on its way: how far it is, and whether anybody still wants it."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from lavise.v1.bias_pb2 import Comparison

T = TypeVar("T")


class GivenUpError(Exception):
    """Nobody wants the report any more."""


class Job:
    """One comparison that is worked on; its thread writes progress, the loop reads it.

    Args:
        comparison: As it was begun.

    Attributes:
        comparison: Likewise.
        task: The work.
        progress: The stage that it is in, and the share done of it.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.task: asyncio.Task[None]
        self.progress = ("waiting", 0.0)
        self._unwanted = threading.Event()
        self._idle = False

    @property
    def given_up(self) -> bool:
        """Whether nobody wants it any more."""
        return self._unwanted.is_set()

    async def give_up(self) -> None:
        """Returns when nobody works on it any more."""
        self._unwanted.set()
        if self._idle:
            self.task.cancel()
        await asyncio.wait({self.task})

    @contextmanager
    def idle(self) -> Iterator[None]:
        """While it only waits it is given up at once; a thread ends at its next step."""
        if self.given_up:
            raise GivenUpError
        self._idle = True
        try:
            yield
        finally:
            self._idle = False

    def now(self) -> Comparison:
        """The comparison with its progress."""
        found = Comparison()
        found.CopyFrom(self.comparison)
        found.progress.stage, found.progress.done = self.progress
        return found

    def move(self, stage: str, done: float) -> None:
        """Says how far it is.

        Raises:
            GivenUpError: It need not go on.
        """
        if self.given_up:
            raise GivenUpError
        self.progress = (stage, done)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """A lavise.progress.Track that gives up with the job."""
        for number, item in enumerate(items):
            self.move(description, number / total if total else 0.0)
            yield item
