"""What is made of files, made again when one of them changes: tokens, certificates."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from lavise.errors import SpecError

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Reread(Generic[T]):
    """A value, and the files that it is made of. Any thread may ask for it.

    A change that makes no sense is reported in the log, once, and the value made before stays: also
    while a certificate is there already and its key is not.

    Args:
        files: They are looked at on every use, which costs microseconds each.
        make: Reads them; raises SpecError where they make no sense.

    Raises:
        SpecError: They make no sense at the start.
    """

    def __init__(self, files: Sequence[Path], make: Callable[[], T]) -> None:
        self._files = files
        self._make = make
        self._lock = Lock()
        # Looked at first: what changes while it is read is read again.
        self._seen = self._look()
        self._value = make()

    def __call__(self) -> T:
        """Returns what the files say now."""
        with self._lock:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                names = ", ".join(map(str, self._files))
                try:
                    self._value = self._make()
                except SpecError as problem:
                    _log.error("%s; what was read before of %s stays", problem.message, names)
                else:
                    _log.info("%s: read again", names)
            return self._value

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        info = file.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino, info.st_size
