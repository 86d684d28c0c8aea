"""Progress of long work: the library says what it does, a caller shows it if it likes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable so that each item taken from it counts as progress."""

    def __call__(
        self, items: Iterable[T], description: str, total: int | None = None
    ) -> Iterable[T]:
        """Gives the items back, one by one.

        Args:
            items: What is worked through.
            description: What the work is, for a person.
            total: How many items, where it is known.
        """
        ...


def silent(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:  # noqa: ARG001 - the form of Track
    """A Track that shows nothing."""
    return items
