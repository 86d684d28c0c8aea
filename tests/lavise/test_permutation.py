import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.errors import RequestError
from lavise.permutation import max_t


def slow(
    a: np.ndarray, b: np.ndarray, permutations: int, seed: int
) -> tuple[list[float], list[float]]:
    """Differences and p-values of all columns, in double precision and plain loops."""
    rng = np.random.default_rng(seed)
    n_a, n = len(a), len(a) + len(b)
    rows = np.concatenate([a, b]).astype(np.float64)

    def differences(chosen: set[int]) -> list[float]:
        return [
            sum(rows[i][v] for i in chosen) / n_a
            - sum(rows[i][v] for i in range(n) if i not in chosen) / (n - n_a)
            for v in range(rows.shape[1])
        ]

    observed = differences(set(range(n_a)))
    largest = [
        max(abs(d) for d in differences(set(rng.permutation(n)[:n_a].tolist())))
        for _ in range(permutations)
    ]
    p_values = [
        (1 + sum(top >= abs(d) * (1 - 1e-5) for top in largest)) / (permutations + 1)
        for d in observed
    ]
    return observed, p_values


@settings(max_examples=25, deadline=None)
@given(
    n_a=st.integers(1, 7),
    n_b=st.integers(1, 7),
    columns=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    flavour=st.sampled_from(["uniform", "ties", "constant", "skewed", "shifted"]),
)
def test_fast_form_agrees_with_the_definition(
    n_a: int, n_b: int, columns: int, seed: int, flavour: str
) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.random((n_a, columns)), rng.random((n_b, columns))
    if flavour == "ties":
        a, b = a.round(), b.round()
    elif flavour == "constant":
        a[:], b[:] = 0.25, 0.25
    elif flavour == "skewed":
        a, b = a**12, b**12
    elif flavour == "shifted":
        a += 1000.0
        b += 1000.0
    a, b = a.astype(np.float16), b.astype(np.float16)
    found = max_t(a, b, level=0.2, permutations=19, seed=seed)
    differences, p_values = slow(a, b, 19, seed)
    np.testing.assert_allclose(found.difference, differences, atol=1e-5)
    # Rounding may decide whether a shuffle reaches a value that it exactly equals.
    assert np.abs(found.p_value - p_values).max() <= (0 if flavour == "uniform" else 1 / 20 + 1e-9)


def test_the_interval_leaves_out_zero_where_significant() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((60, 30)), rng.random((60, 30))
    a[:, 3] += 0.4
    found = max_t(a, b, level=0.025, permutations=999, seed=1)
    assert found.significant.tolist() == [v == 3 for v in range(30)]
    outside = np.abs(found.difference) > found.critical
    assert (outside == found.significant).all()
    assert found.p_value[3] == pytest.approx(1 / 1000)


def test_the_same_seed_gives_the_same_outcome() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((20, 5)), rng.random((30, 5))
    one, same, other = (
        max_t(a, b, level=0.05, permutations=200, seed=seed).p_value for seed in (7, 7, 8)
    )
    assert (one == same).all()
    assert (one != other).any()


def test_false_findings_stay_within_the_level() -> None:
    level, tries = 0.1, 300
    rng = np.random.default_rng(5)
    false = 0
    for seed in range(tries):
        # Heavy tails and correlated columns, as word scores have.
        shared = rng.random((40, 1)) ** 8
        scores = rng.random((40, 12)) ** 8 + shared
        found = max_t(scores[:20], scores[20:], level=level, permutations=199, seed=seed)
        false += bool(found.significant.any())
    assert false / tries <= level + 2 * (level * (1 - level) / tries) ** 0.5


def test_too_few_permutations_are_refused() -> None:
    a = np.zeros((3, 2))
    with pytest.raises(RequestError, match="at least 39"):
        max_t(a, a, level=0.025, permutations=38, seed=0)
    max_t(a, a, level=0.025, permutations=39, seed=0)
