import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.report.scales import Scale, diverging_scale, share_scale

differences = st.lists(st.floats(-1, 1), max_size=20)


@given(values=differences)
def test_everything_fits_and_zero_is_well_inside(values: list[float]) -> None:
    scale = diverging_scale(values)
    assert all(scale.low < value < scale.high for value in values)
    assert 20 < scale.at(0) < 80
    assert 3 <= len(scale.ticks) <= 9
    assert any(tick == 0 for tick in scale.ticks)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks)


@given(values=differences, one=st.floats(-2, 2), other=st.floats(-2, 2))
def test_places_keep_the_order_of_values(values: list[float], one: float, other: float) -> None:
    scale = diverging_scale(values)
    start, width = scale.span(one, other)
    assert 0 <= start <= start + width <= 100.01
    assert (scale.at(one) <= scale.at(other)) == (one <= other) or scale.at(one) == scale.at(other)


@given(value=st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_has_a_place(value: float) -> None:
    scale = diverging_scale([0.2, value, -0.1])
    assert scale == diverging_scale([0.2, -0.1])
    assert 0 <= scale.at(value) <= 100


@given(shares=st.lists(st.floats(0, 1), max_size=20))
def test_shares_start_at_zero(shares: list[float]) -> None:
    scale = share_scale(shares)
    assert scale.low == 0
    assert max(shares, default=0) <= scale.high <= 1
    assert scale.ticks[0] == 0


def test_places_are_percent_of_the_width() -> None:
    scale = Scale(-1, 3, ())
    assert [scale.at(value) for value in (-5, -1, 0, 3, 9)] == [0, 0, 25, 100, 100]
    assert scale.span(2, 0) == pytest.approx((25, 50))
