"""Batches that are made ready by threads while the CNN works on the batch before."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

S = TypeVar("S")
T = TypeVar("T")


def prefetch(
    make: Callable[[S], T], items: Iterable[S], *, workers: int = 2, ahead: int = 32
) -> Iterator[T]:
    """Applies a function in threads, in order, a bounded number of items ahead.

    Args:
        make: Called with each item, in a thread; what it raises is raised here, at its place.
        items: Worked through lazily.
        workers: Threads.
        ahead: Results that may wait: memory does not grow with the number of items.

    Yields:
        The results, in the order of the items.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for item in itertools.islice(iterator, ahead):
                waiting.append(pool.submit(make, item))
            while waiting:
                result = waiting.popleft().result()
                for item in itertools.islice(iterator, 1):
                    waiting.append(pool.submit(make, item))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cuts an iterable into lists of a size; the last one may be shorter.

    Args:
        items: Worked through lazily.
        size: Of a list.

    Yields:
        Lists.
    """
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
