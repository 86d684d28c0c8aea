"""The probe against its definition, solved row by row in float64, and what it is good for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.errors import DatasetError
from lavise.teach.probe import probe_head


def oracle(v: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """argmin over W, b of the mean squared error of centred logits + lambda·tr(Sigma)/C·|W|^2.

    As one least-squares problem: the penalty is C more rows; b is found by centring.
    """
    fits = np.arange(len(v)) % 10 != 0
    v, logits = v[fits].astype(np.float64), logits[fits].astype(np.float64)
    logits = logits - logits.mean(axis=1, keepdims=True)
    n, channels = v.shape
    spread = v - v.mean(axis=0)
    penalty = 0.1 * max(np.trace(spread.T @ spread) / n, 1e-12) / channels
    design = np.concatenate([spread, np.sqrt(n * penalty) * np.eye(channels)])
    wanted = np.concatenate([logits - logits.mean(axis=0), np.zeros((channels, logits.shape[1]))])
    W = np.linalg.lstsq(design, wanted, rcond=None)[0]
    return W.T, logits.mean(axis=0) - v.mean(axis=0) @ W


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    m=st.integers(16, 80),
    channels=st.integers(1, 12),
    classes=st.integers(2, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 10.0]),
)
def test_the_probe_is_ridge_regression(
    seed: int, m: int, channels: int, classes: int, scale: float, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    v = (scale * (offset + rng.normal(size=(m, channels)))).astype(np.float32)
    logits = rng.normal(size=(m, classes)).astype(np.float32)
    head, _ = probe_head(v, logits)
    W, b = oracle(v, logits)
    np.testing.assert_allclose(head.W, W, rtol=2e-3, atol=2e-4 / scale)
    np.testing.assert_allclose(head.b, b, rtol=2e-3, atol=2e-3)


def test_a_dead_layer_says_nothing() -> None:
    """All features equal: the probe gives the mean logits, whatever comes."""
    logits = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    head, _ = probe_head(np.zeros((40, 5), dtype=np.float32), logits)
    assert not head.W.any()
    assert np.isfinite(head.b).all()


def test_a_linear_head_is_found_again() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=(4000, 8)).astype(np.float32)
    W = rng.normal(size=(5, 8)).astype(np.float32)
    head, agreement = probe_head(v, v @ W.T + np.arange(5, dtype=np.float32))
    assert agreement > 0.95
    new = rng.normal(size=(500, 8)).astype(np.float32)
    said = (new @ head.W.T + head.b).argmax(axis=1)
    assert np.mean(said == (new @ W.T + np.arange(5)).argmax(axis=1)) > 0.95


def test_agreement_is_on_images_that_were_not_fitted() -> None:
    """With more channels than images anything can be fitted, and nothing be foretold."""
    rng = np.random.default_rng(0)
    v = rng.normal(size=(400, 500)).astype(np.float32)
    logits = rng.normal(size=(400, 50)).astype(np.float32)
    _, agreement = probe_head(v, logits)
    assert agreement < 0.15


def test_too_few_images() -> None:
    with pytest.raises(DatasetError, match=r"at least 16 images.*found 15.*own-classes:DIR"):
        probe_head(np.zeros((15, 4)), np.zeros((15, 3)))
