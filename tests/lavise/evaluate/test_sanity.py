import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lavise.evaluate.label_scores import SCORES, score_labels
from lavise.evaluate.sanity import got_worse, with_as_many_wrong, without_half


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 20))
def test_half_goes_and_as_many_come(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.random((5, n)) < rng.random()
    positives = label.sum(axis=1)
    fewer, more = without_half(label, rng), with_as_many_wrong(label, rng)
    assert not (fewer & ~label).any()
    assert fewer.sum(axis=1).tolist() == (positives // 2).tolist()
    assert not (label & ~more).any()
    assert more.sum(axis=1).tolist() == np.minimum(2 * positives, n).tolist()


def test_what_is_undefined_is_not_counted() -> None:
    nan = float("nan")
    before, after = np.array([0.5, 0.5, nan, 0.2]), np.array([0.4, 0.5, 0.1, nan])
    assert got_worse(before, after) == 0.5
    assert got_worse(np.array([nan]), np.array([0.1])) is None


def test_good_scores_fall_for_a_filter_that_knows_its_label() -> None:
    """The result of the paper: AUPRC, F1 and correlation pass, AUROC fails the first check."""
    rng = np.random.default_rng(0)
    n, C, K = 1200, 40, 8
    labels = rng.random((n, K)) < 0.1
    label = rng.integers(0, K, C)
    activation = (rng.random((n, C)) + 1.5 * labels[:, label]).astype(np.float32)
    label[-1] = -1
    found = score_labels(activation, labels, np.arange(n) % 2, label, seed=0)
    for name in SCORES:
        assert np.isnan(found.true[name][-1])
        assert (found.true[name][:-1] > 0.8).all()
        assert got_worse(found.true[name], found.extra_labels[name]) == 1.0
        missing = got_worse(found.true[name], found.missing_labels[name])
        assert missing is not None
        if name != "auroc":
            assert missing == 1.0
    # AUROC falls too, but hardly: what it loses is the few images that lost their label.
    assert np.nanmin(found.missing_labels["auroc"]) > 0.9
    assert np.nanmax(found.missing_labels["auprc"]) < 0.7


def test_f1_and_labels_are_chosen_on_one_half_alone() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random((60, 2)) < 0.5
    activation = rng.random((60, 1)).astype(np.float32)
    half = np.arange(60) % 2
    before = score_labels(activation, labels, half, np.array([0]), seed=0)
    changed = labels.copy()
    changed[half == 0] = rng.random((30, 2)) < 0.5
    after = score_labels(activation, changed, half, np.array([0]), seed=0)
    for name in ("auprc", "correlation", "auroc"):
        assert before.true[name] == after.true[name]
