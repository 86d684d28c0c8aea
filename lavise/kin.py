"""Words that are kin to concepts by WordNet, for words that no concept names.

Word vectors of 50 dimensions place a word that was never taught among thousands of others. WordNet
knows more of some: that a leopard is a big cat, as a tiger is. Two nouns are alike as their
meanings and what these are kinds of are alike: the cosine of rows that hold 1 for a name of any of
their three likeliest senses, 0.8 for what is one step up, 0.64 two steps up, each times the
logarithm of how few words of the vocabulary have it (idf).
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from scipy import sparse

from lavise.wordnet import class_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SENSES: Final = 3
_DECAY: Final = 0.8
_AT_ONCE: Final = 64
_TINY: Final = 1e-9

_Meaning: TypeAlias = "dict[tuple[str, ...], float]"


def kin_words(
    concepts: Sequence[str], words: Sequence[str], named: np.ndarray, n_kin: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest relatives of each concept among the words that no concept names.

    Args:
        concepts: K names.
        words: V words.
        named: Positions of words that are no relatives; below 0: none.
        n_kin: M relatives a concept.

    Returns:
        (K, M) int64 positions in the vocabulary, -1 where there is none, and (K, M) float32 how
        near each is, above 0 and at most 1; nearest first.
    """
    found = np.full((len(concepts), n_kin), -1, dtype=np.int64)
    near = np.zeros((len(concepts), n_kin), dtype=np.float32)
    taken = set(named[named >= 0].tolist())
    free = [i for i in range(len(words)) if i not in taken]
    meanings = [_meaning(word) for word in words]
    held_by = Counter(name for meaning in meanings for name in meaning)
    rarity = {name: math.log(len(words) / n) for name, n in held_by.items()}
    relatives = _rows([meanings[i] for i in free], rarity)
    positions = np.array(free, dtype=np.int64)
    n = min(n_kin, len(free))
    for start in range(0, len(concepts) if n else 0, _AT_ONCE):
        some = [_meaning(name) for name in concepts[start : start + _AT_ONCE]]
        alike = (_rows(some, rarity) @ relatives.T).toarray()  # (64, free)
        best = np.argsort(-alike, axis=1, kind="stable")[:, :n]
        values = np.take_along_axis(alike, best, axis=1)
        rows = slice(start, start + len(some))
        found[rows, :n] = np.where(values > 0, positions[best], -1)
        near[rows, :n] = np.minimum(values, 1)
    return found, near


def _meaning(name: str) -> _Meaning:
    """What a name means and is a kind of, each with its weight; nothing where WordNet has none."""
    known = class_words(name)
    weights: _Meaning = {}
    for sense in known.senses[:_SENSES] if known else ():
        weights[sense.lemmas] = 1.0
        for lemmas, steps in sense.hypernyms:
            weights[lemmas] = max(weights.get(lemmas, 0.0), _DECAY**steps)
    return weights


def _rows(
    meanings: Sequence[_Meaning], rarity: Mapping[tuple[str, ...], float]
) -> sparse.csr_array:
    """Unit rows (n, number of names), sparse; what no word of the vocabulary means is left out."""
    column = {name: i for i, name in enumerate(rarity)}
    entries = [
        (row, column[name], weight * rarity[name])
        for row, meaning in enumerate(meanings)
        for name, weight in meaning.items()
        if name in rarity
    ]
    rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
    matrix = sparse.csr_array(
        (np.array(values, dtype=np.float32), (np.array(rows, int), np.array(columns, int))),
        shape=(len(meanings), len(column)),
    )
    norm = np.sqrt(matrix.power(2).sum(axis=1))
    return sparse.diags_array(1 / np.maximum(norm, _TINY)) @ matrix
