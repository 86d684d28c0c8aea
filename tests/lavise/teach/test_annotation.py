import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.errors import RequestError
from lavise.teach.annotation import RATES, held_out_categories, kept_images

SHARES = st.floats(0, 1)


@given(n=st.integers(0, 200), rate=SHARES, more=SHARES, seed=st.integers(0, 99))
def test_a_higher_rate_keeps_what_a_lower_one_keeps(
    n: int, rate: float, more: float, seed: int
) -> None:
    low, high = sorted((rate, more))
    few, many = kept_images(n, low, seed=seed), kept_images(n, high, seed=seed)
    assert few.sum() == round(low * n)
    assert not (few & ~many).any()


def test_the_papers_rates() -> None:
    kept = [kept_images(1000, rate, seed=0) for rate in RATES]
    assert [one.sum() for one in kept] == [100, 300, 500, 700]
    assert not np.array_equal(kept[0], kept_images(1000, RATES[0], seed=1))


@given(names=st.lists(st.text(), max_size=30), share=SHARES, more=SHARES)
def test_held_out_categories_depend_on_names_alone(
    names: list[str], share: float, more: float
) -> None:
    low, high = sorted((share, more))
    held = held_out_categories(names, low, seed=5)
    assert len(held) == round(low * len(set(names)))
    assert held == held_out_categories([*reversed(names), *names], low, seed=5)
    assert held <= held_out_categories(names, high, seed=5) <= set(names)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(RequestError, match="0 to 1"):
        kept_images(3, share, seed=0)
    with pytest.raises(RequestError, match="0 to 1"):
        held_out_categories("abc", share, seed=0)
