import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.errors import RequestError
from lavise.evaluate.soft_wpmi import soft_wpmi
from tests.lavise.evaluate import oracles


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    C=st.integers(1, 4),
    K=st.integers(1, 5),
    top=st.integers(1, 12),
    weight=st.sampled_from([0.0, 0.6, 1.0]),
)
def test_scores_are_the_papers(seed: int, n: int, C: int, K: int, top: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    activation, similarity = rng.normal(size=(n, C)), rng.normal(size=(n, K))
    found = soft_wpmi(activation, similarity, top_images=top, sharpness=2.0, weight=weight)
    expected = oracles.soft_wpmi(activation, similarity, top, 2.0, weight)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_planted_concept_is_found() -> None:
    rng = np.random.default_rng(0)
    owner = rng.integers(0, 5, 400)
    activation = rng.random((400, 5)) + (owner[:, None] == np.arange(5))
    similarity = 0.2 + 0.02 * rng.normal(size=(400, 5)) + 0.3 * (owner[:, None] == np.arange(5))
    scores = soft_wpmi(activation, similarity, top_images=40)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("activation", "similarity", "said"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), "same images"),
        (np.ones(3), np.ones((3, 2)), "same images"),
        (np.ones((0, 2)), np.ones((0, 2)), "at least one"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), "activation has values"),
        (np.ones((3, 2)), np.full((3, 2), np.inf), "similarity has values"),
    ],
)
def test_arrays_that_do_not_fit(activation: np.ndarray, similarity: np.ndarray, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        soft_wpmi(activation, similarity)
