"""A form of many files, read as it comes: one file in memory at a time, none on disk.

Starlette's own reader spools every file of a form before the first is handed over, which thousands
of images do not survive.
"""

from collections.abc import AsyncIterator
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from lavise.errors import RequestError

_HEADER_BYTES: Final = 16 * 1024


class FileForm:
    """The files of a multipart form, as they arrive.

    Args:
        content_type: Of the request, with its boundary.
        max_bytes: Of a file; of a larger one only so much is kept that it can be refused.

    Raises:
        RequestError: The content type names no boundary.
    """

    def __init__(self, content_type: str, max_bytes: int) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise RequestError(
                "the form's Content-Type names no boundary; leave it to the client, as curl -F "
                "does",
                field="content-type",
            )
        self._max_bytes = max_bytes
        self._ready: list[tuple[str, bytes]] = []
        self._field, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._file: str | None = None
        self._held = bytearray()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._part_ends,
                    "on_end": self._end,
                },
            )
        except FormParserError as problem:
            raise _malformed(problem) from problem

    async def files(self, body: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, bytes]]:
        """Yields name and content of each file.

        Args:
            body: The request's, as it comes.

        Raises:
            RequestError: The form is malformed, ends early, or has an entry that is no file.
        """
        async for piece in body:
            try:
                self._parser.write(piece)
            except FormParserError as problem:
                raise _malformed(problem) from problem
            ready, self._ready = self._ready, []
            for file in ready:
                yield file
        if not self._ended:
            raise RequestError("the form ends in the middle of an entry", field="body")

    def _part_begins(self) -> None:
        self._disposition = b""
        self._held = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._add(self._field, data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._add(self._value, data[start:end])

    def _add(self, header: bytearray, data: bytes) -> None:
        header += data
        if len(header) > _HEADER_BYTES:
            raise RequestError("an entry of the form has too long a header", field="body")

    def _header_ends(self) -> None:
        if bytes(self._field).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._field, self._value = bytearray(), bytearray()

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        file = options.get(b"filename")
        if file is None:
            raise RequestError(
                f"entry {name[:100]!r} of the form is text; accepted: image files. Options stand "
                "in the query: ?displayName=...",
                field="body",
            )
        self._file = file.decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        room = self._max_bytes + 1 - len(self._held)
        self._held += data[start : min(end, start + room)]

    def _part_ends(self) -> None:
        self._ready.append((self._file or "", bytes(self._held)))
        self._held = bytearray()

    def _end(self) -> None:
        self._ended = True


def _malformed(problem: FormParserError) -> RequestError:
    return RequestError(f"the form is malformed: {problem}", field="body")
