import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.mapper import MapperWeights
from lavise.word_scores import Spoken, WordScores, named_words
from lavise.words import WordVectors
from tests.lavise.test_words_graph import draw_words
from tests.oracle import MAPPER_KINDS, random_mapper, strange_words, word_scores


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(MAPPER_KINDS),
    rows=st.integers(1, 4),
    n_words=st.integers(1, 30),
)
def test_fast_form_agrees_with_the_equation(seed: int, kind: str, rows: int, n_words: int) -> None:
    rng = np.random.default_rng(seed)
    mapper = random_mapper(rng, 5, 6, kind)
    vocabulary = draw_words(rng, mapper, n_words, 6)
    features = (3 * rng.normal(size=(rows, 5))).astype(np.float32)
    found = WordScores.of(mapper, strange_words(vocabulary))(features)
    for row in range(rows):
        expected = word_scores(mapper, features[row].astype(float).tolist(), vocabulary)
        np.testing.assert_allclose(found[row], expected, atol=2e-3)


def test_a_concept_is_named_by_the_nearest_word() -> None:
    vocabulary = np.array([[1, 0], [0, 1], [0.8, 0.6]], dtype=np.float32)
    E = np.array([[1, 0], [0.9, 0.436], [-1, 0], [0, 0], [0, 1]], dtype=np.float32)
    assert named_words(E, vocabulary).tolist() == [0, 2, -1, -1, 1]
    assert named_words(np.zeros((0, 2), dtype=np.float32), vocabulary).tolist() == []


def test_many_concepts_are_named_in_parts() -> None:
    rng = np.random.default_rng(0)
    vocabulary = np.eye(200, dtype=np.float32)
    order = rng.permutation(200)
    assert named_words(vocabulary[order], vocabulary).tolist() == order.tolist()


def test_a_sure_concept_scores_one_and_the_second_best_comes_next() -> None:
    """The word of the second best concept beats the neighbours of the best one."""
    mapper = random_mapper(np.random.default_rng(0), 2, 3, "own")
    mapper.E.resize((2, 3), refcheck=False)
    object.__setattr__(mapper, "n_own", 2)
    object.__setattr__(mapper, "W_first", np.eye(2, dtype=np.float32))
    object.__setattr__(mapper, "b_first", np.zeros(2, dtype=np.float32))
    object.__setattr__(mapper, "E", np.eye(3, dtype=np.float32)[:2])
    object.__setattr__(mapper, "concepts", ("one", "other"))
    neighbour = np.array([0.95, 0.0, np.sqrt(1 - 0.95**2)])
    vocabulary = np.stack([*np.eye(3)[:2], neighbour]).astype(np.float32)
    p = 1 / (1 + np.exp(-0.5))
    [scores] = WordScores.of(mapper, strange_words(vocabulary))(
        np.array([[0.5, 0.0]], dtype=np.float32)
    )
    assert np.argsort(-scores).tolist() == [0, 1, 2]
    assert scores[1] == pytest.approx(1 + 0.05 * np.log(1 - p), abs=1e-5)


def draw_kin(
    rng: np.random.Generator, mapper: MapperWeights, vocabulary: np.ndarray
) -> tuple[Spoken, list[dict[int, float]]]:
    """What concepts speak for, some kin drawn among it, and those kin with their nearness."""
    spoken = Spoken.by(mapper.E, mapper.concepts, strange_words(vocabulary))
    drawn: list[dict[int, float]] = []
    for c in range(len(spoken.word)):
        n = int(rng.integers(0, min(spoken.word.shape[1] - 1, len(vocabulary)) + 1))
        words = rng.choice(len(vocabulary), n, replace=False)
        near = rng.uniform(0.01, 1, n)
        spoken.word[c, 1 : n + 1] = words
        spoken.handicap[c, 1 : n + 1] = -0.1 * (1 - np.log(near))
        drawn.append(dict(zip(words.tolist(), near.tolist(), strict=True)))
    return spoken, drawn


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(MAPPER_KINDS),
    n_words=st.integers(1, 30),
)
def test_kin_are_spoken_for_as_the_equation_says(seed: int, kind: str, n_words: int) -> None:
    rng = np.random.default_rng(seed)
    mapper = random_mapper(rng, 5, 6, kind)
    vocabulary = draw_words(rng, mapper, n_words, 6)
    spoken, kin = draw_kin(rng, mapper, vocabulary)
    features = (3 * rng.normal(size=(2, 5))).astype(np.float32)
    found = WordScores(mapper, vocabulary, spoken)(features)
    for row in range(2):
        expected = word_scores(mapper, features[row].astype(float).tolist(), vocabulary, kin)
        np.testing.assert_allclose(found[row], expected, atol=2e-3)


def test_relatives_by_wordnet_are_spoken_for() -> None:
    vocabulary = WordVectors(["tiger", "leopard", "spoon"], np.eye(3, 4, dtype=np.float32))
    mapper = random_mapper(np.random.default_rng(0), 2, 4, "own")
    object.__setattr__(mapper, "E", np.eye(1, 4, dtype=np.float32))
    object.__setattr__(mapper, "concepts", ("tiger",))
    spoken = Spoken.by(mapper.E, mapper.concepts, vocabulary)
    assert spoken.word[0, :2].tolist() == [0, 1]
    assert spoken.handicap[0, 0] == 0
    assert -0.5 < spoken.handicap[0, 1] < -0.1
    assert (spoken.handicap[0, 2:] <= -10).all()
