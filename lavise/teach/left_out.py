"""What a reader left out of a dataset, counted by reason, for a person to read."""

from __future__ import annotations

from typing import Final

from lavise.errors import DatasetError

_LONGEST_EXAMPLE: Final = 80


class LeftOut:
    """Counts what is left out.

    Args:
        spec: Of the dataset.
    """

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, example: str, count: int = 1) -> None:
        """Counts.

        Args:
            reason: What they are, in the plural: "boxes without an area".
            example: Where the first one is.
            count: How many; nothing happens at 0.
        """
        if count:
            before, first = self._found.get(reason, (0, example[:_LONGEST_EXAMPLE]))
            self._found[reason] = (before + count, first)

    def notes(self) -> tuple[str, ...]:
        """A sentence for each reason, in the order in which they were met."""
        return tuple(f"{self._spec}: {reason}" for reason in self._reasons())

    def _reasons(self) -> list[str]:
        return [
            f"left out: {reason} ({count:,}; the first: {example})"
            for reason, (count, example) in self._found.items()
        ]

    def refuse_nothing(self, n_left: int, accepted: str) -> None:
        """Refuses a dataset of which nothing is left.

        Args:
            n_left: Images or regions that can be used.
            accepted: What the dataset must hold.

        Raises:
            DatasetError: Nothing is; the message says what was left out.
        """
        if not n_left:
            reasons = "".join(f"; {reason}" for reason in self._reasons()[:3])
            raise DatasetError(
                f"dataset {self._spec!r} has nothing that can be used{reasons}; accepted: "
                f"{accepted}",
                field="dataset",
            )
