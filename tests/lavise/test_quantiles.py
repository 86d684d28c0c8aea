import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.quantiles import RELATIVE_ERROR, CellHistogram

LOWEST = 2.0**-24
DRAWS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "positive": lambda rng, n: rng.exponential(size=n),
    "wide": lambda rng, n: 10 ** rng.uniform(-6, 6, n),
    "ceiling": lambda rng, n: np.clip(10 * rng.normal(size=n), 0, 6),
    "sparse": lambda rng, n: np.where(rng.random(n) < 0.01, rng.random(n), 0),
    "constant": lambda rng, n: np.full(n, rng.uniform(0.1, 9)),
    "zero": lambda _, n: np.zeros(n),
    "negative": lambda rng, n: -rng.random(n),
    "integers": lambda rng, n: rng.integers(0, 4, n),
}


def cells(rng: np.random.Generator, shape: tuple[int, ...], draw: str) -> np.ndarray:
    return DRAWS[draw](rng, int(np.prod(shape))).reshape(shape).astype(np.float32)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    draw=st.sampled_from(sorted(DRAWS)),
    batches=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    C=st.integers(1, 4),
    N=st.integers(1, 60),
    q=st.sampled_from([0.0, 0.5, 0.9, 0.995, 1.0]),
)
def test_quantile_is_within_the_stated_error(
    seed: int, draw: str, batches: list[int], C: int, N: int, q: float
) -> None:
    rng = np.random.default_rng(seed)
    parts = [cells(rng, (B, C, N), draw) for B in batches]
    histogram = CellHistogram(C)
    for part in parts:
        histogram.update(part)

    found = histogram.quantile(q)

    whole = np.concatenate(parts).transpose(1, 0, 2).reshape(C, -1)
    exact = np.quantile(whole, q, axis=1, method="inverted_cdf")
    for f in range(C):
        if exact[f] <= LOWEST:
            assert found[f] == 0
        else:
            assert found[f] == pytest.approx(exact[f], rel=RELATIVE_ERROR * (1 + 1e-6))
        assert found[f] <= max(0, whole[f].max())


@pytest.mark.parametrize("ceiling", [1.0, 6.0, 0.3, 5.9, 20.0])
def test_ceiling_is_exact(ceiling: float) -> None:
    """Were it a hair lower, every saturated image would count as qualified."""
    rng = np.random.default_rng(0)
    histogram = CellHistogram(2)
    for _ in range(5):
        some = np.minimum(ceiling * rng.exponential(size=(4, 2, 100)), ceiling).astype(np.float32)
        histogram.update(some)
    assert (histogram.quantile(0.995) == np.float32(ceiling)).all()


def test_a_new_maximum_takes_over_from_the_old() -> None:
    histogram = CellHistogram(1)
    histogram.update(np.full((1, 1, 99), 3.0, dtype=np.float32))
    histogram.update(np.full((1, 1, 1), 3.001, dtype=np.float32))
    assert histogram.quantile(1.0) == np.float32(3.001)
    assert histogram.quantile(0.5) == pytest.approx(3.0, rel=RELATIVE_ERROR)


def test_share_above_the_threshold() -> None:
    """What T_f is for: 0.5 % of the cells exceed it, give or take the error of the value."""
    rng = np.random.default_rng(1)
    histogram = CellHistogram(1)
    values = rng.exponential(size=(50, 1, 4000)).astype(np.float32)
    histogram.update(values)
    assert np.mean(values > histogram.quantile(0.995)) == pytest.approx(0.005, rel=0.06)


def test_memory_does_not_grow() -> None:
    def held(histogram: CellHistogram) -> int:
        return sum(sys.getsizeof(value) for value in vars(histogram).values())

    rng = np.random.default_rng(0)
    histogram = CellHistogram(3)
    before = held(histogram)
    for _ in range(50):
        histogram.update(cells(rng, (2, 3, 49), "wide"))
    assert held(histogram) == before


def test_nothing_seen_is_zero() -> None:
    assert CellHistogram(2).quantile(0.995).tolist() == [0, 0]


def test_input_may_be_a_strided_view() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 12, 1)
    histogram = CellHistogram(3)
    histogram.update(values[:, ::4])
    assert histogram.quantile(1.0).tolist() == [12, 16, 20]
