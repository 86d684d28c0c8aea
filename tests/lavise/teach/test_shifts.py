"""Examples moved as others of one concept differ, against differences listed one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.teach.batches import Batch, Batches
from lavise.teach.examples import Examples
from lavise.teach.shifts import Shifts

CPU = torch.device("cpu")
N_OWN = 2
CHANNELS = 3


def window(concept: list[int], *, lowest: float = 0.0, seed: int = 0) -> Batch:
    """Examples; fixed logits are linear in them."""
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.uniform(lowest, 1.0, (len(concept), CHANNELS)))
    head = torch.from_numpy(rng.normal(size=(CHANNELS, N_OWN)))
    return Batch(x, torch.tensor(concept), x @ head)


def directions(seen: Batch) -> np.ndarray:
    """All differences between two examples of one taught concept."""
    x, concept = seen.x.numpy(), seen.concept.numpy()
    pairs = [
        x[j] - x[k]
        for j in range(len(x))
        for k in range(len(x))
        if concept[j] == concept[k] >= N_OWN
    ]
    return np.array(pairs).reshape(-1, CHANNELS)


@settings(deadline=None, max_examples=60)
@given(
    concept=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    strength=st.floats(0.1, 2.0),
    seed=st.integers(0, 99),
)
def test_examples_are_moved_along_differences_of_taught_concepts(
    concept: list[int], strength: float, seed: int
) -> None:
    seen = window(concept, lowest=-1.0, seed=seed)
    moved = Shifts(seen, strength)(seen, torch.Generator().manual_seed(seed))

    np.testing.assert_array_equal(moved.concept, seen.concept)
    by = (moved.x - seen.x).numpy()
    known = directions(seen)
    for step in by:
        if not np.abs(step).any():
            continue
        shares = known @ step / np.maximum((known**2).sum(axis=1), 1e-12)
        right = np.abs(shares[:, None] * known - step).max(axis=1) < 1e-9
        assert (right & (shares >= -1e-9) & (shares <= strength + 1e-9)).any()
    head = torch.linalg.lstsq(seen.x, seen.fixed).solution
    if len(concept) >= CHANNELS:
        np.testing.assert_allclose(moved.fixed, moved.x @ head, atol=1e-6)


@pytest.mark.parametrize("concept", [[0, 1, 1, 0], [2, 3, 4, 5], [0]])
def test_without_two_taught_examples_of_a_concept_nothing_moves(concept: list[int]) -> None:
    seen = window(concept)
    moved = Shifts(seen, 1.0)(seen, torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(moved.x, seen.x)
    np.testing.assert_array_equal(moved.fixed, seen.fixed)


def test_what_was_never_negative_stays_so() -> None:
    seen = window([2] * 40)
    moved = Shifts(seen, 2.0)(seen, torch.Generator().manual_seed(0))
    assert float(moved.x.min()) == 0.0
    below = window([2] * 40, lowest=-0.1)
    assert float(Shifts(below, 2.0)(below, torch.Generator().manual_seed(0)).x.min()) < -0.1


def test_batches_come_moved_and_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    source = Examples(rng.random((600, CHANNELS), dtype=np.float32), rng.integers(0, 9, 600))

    def epoch(shift: float, seed: int) -> list[np.ndarray]:
        made = Batches(source, 64, lambda x: x[:, :1], CPU, shift=shift)
        return [one.x.numpy() for one in made.epoch(torch.Generator().manual_seed(seed))]

    plain, first, again, other = epoch(0.0, 0), epoch(1.0, 0), epoch(1.0, 0), epoch(1.0, 1)
    assert len(first) == len(plain)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not any((a == b).all() for a, b in zip(first, other, strict=True))
    assert not any((a == b).all() for a, b in zip(first, plain, strict=True))
