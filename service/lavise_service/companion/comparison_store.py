"""Comparisons, each one file that is replaced as a whole: the message as protobuf writes it."""

from datetime import datetime

from lavise.v1.bias_pb2 import Comparison
from lavise_service.companion.objects import Entry, Objects
from lavise_service.companion.paging import page
from lavise_service.companion.records import (
    COMPARISON,
    COMPARISONS,
    STALE_S,
    age,
    comparison_of,
    comparison_path,
    has_expired,
    heading_of,
    not_found,
)
from lavise_service.companion.summaries import Summaries


class ComparisonStore:
    """The comparisons of a store; see Store for the errors of every method.

    Args:
        objects: The files.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._headings = Summaries(objects, heading_of)

    def put(self, made: Comparison) -> None:
        """Keeps a comparison, in the place of an older one of its name."""
        self._objects.write(comparison_path(made.name), made.SerializeToString())

    def get(self, name: str) -> Comparison:
        """A comparison with its report.

        Raises:
            NotFound: There is none of this name.
        """
        path = comparison_path(name)
        try:
            return comparison_of(self._objects.read(path), path)
        except FileNotFoundError:
            raise not_found(name) from None

    def list(self, page_size: int, page_token: str) -> tuple[list[Comparison], str]:
        """A page of the comparisons without their reports, newest first, and the next's token.

        Raises:
            RequestError: The size or the token is not accepted.
        """
        return page(self._all().values(), age, page_size, page_token)

    def delete(self, name: str) -> None:
        """Removes a comparison.

        Raises:
            NotFound: There is none of this name.
        """
        path = comparison_path(name)
        if path not in {entry.path for entry in self._objects.list(COMPARISONS)}:
            raise not_found(name)
        self._objects.delete(path)

    def sweep(self, now: datetime) -> int:
        """Removes what has expired, and what killed processes left; returns how many expired."""
        expired = [entry for entry, made in self._all().items() if has_expired(made, now)]
        stale = [
            entry
            for entry in self._objects.list(COMPARISONS)
            if not entry.path.endswith(COMPARISON) and entry.modified < now.timestamp() - STALE_S
        ]
        for entry in expired + stale:
            self._objects.delete(entry.path)
        return len(expired)

    def _all(self) -> dict[Entry, Comparison]:
        entries = self._objects.list(COMPARISONS)
        return self._headings.of([entry for entry in entries if entry.path.endswith(COMPARISON)])
