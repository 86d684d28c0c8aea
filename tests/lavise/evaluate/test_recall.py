import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.evaluate.overlap import Overlap
from lavise.evaluate.recall import CUTS, Pairs, RecallCounts, find_pairs, ranks, wrong_pairs


def random_pairs(rng: np.random.Generator, C: int, K: int) -> Pairs:
    n = int(rng.integers(1, C + 1))
    right = rng.random((n, K)) < 0.4
    right[np.arange(n), rng.integers(0, K, n)] = True
    return Pairs(rng.permutation(C)[:n], right)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), K=st.integers(1, 6), images=st.integers(1, 4))
def test_recall_is_the_mean_share_of_right_answers(seed: int, K: int, images: int) -> None:
    rng = np.random.default_rng(seed)
    C, n_words = 5, 40
    words = rng.integers(0, n_words, K)  # two categories may share a word
    groups = {"all": np.ones(K, dtype=bool), "seen": rng.random(K) < 0.5}
    counts = RecallCounts(C, groups)
    shares: dict[tuple[str, int], list[float]] = {(g, k): [] for g in groups for k in CUTS}
    for _ in range(images):
        pairs = random_pairs(rng, C, K)
        said = np.stack([rng.permutation(n_words)[:20] for _ in pairs.filters])
        said[rng.random(len(said)) < 0.2] = -1
        counts.update(pairs, ranks(said, words))
        for row in range(len(said)):
            for name, group in groups.items():
                right = [c for c in range(K) if pairs.right[row, c] and group[c]]
                for k in CUTS:
                    best = said[row, :k].tolist()
                    if right:
                        found = sum(int(words[c]) in best for c in right)
                        shares[name, k].append(found / len(right))
    for name in groups:
        assert counts.pairs[name].sum() == len(shares[name, 1])
        for place, k in enumerate(CUTS):
            assert counts.hits[name][:, place].sum() == pytest.approx(sum(shares[name, k]))


def test_pairs_are_what_overlaps_enough() -> None:
    found = Overlap(
        filters=np.array([3, 7, 9]),
        area=np.array([100.0, 100.0, 100.0]),
        masks=np.array([100.0, 100.0, 50.0]),
        # IoU above, exactly at and below 0.04: 8 / 192 = .0417, 200 * .04 / 1.04 = 7.69
        both=np.array([[8.0, 0.0, 50.0], [7.0, 8.0, 0.0], [0.0, 7.0, 50.0]]),
    )
    pairs = find_pairs(found, np.array([0, 0, -1]), 2)
    assert pairs.filters.tolist() == [3, 7]
    assert pairs.right.tolist() == [[True, False], [True, False]]


def test_no_region_makes_no_pair() -> None:
    found = Overlap(np.array([1]), np.array([5.0]), np.zeros(0), np.zeros((1, 0)))
    assert find_pairs(found, np.zeros(0, dtype=np.int64), 3).filters.size == 0


def test_wrong_pairs_lose_or_gain_answers() -> None:
    rng = np.random.default_rng(0)
    pairs = random_pairs(rng, 30, 40)
    wrong = wrong_pairs(pairs, rng)
    missing, extra = wrong["missing_labels"].right, wrong["extra_labels"].right
    assert not (missing & ~pairs.right).any()
    lost = (pairs.right & ~missing).any(axis=0)
    assert not (missing & lost).any(), "an image's label is missing for all filters or for none"
    assert 0 < lost.sum() < 40
    assert (extra & pairs.right).sum() == pairs.right.sum()
    added = (extra & ~pairs.right).sum(axis=1)
    room = (~pairs.right).sum(axis=1)
    assert added.tolist() == np.minimum(pairs.right.sum(axis=1), room).tolist()
