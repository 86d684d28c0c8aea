"""Read word vectors from files: GloVe text, word2vec text or binary, gensim's KeyedVectors.

The format is told from the content, not from the name, and text and binary may be gzipped. Such
files come from strangers: every row is checked, sizes are taken from the data and never from the
header alone, and KeyedVectors, which are pickles, are read without running anything in them.
Gensim's own readers are not used because its ``load`` unpickles, and its word2vec reader drops
words that come twice and reserves whatever memory the header asks for.
"""

import gzip
import pickle
import re
import warnings
import zlib
from pathlib import Path
from typing import IO, Any, NoReturn, Self, cast

import numpy as np

from lavise.errors import SpecError

_GZIP_MAGIC = b"\x1f\x8b"
_PICKLE_MAGIC = b"\x80"
_HEADER = re.compile(rb"(\d+) (\d+)\s*")  # word2vec: number of words, of dimensions
_LONGEST_WORD = 10_000  # bytes; web corpora have URLs as words
_MOST_DIMS = 100_000
_CHUNK = 1 << 20
_SAVE_AGAIN = (
    "in gensim, save the vectors with `save_word2vec_format('words.bin', binary=True)` "
    "(a whole model's are in its `.wv`) and name that file"
)


def read_word_file(path: Path) -> tuple[list[str], np.ndarray]:
    """Read words and vectors in the order of the file.

    Args:
        path: GloVe text (``word 0.1 -0.2 ...``), word2vec text (the same below a line with the
            number of words and of dimensions), word2vec binary, or KeyedVectors as gensim 4's
            ``save`` writes them, large arrays in a file beside it.

    Returns:
        V words, none twice, and their vectors: float32 (V, D), D >= 2, finite, none all zero.

    Raises:
        SpecError: The file is missing, of another format, or damaged, or has a word twice, a
            ragged row, or a vector that is not finite or all zero. Names the file, and the line
            or the word.
    """
    if not path.is_file():
        _refuse(path, "is a directory" if path.is_dir() else "does not exist")
    try:
        with path.open("rb") as raw:
            start = raw.read(2)
            raw.seek(0)
            if start[:1] == _PICKLE_MAGIC:
                words, vectors = _read_keyed_vectors(path, raw)
                lines_before = None
            else:
                with gzip.open(raw) if start == _GZIP_MAGIC else raw as stream:
                    words, vectors, lines_before = _read_stream(path, cast("IO[bytes]", stream))
    except (OSError, EOFError, zlib.error) as error:
        _refuse(path, f"cannot be read: {error}")
    _check(path, words, vectors, lines_before)
    return words, vectors


def _refuse(path: Path, problem: str) -> NoReturn:
    raise SpecError(
        f"word vectors {path}: {problem}; accepted are GloVe text, word2vec text or binary, and "
        "gensim KeyedVectors",
        field="words",
    )


def _check(path: Path, words: list[str], vectors: np.ndarray, lines_before: int | None) -> None:
    """Refuse what would spoil every later cosine; rows are lines behind so many, or none."""

    def place(row: int) -> str:
        return f"word {row + 1}" if lines_before is None else f"line {row + 1 + lines_before}"

    if not words:
        _refuse(path, "holds no words")
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        if first.setdefault(word, row) != row:
            _refuse(path, f"{place(row)} has {word!r} again, after {place(first[word])}")
    finite = np.isfinite(vectors).all(axis=1)
    usable = finite & vectors.any(axis=1)
    if not usable.all():
        row = int(np.argmin(usable))
        problem = "is all zero" if finite[row] else "has a number that is not finite"
        _refuse(path, f"{place(row)}: the vector of {words[row]!r} {problem}")


def _read_stream(path: Path, stream: IO[bytes]) -> tuple[list[str], np.ndarray, int | None]:
    """Read text or word2vec binary; the third value is the number of header lines of text."""
    first = stream.readline(_CHUNK)
    header = _HEADER.fullmatch(first)
    if not header:
        stream.seek(0)
        return *_read_text(path, stream, n_header=0, n_dims=0), 0
    n_words, n_dims = int(header[1]), int(header[2])
    if not 2 <= n_dims <= _MOST_DIMS:
        _refuse(path, f"line 1 announces {n_dims:,} dimensions, not 2 to {_MOST_DIMS:,}")
    # Four bytes of a float are hardly ever printable; a line of text always is.
    second = stream.readline(_CHUNK).decode(errors="replace")
    binary = "\N{REPLACEMENT CHARACTER}" in second or not " ".join(second.split()).isprintable()
    stream.seek(len(first))
    if binary:
        words, vectors = _read_binary(path, stream, n_words, n_dims)
        return words, vectors, None
    words, vectors = _read_text(path, stream, n_header=1, n_dims=n_dims)
    if len(words) != n_words:
        _refuse(path, f"line 1 announces {n_words:,} words, but {len(words):,} follow")
    return words, vectors, 1


def _read_text(
    path: Path, stream: IO[bytes], *, n_header: int, n_dims: int
) -> tuple[list[str], np.ndarray]:
    """Read rows of text; ``n_dims`` 0 takes the number of dimensions from the first row."""
    words: list[str] = []
    values = bytearray()
    with warnings.catch_warnings():
        # What is no number is a DeprecationWarning in NumPy 2, and will be a ValueError.
        warnings.simplefilter("error", DeprecationWarning)
        for number, line in enumerate(stream, start=n_header + 1):
            word, _, rest = line.rstrip().partition(b" ")
            row = _numbers(rest)
            n_dims = n_dims or len(row)
            if n_dims < 2:
                _refuse(path, f"line {number} is not a word and two or more numbers")
            if len(row) != n_dims:
                word, row = _spaced_word(path, line, number, n_dims)
            try:
                words.append(word.decode())
            except UnicodeDecodeError:
                _refuse(path, f"line {number}: the word {word!r} is not UTF-8")
            values += row.tobytes()
    return words, np.frombuffer(values, np.float32).reshape(len(words), n_dims)


def _numbers(text: bytes) -> np.ndarray:
    """The numbers of a text, none when any part of it is not a number."""
    try:
        return np.fromstring(text, np.float32, sep=" ")
    except (DeprecationWarning, ValueError):
        return np.empty(0, np.float32)


def _spaced_word(path: Path, line: bytes, number: int, n_dims: int) -> tuple[bytes, np.ndarray]:
    """Split a row whose word has spaces ("at name@domain.com" in GloVe 840B)."""
    fields = line.rstrip().split(b" ")
    front, numbers = fields[:-n_dims], b" ".join(fields[-n_dims:])
    row = _numbers(numbers)
    if len(row) != n_dims or not front or any(len(_numbers(part)) for part in front[1:]):
        _refuse(path, f"line {number} does not have {n_dims} numbers behind the word")
    return b" ".join(front), row


def _read_binary(
    path: Path, stream: IO[bytes], n_words: int, n_dims: int
) -> tuple[list[str], np.ndarray]:
    """Read word2vec binary behind its header: word, space, D little-endian float32, newline."""
    words: list[str] = []
    values = bytearray()
    buffer, start, size = b"", 0, 4 * n_dims
    while len(words) < n_words:
        space = buffer.find(b" ", start)
        if space < 0 or len(buffer) < space + 1 + size:
            chunk = stream.read(_CHUNK)
            too_long = space < 0 and len(buffer) - start > _LONGEST_WORD
            if not chunk or too_long:
                _refuse(path, f"is damaged after word {len(words):,} of {n_words:,}")
            buffer, start = buffer[start:] + chunk, 0
            continue
        try:
            words.append(buffer[start:space].lstrip(b"\n").decode())
        except UnicodeDecodeError:
            _refuse(path, f"word {len(words) + 1:,} is not UTF-8")
        start = space + 1 + size
        values += buffer[space + 1 : start]
    if (buffer[start:] + stream.read(_LONGEST_WORD)).strip(b"\n"):
        _refuse(path, f"the header announces {n_words:,} words, but more follow")
    return words, np.frombuffer(values, "<f4").astype(np.float32).reshape(n_words, n_dims)


class _Inert:
    """Stands for every object of a pickle: keeps what it was made from and does nothing."""

    kind = ""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __init__(self, *made_from: Any) -> None:  # noqa: ANN401 - whatever the file has
        self.made_from = made_from

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 - whatever the file has
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    """Reads a pickle's structure; imports and calls nothing that it names."""

    def find_class(self, module: str, name: str) -> type[_Inert]:
        return type(name, (_Inert,), {"kind": f"{module}.{name}"})


def _read_keyed_vectors(path: Path, stream: IO[bytes]) -> tuple[list[str], np.ndarray]:
    """Read what gensim 4's ``KeyedVectors.save`` writes."""
    try:
        saved = _InertUnpickler(stream).load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle fails in any way it likes
        _refuse(path, f"is a damaged pickle ({error}); {_SAVE_AGAIN}")
    kind = saved.kind if isinstance(saved, _Inert) else type(saved).__name__
    if kind != "gensim.models.keyedvectors.KeyedVectors":
        _refuse(path, f"is a pickle of {kind}, which is not read; {_SAVE_AGAIN}")
    try:
        words = saved.state["index_to_key"]
        if "vectors" in saved.state["__numpys"]:
            vectors = np.load(f"{path}.vectors.npy", allow_pickle=False)
        else:
            vectors = _plain_array(saved.state["vectors"])
        n_words, n_dims = vectors.shape
    except FileNotFoundError as error:
        _refuse(path, f"keeps its vectors in {error.filename}, which does not exist")
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        _refuse(path, f"is not laid out as gensim 4 does it ({error}); {_SAVE_AGAIN}")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        _refuse(path, f"has words that are not text; {_SAVE_AGAIN}")
    if n_words != len(words) or n_dims < 2 or vectors.dtype.kind != "f":
        found = f"{vectors.dtype} of shape {vectors.shape}"
        _refuse(path, f"has {len(words):,} words, but as vectors {found}")
    with np.errstate(over="ignore"):  # an overflow is infinite, and refused by name later
        return words, np.ascontiguousarray(vectors, np.float32)


def _plain_array(array: _Inert) -> np.ndarray:
    """Make an array of floats from what its pickle says: shape, type, order, bytes."""
    _, shape, dtype, fortran, data = array.state
    code, order = dtype.made_from[0], dtype.state[1]
    if code not in {"f2", "f4", "f8"} or order not in {"<", ">"}:
        raise ValueError(f"vectors of type {code!r}")
    return np.frombuffer(data, order + code).reshape(shape, order="F" if fortran else "C")
