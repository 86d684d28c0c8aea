"""Nearness by WordNet, against plain loops."""

import math

import numpy as np
import pytest

from lavise.kin import kin_words
from lavise.wordnet import class_words

WORDS = ["tiger", "leopard", "spoon", "fork", "oak", "xq7", "car", "truck", "crane"]
NOTHING = np.zeros(0, dtype=np.int64)


def meaning(name: str) -> dict[tuple[str, ...], float]:
    found = class_words(name)
    weights: dict[tuple[str, ...], float] = {}
    for sense in found.senses[:3] if found else ():
        weights[sense.lemmas] = 1.0
        for lemmas, steps in sense.hypernyms:
            weights[lemmas] = max(weights.get(lemmas, 0.0), 0.8**steps)
    return weights


def nearness(one: str, other: str) -> float:
    held = [meaning(word) for word in WORDS]
    rarity: dict[tuple[str, ...], float] = {}
    for name in {name for each in held for name in each}:
        rarity[name] = math.log(len(WORDS) / sum(name in each for each in held))
    a, b = ({n: w * rarity[n] for n, w in meaning(x).items() if n in rarity} for x in (one, other))
    lengths = [math.sqrt(sum(w * w for w in each.values())) for each in (a, b)]
    shared = sum(weight * b[name] for name, weight in a.items() if name in b)
    return shared / (lengths[0] * lengths[1]) if all(lengths) else 0.0


@pytest.mark.parametrize(
    "concept", ["tiger", "lion", "minivan", "ladle", "tree", "xq8", "ice bear"]
)
def test_the_nearest_come_first(concept: str) -> None:
    [found], [near] = kin_words([concept], WORDS, NOTHING, len(WORDS) + 2)
    expected = {i: nearness(concept, word) for i, word in enumerate(WORDS)}
    kin = found[found >= 0]
    assert set(kin.tolist()) == {i for i, s in expected.items() if s > 0}
    assert (np.diff(near) <= 0).all()
    np.testing.assert_allclose(near[: kin.size], [expected[i] for i in kin.tolist()], atol=1e-5)
    assert not near[kin.size :].any()
    assert (found[kin.size :] == -1).all()


def test_words_that_name_a_concept_are_nobodys_kin() -> None:
    [found], _ = kin_words(["lion"], WORDS, np.array([0, -1]), 1)
    assert found.tolist() == [WORDS.index("leopard")]


@pytest.mark.parametrize("n_concepts", [0, 1, 70])
def test_any_number_of_concepts_and_no_word(n_concepts: int) -> None:
    found, near = kin_words(["cat"] * n_concepts, WORDS, NOTHING, 2)
    assert found.shape == near.shape == (n_concepts, 2)
    assert (found == found[:1]).all()
    none, _ = kin_words(["cat"] * n_concepts, [], NOTHING, 2)
    assert (none == -1).all()
    assert none.shape == (n_concepts, 2)
