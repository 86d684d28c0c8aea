import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lavise.half import LARGEST, to_half

FINITE = st.floats(-1e6, 1e6, width=32)


@given(arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(1, 40)), elements=FINITE))
def test_rounds_as_numpy_does(values: np.ndarray) -> None:
    expected = np.clip(values, -LARGEST, LARGEST).astype(np.float16)
    # Below the normal numbers a value is rounded twice: by one unit of the last place at most.
    np.testing.assert_allclose(to_half(values), expected, rtol=0, atol=2.0**-24)
    normal = np.abs(values) >= 2.0**-14
    np.testing.assert_array_equal(to_half(values)[normal], expected[normal])


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5, 6.0, 2.0**-14, 2.0**-24, LARGEST, -LARGEST])
def test_what_fits_stays(value: float) -> None:
    assert to_half(np.array([value], dtype=np.float32))[0] == value


def test_what_is_beyond_becomes_the_largest() -> None:
    huge = np.array([1e30, -1e30], dtype=np.float32)
    np.testing.assert_array_equal(to_half(huge), [LARGEST, -LARGEST])
