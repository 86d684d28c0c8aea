import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavise.errors import SpecError
from lavise.word_files import read_word_file

WORDS = ["the", "Größe", "new_york", "12"]
VECTORS = np.array([[1, 2, 3], [-0.5, 0.25, 0], [1e-3, 1e3, 0], [7, 8, 9]], np.float32)

any_number = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def keyed() -> KeyedVectors:
    vectors = KeyedVectors(3)
    vectors.add_vectors(WORDS, VECTORS)
    return vectors


def text(words: list[str], vectors: np.ndarray) -> bytes:
    rows = zip(words, vectors.tolist(), strict=True)
    return "".join(f"{word} {' '.join(map(repr, row))}\n" for word, row in rows).encode()


def refusal(path: Path) -> str:
    """The message of the refusal, which must name the file."""
    with pytest.raises(SpecError) as caught:
        read_word_file(path)
    assert str(path) in caught.value.message
    assert caught.value.field == "words"
    return caught.value.message


def assert_read(path: Path) -> None:
    words, vectors = read_word_file(path)
    assert words == WORDS
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("header", [b"", b"4 3\n"])
def test_text(tmp_path: Path, header: bytes, zipped: bool) -> None:  # noqa: FBT001
    content = header + text(WORDS, VECTORS)
    path = tmp_path / "vectors"  # the name says nothing
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert_read(path)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("name", ["v.w2v", "v.w2v.gz"])
def test_word2vec_as_gensim_writes_it(
    tmp_path: Path,
    keyed: KeyedVectors,
    name: str,
    binary: bool,  # noqa: FBT001
) -> None:
    keyed.save_word2vec_format(str(tmp_path / name), binary=binary)
    assert_read(tmp_path / name)


def test_word2vec_binary_with_a_newline_after_each_vector(tmp_path: Path) -> None:
    rows = zip(WORDS, VECTORS, strict=True)
    body = b"".join(
        word.encode() + b" " + row.astype("<f4").tobytes() + b"\n" for word, row in rows
    )
    (tmp_path / "v.bin").write_bytes(b"4 3\n" + body)
    assert_read(tmp_path / "v.bin")


@pytest.mark.parametrize("aside", [[], ["vectors"]])
def test_keyed_vectors_as_gensim_saves_them(
    tmp_path: Path, keyed: KeyedVectors, aside: list[str]
) -> None:
    keyed.set_vecattr("the", "count", 12)
    keyed.save(str(tmp_path / "v.kv"), separately=aside)
    assert (tmp_path / "v.kv.vectors.npy").exists() == bool(aside)
    assert_read(tmp_path / "v.kv")


def test_keyed_vectors_in_other_precision_and_order(tmp_path: Path, keyed: KeyedVectors) -> None:
    for dtype in ("<f8", "<f4", ">f4", "<f2"):
        keyed.vectors = np.asfortranarray(VECTORS.astype(dtype))
        keyed.save(str(tmp_path / "v.kv"))
        words, vectors = read_word_file(tmp_path / "v.kv")
        assert words == WORDS
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(vectors, VECTORS, rtol=1e-3)


def test_file_of_separate_vectors_is_missing(tmp_path: Path, keyed: KeyedVectors) -> None:
    keyed.save(str(tmp_path / "v.kv"), separately=["vectors"])
    (tmp_path / "v.kv.vectors.npy").unlink()
    assert "v.kv.vectors.npy, which does not exist" in refusal(tmp_path / "v.kv")


def test_separate_vectors_are_not_unpickled(tmp_path: Path, keyed: KeyedVectors) -> None:
    keyed.save(str(tmp_path / "v.kv"), separately=["vectors"])
    np.save(tmp_path / "v.kv.vectors.npy", np.array([[{}] * 3] * 4), allow_pickle=True)
    assert "allow_pickle=False" in refusal(tmp_path / "v.kv")


class Touch:
    """Pickles to a call that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_nothing(tmp_path: Path, keyed: KeyedVectors) -> None:
    mark = tmp_path / "was run"
    (tmp_path / "plain").write_bytes(pickle.dumps(Touch(mark)))
    assert "is a pickle of posix.mkdir" in refusal(tmp_path / "plain")
    keyed.mapfile_path = Touch(mark)
    keyed.save(str(tmp_path / "v.kv"))
    assert_read(tmp_path / "v.kv")
    keyed.index_to_key = [Touch(mark)] * 4
    keyed.save(str(tmp_path / "words.kv"))
    assert "words that are not text" in refusal(tmp_path / "words.kv")
    assert not mark.exists()


@pytest.mark.parametrize("saved", [{"a": 1}, [1.0], None, "text"])
def test_other_pickles_say_how_to_save_again(tmp_path: Path, saved: object) -> None:
    (tmp_path / "v.kv").write_bytes(pickle.dumps(saved))
    message = refusal(tmp_path / "v.kv")
    assert f"is a pickle of {type(saved).__name__}" in message
    assert "save_word2vec_format" in message


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("vectors", np.ones((3, 3), np.float32), "4 words, but as vectors float32 of shape (3, 3)"),
        ("vectors", np.ones((4, 3), np.int32), "vectors of type 'i4'"),
        ("vectors", np.ones(4, np.float32), "not laid out as gensim 4 does it"),
        ("vectors", None, "not laid out as gensim 4 does it"),
        ("vectors", np.array([[object()] * 3] * 4), "not laid out as gensim 4 does it"),
        ("index_to_key", None, "words that are not text"),
    ],
)
def test_keyed_vectors_that_do_not_fit(
    tmp_path: Path, keyed: KeyedVectors, attribute: str, value: object, problem: str
) -> None:
    setattr(keyed, attribute, value)
    keyed.save(str(tmp_path / "v.kv"))
    assert problem in refusal(tmp_path / "v.kv")


def test_words_with_spaces_as_in_glove_840b(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(b"a 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\n")
    words, vectors = read_word_file(path)
    assert words == ["a", ". . .", "at name@domain.com"]
    np.testing.assert_array_equal(vectors, [[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_a_word_may_be_any_line_break_of_unicode(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes("a 1 2\n\x85 3 4\n\u2028 5 6\n".encode())
    assert read_word_file(path)[0] == ["a", "\x85", "\u2028"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no words"),
        (b"\n", "line 1 is not a word and two or more numbers"),
        (b"once upon a time\n", "line 1 is not a word and two or more numbers"),
        (b"a 1\nb 2\n", "line 1 is not a word and two or more numbers"),
        (b"a 1 2 3\nb 1 2\n", "line 2 does not have 3 numbers"),
        (b"a 1 2 3\nb 1 2 3 4\n", "line 2 does not have 3 numbers"),
        (b"a 1 2 3\nb 1 x 3\n", "line 2 does not have 3 numbers"),
        (b"a 1 2 3\n\nb 1 2 3\n", "line 2 does not have 3 numbers"),
        (b"a 1 2\nb 1 2\na 3 4\n", "line 3 has 'a' again, after line 1"),
        (b"a 1 2\nb nan 2\n", "line 2: the vector of 'b' has a number that is not finite"),
        (b"a 1 2\nb 1e99 2\n", "line 2: the vector of 'b' has a number that is not finite"),
        (b"a 1 2\nb 0 -0.0\n", "line 2: the vector of 'b' is all zero"),
        (b"a 1 2\n\xff 1 2\n", "line 2: the word b'\\xff' is not UTF-8"),
        (b"3 2\na 1 2\nb 1 2\n", "line 1 announces 3 words, but 2 follow"),
        (b"1 2\na 1 2\nb 1 2\n", "line 1 announces 1 words, but 2 follow"),
        (b"2 2\na 1 2\na 1 2\n", "line 3 has 'a' again, after line 2"),
        (b"2 3\na 1 2\nb 1 2\n", "line 2 does not have 3 numbers"),
        (b"2 1\na 1\nb 1\n", "line 1 announces 1 dimensions"),
        (b"2 9999999999\na 1 2\n", "line 1 announces 9,999,999,999 dimensions"),
        (b"2 2\n", "line 1 announces 2 words, but 0 follow"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
        (gzip.compress(b"a 1 2\n" * 99, mtime=0)[:-20], "cannot be read"),
        (b"\x80\x04not a pickle", "is a damaged pickle"),
        (b"%PDF-1.7\n%\xc0\xff\x00\n", "line 1 is not a word and two or more numbers"),
    ],
)
def test_bad_content_is_refused_by_file_and_line(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    assert problem in refusal(path)


def test_bad_binary_is_refused_by_word(tmp_path: Path) -> None:
    def row(word: bytes, *numbers: float) -> bytes:
        return word + b" " + struct.pack("<2f", *numbers) + b"\n"

    good = row(b"a", 0.1, 0.2)
    for content, problem in [
        (b"2 2\n" + good, "is damaged after word 1 of 2"),
        (b"2 2\n" + good + good[:-3], "is damaged after word 1 of 2"),
        (b"99999999999 2\n" + good, "is damaged after word 1 of 99,999,999,999"),
        (b"1 2\n" + good + row(b"b", 1, 2), "the header announces 1 words, but more follow"),
        (b"2 2\n" + good + good, "word 2 has 'a' again, after word 1"),
        (b"2 2\n" + good + row(b"b", float("inf"), 1), "word 2: the vector of 'b' has a number"),
        (b"2 2\n" + good + row(b"b", 0, 0), "word 2: the vector of 'b' is all zero"),
        (b"2 2\n" + good + row(b"\xff", 1, 2), "word 2 is not UTF-8"),
        (b"2 2\n" + b"\x00" * 3_000_000, "is damaged after word 0 of 2"),
    ]:
        (tmp_path / "v.bin").write_bytes(content)
        assert problem in refusal(tmp_path / "v.bin")


def test_missing_file_and_directory(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "none.txt")


@any_number
@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"", b"2 2\n", b"\x80\x04", b"a 1 2\n"])
)
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "v"
    path.write_bytes(start + data)
    try:
        words, vectors = read_word_file(path)
    except SpecError:
        return
    assert len(words) == len(set(words)) == len(vectors) > 0
    assert np.isfinite(vectors).all()


@any_number
@given(data=st.data())
def test_damaged_keyed_vectors_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "v.kv"
    if not path.exists():
        keyed = KeyedVectors(3)
        keyed.add_vectors(WORDS, VECTORS)
        keyed.save(str(path))
    damaged = bytearray(path.read_bytes())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    copy = tmp_path / "damaged.kv"
    copy.write_bytes(damaged)
    try:
        words, vectors = read_word_file(copy)
    except SpecError:
        return
    assert len(words) == len(vectors) == 4
