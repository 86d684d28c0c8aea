import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise import filter_words
from lavise.attention import attention_rows
from lavise.catalog import TOP_IMAGES, LayerStatistics
from lavise.filter_words import N_WORDS, VOTE_TEMPERATURE, describe, votes
from lavise.manifest import LayerEntry
from lavise.mapper import MapperWeights
from lavise.progress import silent
from lavise.word_scores import WordScores
from lavise.words import WordVectors
from tests.oracle import MAPPER_KINDS, random_mapper, strange_words, unit_rows, word_scores

C, D, V = 60, 8, 40
N_PROBE = 600


def draw_vocabulary(rng: np.random.Generator, n_words: int = V) -> WordVectors:
    return strange_words(unit_rows(rng.normal(size=(n_words, D))))


def draw_probe(rng: np.random.Generator, *, shared: bool) -> np.ndarray:
    """(n, C, N) feature maps behind a ReLU; filters are alike where they share their causes."""
    maps = rng.normal(size=(N_PROBE, C, 9))
    if shared:
        causes = rng.normal(size=(N_PROBE, 6)) @ rng.normal(size=(6, C))
        maps += causes[:, :, None]
    return np.maximum(maps, 0).astype(np.float32)


def statistics_of(
    rng: np.random.Generator, maps: np.ndarray, top: list[np.ndarray]
) -> LayerStatistics:
    """What a stream would have left, had it found these top images."""
    found = LayerStatistics(LayerEntry(name="layer", channels=C, height=3, width=3))
    found.images = len(maps)
    found.sample[:] = maps[rng.choice(len(maps), len(found.sample), replace=False)]
    for f, images in enumerate(top):
        rows = attention_rows(maps[images, f])
        n = len(images)
        found.attended[f, :n] = np.einsum("pn,pcn->pc", rows, maps[images])
        found.image[f, :n] = images
        found.activation[f, :n] = maps[images, f].max(1)
    return found


def random_tops(rng: np.random.Generator, maps: np.ndarray, n: int) -> list[np.ndarray]:
    active = maps.max(2) > 0
    return [rng.choice(np.flatnonzero(active[:, f]), n, replace=False) for f in range(C)]


def p_values(
    mapper: MapperWeights, vocabulary: WordVectors, found: LayerStatistics, seed: int
) -> np.ndarray:
    counts = (found.image >= 0).sum(axis=1)
    statistic = describe(mapper, vocabulary, found, seed=seed).statistic
    score = WordScores.of(mapper, vocabulary)
    _, null = filter_words._null_model(score, found, counts, seed, silent)
    return filter_words._p_values(statistic, null)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(MAPPER_KINDS),
    rows=st.integers(1, 3),
    n_words=st.integers(1, 12),
)
def test_votes_are_softmax_of_scores(seed: int, kind: str, rows: int, n_words: int) -> None:
    rng = np.random.default_rng(seed)
    mapper, vocabulary = random_mapper(rng, 5, D, kind), draw_vocabulary(rng, n_words)
    features = rng.normal(size=(rows, 5)).astype(np.float32)

    shares = votes(WordScores.of(mapper, vocabulary), features)

    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    for row in range(rows):
        scores = word_scores(mapper, features[row].astype(float).tolist(), vocabulary.vectors)
        raised = [math.exp(c / VOTE_TEMPERATURE) for c in scores]
        expected = np.array(raised) / sum(raised)
        np.testing.assert_allclose(shares[row], expected, rtol=0.02, atol=2e-3)


def test_a_vote_of_nothing_is_split_evenly() -> None:
    mapper = random_mapper(np.random.default_rng(0), 5, D, "own")
    mapper.E[:] = 0
    score = WordScores.of(mapper, draw_vocabulary(np.random.default_rng(0)))
    shares = votes(score, np.ones((2, 5), dtype=np.float32))
    np.testing.assert_allclose(shares, 1 / V, rtol=1e-5)


@pytest.mark.parametrize("n_words", [1, 3, N_WORDS, N_WORDS + 1, V])
def test_words_are_the_largest_shares_in_order(n_words: int) -> None:
    rng = np.random.default_rng(0)
    maps = draw_probe(rng, shared=True)
    mapper, vocabulary = random_mapper(rng, C, D, "both"), draw_vocabulary(rng, n_words)
    found = statistics_of(rng, maps, random_tops(rng, maps, 7))

    described = describe(mapper, vocabulary, found)

    for f in range(C):
        features = found.attended[f, :7].astype(np.float32)
        score = WordScores.of(mapper, vocabulary)
        shares = np.mean([votes(score, one[None])[0] for one in features], axis=0)
        words = described.words[f]
        assert len(words) == min(N_WORDS, n_words)
        np.testing.assert_allclose(
            [share for _, share in words], np.sort(shares)[::-1][: len(words)], rtol=1e-3
        )
        for word, share in words:
            assert share == pytest.approx(shares[word], rel=1e-3)


def test_statistic_is_the_divergence_from_what_is_said_of_anything() -> None:
    rng = np.random.default_rng(0)
    maps = draw_probe(rng, shared=True)
    mapper, vocabulary = random_mapper(rng, C, D, "both"), draw_vocabulary(rng)
    found = statistics_of(rng, maps, random_tops(rng, maps, 7))
    counts = np.full(C, 7)
    score = WordScores.of(mapper, vocabulary)
    background, _ = filter_words._null_model(score, found, counts, 0, silent)
    assert background.sum() == pytest.approx(1, abs=1e-5)

    statistic = describe(mapper, vocabulary, found, seed=0).statistic

    for f in range(C):
        shares = votes(score, found.attended[f, :7].astype(np.float32)).mean(axis=0)
        expected = sum(p * math.log(p / q) for p, q in zip(shares, background, strict=True) if p)
        assert statistic[f] == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["both", "regression"])
@pytest.mark.parametrize("n", [5, TOP_IMAGES])
def test_p_values_of_filters_without_meaning_are_uniform(
    n: int, kind: str, *, shared: bool
) -> None:
    """Filters whose top images are random ones: the share of p below a level is that level.

    60 filters of 4 layers make 240 p-values, whose share below .05 has a deviation of .014 where
    they are independent; filters of one layer are not, and their share varies twice as much.
    """
    values = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        maps = draw_probe(rng, shared=shared)
        mapper, vocabulary = random_mapper(rng, C, D, kind), draw_vocabulary(rng)
        found = statistics_of(rng, maps, random_tops(rng, maps, n))
        values.append(p_values(mapper, vocabulary, found, seed))
    p = np.concatenate(values)
    assert ((p > 0) & (p <= 1)).all()
    assert np.mean(p <= 0.05) <= 0.10
    assert np.mean(p <= 0.01) <= 0.04
    assert 0.3 <= np.mean(p <= 0.5) <= 0.7


def test_filters_that_agree_with_themselves_are_described() -> None:
    """Top images of one cause, the first of six, among filters with random ones."""
    rng = np.random.default_rng(0)
    cause = rng.integers(0, 6, N_PROBE)
    patterns = 6 * rng.random((6, C))
    maps = np.maximum(patterns[cause][:, :, None] + rng.normal(size=(N_PROBE, C, 9)), 0)
    maps = maps.astype(np.float32)
    vocabulary = draw_vocabulary(rng)
    W = (patterns - patterns.mean(axis=0)).T.astype(np.float32)  # a classifier of the causes
    none = np.zeros((0, 0), dtype=np.float32)
    b = np.zeros(6, dtype=np.float32)
    names = tuple(f"cause {i}" for i in range(6))
    mapper = MapperWeights(
        "concepts", 6, 0, W, b, none, none.ravel(), vocabulary.vectors[:6], names
    )
    top = random_tops(rng, maps, TOP_IMAGES)
    for f in range(10):
        top[f] = np.flatnonzero(cause == f % 6)[:TOP_IMAGES]

    described = describe(mapper, vocabulary, statistics_of(rng, maps, top))

    assert described.verdict[:10] == ["described"] * 10
    assert [words[0][0] for words in described.words[:10]] == [f % 6 for f in range(10)]
    assert described.verdict[10:].count("described") <= 2
    for verdict, q in zip(described.verdict, described.q_value, strict=True):
        assert (verdict == "described") == (q <= 0.05)


def test_q_values_are_benjamini_and_hochberg() -> None:
    rng = np.random.default_rng(5)
    maps = draw_probe(rng, shared=True)
    mapper, vocabulary = random_mapper(rng, C, D, "both"), draw_vocabulary(rng)
    found = statistics_of(rng, maps, random_tops(rng, maps, 6))
    p = p_values(mapper, vocabulary, found, seed=0).tolist()

    q_value = describe(mapper, vocabulary, found, seed=0).q_value

    for f in range(C):
        larger = [other for other in p if other >= p[f]]
        expected = min(other * C / sum(another <= other for another in p) for other in larger)
        assert q_value[f] == pytest.approx(min(1, expected))


@pytest.mark.parametrize("n", [0, 1, 4])
def test_few_images_say_nothing(n: int) -> None:
    rng = np.random.default_rng(0)
    maps = draw_probe(rng, shared=False)
    mapper, vocabulary = random_mapper(rng, C, D, "both"), draw_vocabulary(rng)
    top = random_tops(rng, maps, 30)
    top[3] = top[3][:n]

    described = describe(mapper, vocabulary, statistics_of(rng, maps, top))

    assert described.verdict[3] == "uninterpretable"
    assert described.q_value[3] == 1
    assert bool(described.words[3]) == (n > 0)


def test_a_layer_that_was_never_active() -> None:
    rng = np.random.default_rng(0)
    maps = np.zeros((N_PROBE, C, 9), dtype=np.float32)
    mapper, vocabulary = random_mapper(rng, C, D, "both"), draw_vocabulary(rng)
    nothing = [np.array([], dtype=np.int64)] * C
    described = describe(mapper, vocabulary, statistics_of(rng, maps, nothing))
    assert set(described.verdict) == {"uninterpretable"}
    assert described.words == [[]] * C
    assert (described.q_value == 1).all()


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    maps = draw_probe(rng, shared=False)
    mapper, vocabulary = random_mapper(rng, C, D, "both"), draw_vocabulary(rng)
    found = statistics_of(rng, maps, random_tops(rng, maps, 20))
    one, same, other = (describe(mapper, vocabulary, found, seed=s).q_value for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
