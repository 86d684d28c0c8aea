import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import MAPPER_KINDS, map_feature, random_mapper


@pytest.mark.parametrize("kind", MAPPER_KINDS)
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 4), scale=st.sampled_from([0.0, 1, 50]))
def test_maps_as_the_equations_say(kind: str, seed: int, rows: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    channels, dimension = (int(n) for n in rng.integers(1, 9, 2))
    mapper = random_mapper(rng, channels, dimension, kind)
    v = (scale * rng.normal(size=(rows, channels))).astype(np.float32)

    mapped = mapper(v)

    assert mapped.shape == (rows, dimension)
    for row in range(rows):
        expected = map_feature(mapper, v[row].astype(float).tolist())
        np.testing.assert_allclose(mapped[row], expected, rtol=1e-4, atol=1e-4 * max(1, scale))


def test_logits_of_any_size_do_not_overflow() -> None:
    mapper = random_mapper(np.random.default_rng(0), 3, 4, "both")
    mapped = mapper(np.full((1, 3), 1e30, dtype=np.float32))
    assert np.isfinite(mapped).all()
    assert np.linalg.norm(mapped) <= 1 + 1e-6  # a convex combination of unit vectors
