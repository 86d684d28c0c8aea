import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from lavise.evaluate.label_metrics import auroc, average_precision, best_f1, correlation
from tests.lavise.evaluate import oracles


def drawn(seed: int, n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """(F, n) activations of a kind and labels with at least one of each."""
    rng = np.random.default_rng(seed)
    activation = rng.normal(size=(4, n)).astype(np.float32)
    if kind == "relu":
        activation = np.maximum(activation, 0)
    elif kind == "steps":
        activation = rng.integers(-2, 3, (4, n)).astype(np.float32)
    label = rng.random((4, n)) < 0.3
    label[:, 0], label[:, 1] = True, False
    return activation, label


KINDS = st.sampled_from(["normal", "relu", "steps"])
SIZES = st.integers(2, 40)
SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, n=SIZES, kind=KINDS)
def test_average_precision_is_scikit_learns(seed: int, n: int, kind: str) -> None:
    activation, label = drawn(seed, n, kind)
    expected = [
        metrics.average_precision_score(y, a) for a, y in zip(activation, label, strict=True)
    ]
    np.testing.assert_allclose(average_precision(activation, label), expected)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, n=SIZES, kind=KINDS)
def test_auroc_is_scikit_learns(seed: int, n: int, kind: str) -> None:
    activation, label = drawn(seed, n, kind)
    expected = [metrics.roc_auc_score(y, a) for a, y in zip(activation, label, strict=True)]
    np.testing.assert_allclose(auroc(activation, label), expected)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, n=SIZES, kind=KINDS)
def test_correlation_is_point_biserial(seed: int, n: int, kind: str) -> None:
    activation, label = drawn(seed, n, kind)
    activation[:, 0] += 1e-2  # not constant
    found = correlation(activation, label)
    for row, (a, y) in enumerate(zip(activation, label, strict=True)):
        if a.max() == a.min():
            assert math.isnan(found[row])
            continue
        exact = a.astype(float).tolist()
        assert found[row] == pytest.approx(oracles.point_biserial(exact, y.tolist()), abs=1e-9)
        assert found[row] == pytest.approx(stats.pointbiserialr(y, a).statistic, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS, n=SIZES, m=SIZES, kind=KINDS)
def test_f1_takes_the_best_threshold_of_the_other_images(
    seed: int, n: int, m: int, kind: str
) -> None:
    chosen, measured = drawn(seed, n, kind), drawn(seed ^ 1, m, kind)
    found = best_f1(chosen, measured)
    for row in range(len(found)):
        a, y = chosen[0][row].tolist(), chosen[1][row].tolist()
        # Of thresholds that are as good as each other, the highest.
        tried = sorted(set(a), reverse=True)
        best = max(tried, key=lambda t: (round(oracles.f1_at(a, y, t), 12), t))
        expected = oracles.f1_at(measured[0][row].tolist(), measured[1][row].tolist(), best)
        assert found[row] == pytest.approx(expected)
        assert expected == pytest.approx(
            metrics.f1_score(measured[1][row], measured[0][row] >= best, zero_division=0)
        )


@pytest.mark.parametrize("label", [[True] * 5, [False] * 5], ids=["all", "none"])
def test_one_sided_labels_have_no_score(label: list[bool]) -> None:
    activation = np.arange(5, dtype=np.float32)[None]
    y = np.array([label])
    fine = np.array([[True, False, True, False, True]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for metric in (average_precision, auroc, correlation):
            assert np.isnan(metric(activation, y)).all()
        assert np.isnan(best_f1((activation, y), (activation, fine))).all()
        assert np.isnan(best_f1((activation, fine), (activation, y))).all()


def test_a_dead_filter_correlates_with_nothing() -> None:
    dead = np.full((1, 4), 0.1, dtype=np.float32)
    label = np.array([[True, False, False, False]])
    assert np.isnan(correlation(dead, label)).all()
    assert average_precision(dead, label).tolist() == [0.25]
    assert auroc(dead, label).tolist() == [0.5]
