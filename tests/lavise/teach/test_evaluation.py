from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.teach.evaluation import recall_at, skill
from lavise.words import WordVectors
from tests.oracle import cosines, unit_rows


def by_cosine(vocabulary: WordVectors) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mapped: np.asarray(mapped @ vocabulary.vectors.T)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 30), V=st.integers(1, 12))
def test_recall_is_counted_over_cosines(seed: int, n: int, V: int) -> None:
    rng = np.random.default_rng(seed)
    words = [f"word{i}" for i in range(V)]
    vocabulary = WordVectors(words, unit_rows(rng.normal(size=(V, 4))).astype(np.float32))
    mapped = rng.normal(size=(n, 4)).astype(np.float32)
    names = rng.choice([*words, "unknown"], n).tolist()

    found = recall_at(by_cosine(vocabulary), mapped, names, vocabulary, ks=(1, 3))

    hits = {1: 0, 3: 0}
    counted = 0
    for row, name in enumerate(names):
        if name == "unknown":
            continue
        counted += 1
        order = np.argsort(-cosines(mapped[row].astype(float).tolist(), vocabulary.vectors))
        for k in hits:
            hits[k] += words.index(name) in order[:k].tolist()
    if not counted:
        assert found == {}
        return
    assert found == {
        "recall@1": hits[1] / counted,
        "recall@3": hits[3] / counted,
        "examples": counted,
    }


def test_many_examples_are_counted_in_parts() -> None:
    vocabulary = WordVectors(["a", "b"], np.eye(2, dtype=np.float32))
    mapped = np.tile(np.array([[1.0, 0.1]], dtype=np.float32), (600, 1))
    found = recall_at(
        by_cosine(vocabulary), mapped, ["a"] * 300 + ["b"] * 300, vocabulary, ks=(1, 2)
    )
    assert found == {"recall@1": 0.5, "recall@2": 1.0, "examples": 600}


def test_nothing_held_out_is_nothing_known() -> None:
    vocabulary = WordVectors(["a"], np.ones((1, 1), dtype=np.float32))
    assert (
        recall_at(by_cosine(vocabulary), np.zeros((0, 1), dtype=np.float32), [], vocabulary) == {}
    )


def test_skill_is_what_is_left_beside_a_constant_answer() -> None:
    names = ["cat"] * 5 + ["dog"] * 3 + ["owl", "bee"]  # always cat and dog: .8
    assert skill(0.8, names, 2) == pytest.approx(0.0)
    assert skill(1.0, names, 2) == pytest.approx(1.0)
    assert skill(0.9, names, 2) == pytest.approx(0.5)
    assert skill(0.0, names, 2) == pytest.approx(-4.0)
    assert skill(0.3, names, 4) is None
