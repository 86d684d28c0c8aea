import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lavise import filter_tests
from lavise.filter_tests import compare_activations, rate_difference
from lavise.profile import Profile
from tests.profiles import make_profile


def with_activation(activation: np.ndarray) -> Profile:
    return make_profile(activation=activation.astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(
    n_a=st.integers(2, 9),
    n_b=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    flavour=st.sampled_from(["plain", "ties", "dead", "saturated"]),
)
def test_auroc_is_the_share_of_pairs(n_a: int, n_b: int, seed: int, flavour: str) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n_a, 3)), rng.normal(size=(n_b, 3))
    if flavour == "ties":
        x, y = x.round(), y.round()
    elif flavour == "dead":
        x[:, 1] = y[:, 1] = 0
    elif flavour == "saturated":
        x, y = np.clip(9 * x, 0, 6), np.clip(9 * y, 0, 6)
    x, y = x.astype(np.float32), y.astype(np.float32)
    found = compare_activations(with_activation(x), with_activation(y))
    for f in range(3):
        pairs = [
            1.0 if one > other else 0.5 if one == other else 0.0
            for one, other in itertools.product(x[:, f].tolist(), y[:, f].tolist())
        ]
        assert found.auroc[f] == pytest.approx(sum(pairs) / len(pairs))
        if len({*x[:, f].tolist(), *y[:, f].tolist()}) == 1:
            assert found.p_value[f] == 1
        else:
            alone = stats.mannwhitneyu(x[:, f], y[:, f], method="asymptotic").pvalue
            assert found.p_value[f] == pytest.approx(alone)
    ordered = np.sort(found.p_value)
    expected = np.minimum.accumulate((ordered * 3 / np.arange(1, 4))[::-1])[::-1].clip(max=1)
    np.testing.assert_allclose(np.sort(found.q_value), expected)


def test_filters_a_few_at_a_time_are_what_they_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (with_activation(rng.normal(size=(n, 7)).round(1)) for n in (5, 6))
    whole = compare_activations(a, b)
    monkeypatch.setattr(filter_tests, "_VALUES_AT_ONCE", 2 * 11)
    found = compare_activations(a, b)
    np.testing.assert_allclose(found.auroc, whole.auroc)
    np.testing.assert_allclose(found.q_value, whole.q_value)


@pytest.mark.parametrize(
    ("hits_a", "n_a", "hits_b", "n_b", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_newcombes_own_examples(
    hits_a: int, n_a: int, hits_b: int, n_b: int, low: float, high: float
) -> None:
    difference, found_low, found_high = rate_difference(
        np.array([hits_a]), n_a, np.array([hits_b]), n_b
    )
    assert difference[0] == pytest.approx(hits_a / n_a - hits_b / n_b)
    assert found_low[0] == pytest.approx(low, abs=6e-5)
    assert found_high[0] == pytest.approx(high, abs=6e-5)


@given(n=st.integers(1, 500), share=st.floats(0, 1))
def test_one_rate_against_a_sure_zero_is_wilsons(n: int, share: float) -> None:
    hits = round(share * n)
    _, low, _ = rate_difference(np.array([hits]), n, np.array([0]), 10**9)
    wilson = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert low[0] == pytest.approx(wilson.low, abs=1e-6)
