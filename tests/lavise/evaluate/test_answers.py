import numpy as np
import pytest

from lavise.errors import DatasetError
from lavise.evaluate.answers import find_answers
from lavise.manifest import MapperEntry
from lavise.teach.annotation import held_out_categories

VOCABULARY = ["cat", "dog", "tv", "sofa", "lamp"]


def mapper(*concepts: str) -> MapperEntry:
    return MapperEntry(
        layer="body",
        form="concepts",
        datasets=("demo",),
        n_own=0,
        n_hidden=4,
        concepts=concepts,
        loss="cross-entropy",
        seed=0,
    )


def test_categories_are_words_as_written_or_in_lower_case() -> None:
    found = find_answers(
        ["dog", "TV", "tv", "traffic light", "cat"], VOCABULARY, [], unseen=None, seed=0
    )
    assert found.names == ("dog", "TV", "tv", "cat")
    assert found.words.tolist() == [1, 2, 2, 0]
    assert found.by_word == {1: 0, 2: 1, 0: 3}
    assert found.outside == ("traffic light",)
    assert found.groups["unseen"].all()


def test_what_any_mapper_was_taught_is_seen() -> None:
    mappers = [mapper("Dog"), mapper("sofa")]
    found = find_answers(VOCABULARY, VOCABULARY, mappers, unseen=None, seed=0)
    assert found.groups["seen"].tolist() == [False, True, False, True, False]
    assert np.array_equal(found.groups["unseen"], ~found.groups["seen"])
    assert found.notes == ()


def test_unseen_are_those_held_out_and_not_taught() -> None:
    drawn = held_out_categories(VOCABULARY, 0.4, seed=3)
    one, other = sorted(drawn)
    kept = [name for name in VOCABULARY if name not in drawn]
    found = find_answers(VOCABULARY, VOCABULARY, [mapper(*kept, one)], unseen=0.4, seed=3)
    assert [n for n, is_in in zip(found.names, found.groups["unseen"], strict=True) if is_in] == [
        other
    ]
    assert found.notes[0].startswith("1 of the 2 categories to hold out were taught all the same")
    clean = find_answers(VOCABULARY, VOCABULARY, [mapper(*kept)], unseen=0.4, seed=3)
    assert clean.groups["unseen"].sum() == 2
    assert clean.notes == ()


def test_nothing_unseen_is_said_plainly() -> None:
    found = find_answers(VOCABULARY, VOCABULARY, [mapper(*VOCABULARY)], unseen=0.4, seed=0)
    assert found.notes[0].startswith("Nothing is unseen")
    assert not found.groups["unseen"].any()


def test_no_word_for_any_category() -> None:
    with pytest.raises(DatasetError, match="such as 'traffic light'"):
        find_answers(["traffic light"], VOCABULARY, [], unseen=None, seed=0)
    with pytest.raises(DatasetError, match="none of the 0 categories"):
        find_answers([], VOCABULARY, [], unseen=None, seed=0)
