import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.errors import RequestError
from lavise_service.companion.http.upload_form import FileForm

BOUNDARY = "frontier"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def body(files: list[tuple[str, bytes]]) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for name, content in files
    ]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def read(sent: bytes, *, cuts: list[int] = [], max_bytes: int = 10**6) -> list[tuple[str, bytes]]:  # noqa: B006 - not changed
    async def pieces() -> AsyncIterator[bytes]:
        at = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
        for start, end in itertools.pairwise(at):
            yield sent[start:end]

    async def work() -> list[tuple[str, bytes]]:
        form = FileForm(TYPE, max_bytes)
        return [file async for file in form.files(pieces())]

    return asyncio.run(work())


@settings(deadline=None, max_examples=60)
@given(
    contents=st.lists(
        st.one_of(st.binary(max_size=80), st.just(b"\r\n--frontie\r\n--front"), st.just(b"\r\n")),
        max_size=4,
    ),
    cuts=st.lists(st.integers(0, 10**4), max_size=12),
)
def test_however_it_is_cut_the_files_are_the_same(contents: list[bytes], cuts: list[int]) -> None:
    files = [
        (f"{i}.png", content)
        for i, content in enumerate(contents)
        if f"\r\n--{BOUNDARY}".encode() not in b"\r\n" + content
    ]
    assert read(body(files), cuts=cuts) == files


def test_of_a_large_file_only_so_much_is_held() -> None:
    files = [("large.png", bytes(5000)), ("small.png", b"x")]
    assert read(body(files), cuts=[1000, 2000], max_bytes=100) == [
        ("large.png", bytes(101)),
        ("small.png", b"x"),
    ]


@settings(deadline=None)
@given(sent=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=3))
def test_rubbish_is_refused(sent: bytes, cuts: list[int]) -> None:
    with pytest.raises(RequestError):
        read(sent, cuts=cuts)


@given(data=st.data())
@settings(deadline=None)
def test_a_form_that_breaks_off_is_refused(data: st.DataObject) -> None:
    whole = body([("a.png", b"12345"), ("b.png", b"678")])
    end = data.draw(st.integers(0, len(whole) - 5))
    with pytest.raises(RequestError):
        read(whole[:end])


def test_headers_are_bounded() -> None:
    sent = body([("x" * 20_000, b"1")])
    with pytest.raises(RequestError, match="header"):
        read(sent)


def test_text_is_no_file() -> None:
    sent = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--{BOUNDARY}--\r\n'
    )
    with pytest.raises(RequestError, match="'a' of the form is text"):
        read(sent.encode())
