import numpy as np
from scipy import stats

from lavise.evaluate.bootstrap import Bootstrap


def test_intervals_are_scipys() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(1, 30, 300).astype(float)
    part = rng.binomial(whole.astype(int), rng.beta(2, 3, 300)).astype(float)
    found = Bootstrap(300, seed=0).ratio(part, whole)
    expected = stats.bootstrap(
        (part, whole),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=4000,
        method="percentile",
        rng=1,
    ).confidence_interval
    assert found.value == part.sum() / whole.sum()
    np.testing.assert_allclose([found.low, found.high], expected, atol=0.006)


def test_intervals_hold_what_they_say() -> None:
    """Of 200 samples of 60 filters, some 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(2)
    held = 0
    for seed in range(200):
        found = Bootstrap(60, seed=seed).mean(rng.exponential(size=60))
        held += found.low <= 1.0 <= found.high
    assert 0.87 * 200 <= held <= 0.99 * 200


def test_filters_without_a_number_do_not_count() -> None:
    nan = float("nan")
    boot = Bootstrap(4, seed=0)
    assert boot.mean(np.array([0.5, nan, 0.5, nan])).value == 0.5
    nothing = boot.mean(np.full(4, nan))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    alone = boot.mean(np.array([nan, 0.3, nan, nan]))
    np.testing.assert_allclose([alone.value, alone.low, alone.high], 0.3)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(50)
    assert Bootstrap(50, seed=3).mean(values) == Bootstrap(50, seed=3).mean(values)
