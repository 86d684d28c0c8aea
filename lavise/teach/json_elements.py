"""The objects of a huge JSON file, one at a time, and where in the file each lies.

An instances.json of hundreds of megabytes becomes gigabytes of Python objects when it is parsed
whole. Here the file is mapped into memory, a regular expression finds where each object of a
top-level array begins and ends, and orjson parses that object alone: memory does not grow with the
file. ijson streams too, but does not tell positions, by which a reader can come back later for one
annotation instead of keeping all of them.

The expression cannot backtrack (all its repetitions are possessive), so no file makes it slow.
"""

from __future__ import annotations

import json
import mmap
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from lavise.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_DEEPEST: Final = 12
"""Levels of brackets in an object. COCO's annotations have three, Visual Genome's objects two."""

_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"(?:[^"\\]++|\\.)*+"'


def _nested(opening: bytes, others: bytes, closing: bytes) -> bytes:
    """What stands between brackets, with brackets in it."""
    inner = b""
    for _ in range(_DEEPEST):
        within = b"|" + inner if inner else b""
        inner = opening + b"(?:" + others + b"|" + _STRING + within + b")*+" + closing
    return inner


_OBJECT: Final = re.compile(_nested(rb"\{", rb'[^{}"]++', rb"\}"), re.DOTALL)
_SKIPPED: Final = re.compile(
    _nested(rb"[\[{]", rb'[^\[\]{}"]++', rb"[\]}]") + b"|" + _STRING + rb'|[^\[\]{},"\s]++',
    re.DOTALL,
)
_START: Final = re.compile(rb"(?:\xef\xbb\xbf)?" + _SPACE + rb"([\[{])" + _SPACE)
_KEY: Final = re.compile(rb"(" + _STRING + rb")" + _SPACE + b":" + _SPACE, re.DOTALL)
_OPENING: Final = re.compile(rb"\[" + _SPACE)
_AFTER: Final = re.compile(_SPACE + rb"([,\]}])" + _SPACE)


class Element(NamedTuple):
    """An object of a top-level array.

    Attributes:
        key: Of the array; empty where the file is one array.
        position: In the array.
        start: Of its bytes in the file.
        length: In bytes.
        value: Parsed.
    """

    key: str
    position: int
    start: int
    length: int
    value: dict[str, Any]

    @property
    def place(self) -> str:
        """What to call it in messages: "annotations[3]"."""
        return f"{self.key}[{self.position}]" if self.key else f"element {self.position}"


def elements(file: Path, keys: Collection[str]) -> Iterator[Element]:
    """Walks through a JSON file: one array of objects, or an object that holds some.

    Args:
        file: JSON, in UTF-8.
        keys: Arrays to walk through, where the file is an object; the others are skipped.

    Yields:
        Their objects, in the order of the file.

    Raises:
        DatasetError: The file cannot be read, is cut short, or is no such JSON; the message says
            at which byte.
    """
    try:
        if not file.stat().st_size:  # nothing cannot be mapped
            raise DatasetError(f"{file}: empty; accepted: a JSON file", field=str(file))
        with (
            file.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            yield from _Walk(file, data).top(keys)
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be read ({error.strerror}); accepted: a JSON file",
            field=str(file),
        ) from error


def parse_object(file: Path, start: int, data: bytes) -> dict[str, Any]:
    """Parses one object. NaN and Infinity pass, as Python writes them: the reader judges numbers.

    Args:
        file: For messages.
        start: Where in it the bytes begin, for messages.
        data: The object's bytes.

    Returns:
        The object.

    Raises:
        DatasetError: They are not JSON.
    """
    try:
        return orjson.loads(data)  # type: ignore[no-any-return] # its first byte is a brace
    except orjson.JSONDecodeError:
        try:
            return json.loads(data)  # type: ignore[no-any-return] # likewise
        except (ValueError, RecursionError) as error:
            raise DatasetError(
                f"{file}: not valid JSON in the object at byte {start:,} ({error}); accepted: "
                "JSON in UTF-8; write or download the file again",
                field=str(file),
            ) from error


class _Walk:
    """One pass over a mapped file."""

    def __init__(self, file: Path, data: mmap.mmap) -> None:
        self._file = file
        self._data = data
        self._at = 0

    def top(self, keys: Collection[str]) -> Iterator[Element]:
        """Elements of the wanted arrays."""
        start = self._match(_START, "no JSON array or object")
        if start[1] == b"[":
            yield from self._array("")
        else:
            yield from self._members(keys)
        if self._at != len(self._data):
            raise self._error("more after the end of the JSON")

    def _members(self, keys: Collection[str]) -> Iterator[Element]:
        if self._closes(b"}"):
            return
        while True:
            key = str(self._parsed(self._match(_KEY, "no key")[1]))
            if key in keys:
                self._match(_OPENING, f"{key!r} is no array")
                yield from self._array(key)
            else:
                self._match(_SKIPPED, f"the value of {key!r} is cut short, or nested too deeply")
            if self._after(b"}"):
                return

    def _array(self, key: str) -> Iterator[Element]:
        if self._closes(b"]"):
            return
        index = 0
        while True:
            start = self._at
            if self._data[start : start + 1] not in {b"{", b""}:
                raise self._error(f"{key or 'the array'}[{index}] is no object")
            found = self._match(_OBJECT, "an object that is cut short, or nested too deeply")
            value = parse_object(self._file, start, found[0])
            yield Element(key, index, start, len(found[0]), value)
            index += 1
            if self._after(b"]"):
                return

    def _closes(self, closing: bytes) -> bool:
        """Steps over a closing bracket, where it is next: nothing is inside."""
        found = _AFTER.match(self._data, self._at)
        if found is None or found[1] != closing:
            return False
        self._at = found.end()
        return True

    def _after(self, closing: bytes) -> bool:
        """Steps over a comma, or over the closing bracket: whether it was that one."""
        found = self._match(_AFTER, f"neither a comma nor {closing.decode()!r}")[1]
        if found not in {b",", closing}:
            raise self._error(f"{found.decode()!r} where {closing.decode()!r} belongs")
        return found == closing

    def _parsed(self, string: bytes) -> object:
        try:
            return orjson.loads(string)
        except orjson.JSONDecodeError as error:
            raise self._error(f"a key that is no string of JSON ({error})") from error

    def _match(self, pattern: re.Pattern[bytes], problem: str) -> re.Match[bytes]:
        found = pattern.match(self._data, self._at)
        if found is None:
            raise self._error("it ends too early" if self._at == len(self._data) else problem)
        self._at = found.end()
        return found

    def _error(self, problem: str) -> DatasetError:
        return DatasetError(
            f"{self._file}: not valid JSON at byte {self._at:,}: {problem}; accepted: whole JSON "
            "in UTF-8; write or download the file again",
            field=str(self._file),
        )
