"""What can be a right answer: the categories of a dataset that a bundle has a word for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lavise.errors import DatasetError
from lavise.teach.annotation import held_out_categories

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lavise.manifest import MapperEntry


@dataclass(frozen=True)
class Answers:
    """What can be a right answer. K categories.

    Attributes:
        names: Of the categories.
        words: (K,) word ids that stand for them.
        by_word: Word id to category; the first where several share a word.
        outside: Categories without a word: nobody can answer with them.
        groups: Name to (K,) bool: ``all``; ``seen`` and ``unseen`` in teaching.
        notes: What a reader must know of the groups.
    """

    names: tuple[str, ...]
    words: np.ndarray
    by_word: Mapping[int, int]
    outside: tuple[str, ...]
    groups: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


def find_answers(
    categories: Sequence[str],
    vocabulary: Sequence[str],
    mappers: Sequence[MapperEntry],
    *,
    unseen: float | None,
    seed: int,
) -> Answers:
    """Finds the categories' words, and which of them teaching has seen.

    Args:
        categories: Of the dataset.
        vocabulary: Words by id.
        mappers: Of the bundle: what any of them was taught counts as seen.
        unseen: The share of categories that teaching was to hold out, by this seed: only these
            then count as unseen, and only where no mapper was taught on them. None takes all that
            no mapper was taught on.
        seed: Of that draw.

    Returns:
        The answers.

    Raises:
        DatasetError: No category has a word.
        RequestError: The share is outside 0 to 1.
    """
    word_id = {word: i for i, word in enumerate(vocabulary)}
    found = {c: word_id.get(c, word_id.get(c.lower(), -1)) for c in dict.fromkeys(categories)}
    names = tuple(c for c, word in found.items() if word >= 0)
    if not names:
        raise DatasetError(
            f"none of the {len(found)} categories of the dataset is a word of the bundle's "
            f"vocabulary{_such_as(tuple(found))}; teach with --vocabulary file:PATH that names "
            "them, or rename the categories",
            field="dataset",
        )
    concepts = {concept.casefold() for mapper in mappers for concept in mapper.concepts}
    taught = np.array([name.casefold() in concepts for name in names])
    never = ~taught
    notes: list[str] = []
    if unseen is not None:
        drawn = held_out_categories(categories, unseen, seed=seed)
        held_out = np.array([name in drawn for name in names])
        never = held_out & ~taught
        notes += _notes(len(drawn), int((held_out & taught).sum()), int(never.sum()))
    words = np.array([found[name] for name in names], dtype=np.int64)
    return Answers(
        names=names,
        words=words,
        by_word={int(word): i for i, word in reversed(list(enumerate(words)))},
        outside=tuple(c for c, word in found.items() if word < 0),
        groups={"all": np.ones(len(names), dtype=bool), "seen": taught, "unseen": never},
        notes=tuple(notes),
    )


def _notes(drawn: int, taught: int, never: int) -> list[str]:
    """Whether what was to be held out had been."""
    note = ""
    if not never:
        note = (
            f"Nothing is unseen: of the {drawn} categories to hold out, the bundle was taught on "
            "every one that its vocabulary has. Teach without them to measure unseen categories."
        )
    elif taught:
        note = (
            f"{taught} of the {drawn} categories to hold out were taught all the same, and count "
            f"as seen; {never} are unseen."
        )
    return [note] if note else []


def _such_as(categories: tuple[str, ...]) -> str:
    return f", such as {categories[0]!r}" if categories else ""
