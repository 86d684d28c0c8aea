"""Many small files read at once, and each only when it has changed."""

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final, Generic, TypeVar

from lavise_service.companion.objects import Entry, Objects
from lavise_service.companion.records import Damaged

_READERS: Final = 16
# S3 tells times in whole seconds: a file this young may change again and look the same.
_SETTLED_S: Final = 5.0
_LOG: Final = logging.getLogger(__name__)

T = TypeVar("T")


class Summaries(Generic[T]):
    """What is worth remembering of each file of a folder.

    Args:
        objects: The files.
        parse: From a file's content and path; raises Damaged where it cannot.
    """

    def __init__(self, objects: Objects, parse: Callable[[bytes, str], T]) -> None:
        self._objects = objects
        self._parse = parse
        self._known: dict[Entry, T] = {}
        # Files come side by side, from S3. Parsed side by side, reports would take many times the
        # memory, no less time, and the interpreter away from the loop that answers calls.
        self._parsing = Lock()

    def of(self, entries: Iterable[Entry]) -> dict[Entry, T]:
        """Reads what is new or changed.

        Args:
            entries: All files that there are; what is remembered of others is forgotten.

        Returns:
            One for each file; a file that has gone meanwhile, or is damaged, is left out.
        """
        known = self._known
        found = {entry: known[entry] for entry in entries if entry in known}
        new = [entry for entry in entries if entry not in found]
        if new:
            with ThreadPoolExecutor(min(_READERS, len(new))) as pool:
                read = zip(new, pool.map(self._read, new), strict=True)
                found |= {entry: summary for entry, summary in read if summary is not None}
        settled = time.time() - _SETTLED_S
        self._known = {entry: one for entry, one in found.items() if entry.modified < settled}
        return found

    def _read(self, entry: Entry) -> T | None:
        try:
            content = self._objects.read(entry.path)
            with self._parsing:
                return self._parse(content, entry.path)
        except FileNotFoundError:
            return None
        except Damaged as problem:
            _LOG.warning("left out of a list: %s", problem.message)
            return None
