"""Batches of more examples than memory holds: each example once an epoch, in another order."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.teach.batches import BLOCK, Batch, Batches
from lavise.teach.examples import Examples, Joined, RegionExamples, Source

CPU = torch.device("cpu")


def numbered(n: int, first: int = 0) -> Examples:
    """Each example's first channel is its number."""
    number = np.arange(first, first + n)
    return Examples(np.stack([number, -number], axis=1).astype(np.float32), number)


def batches(source: Source, wanted: int = 256, window: int = 4 * BLOCK) -> Batches:
    return Batches(source, wanted, lambda x: x[:, :1], CPU, window)


def epoch(made: Batches, seed: int = 0) -> list[list[int]]:
    found = []
    for batch in made.epoch(torch.Generator().manual_seed(seed)):
        np.testing.assert_array_equal(batch.x[:, 0], batch.concept)
        np.testing.assert_array_equal(batch.fixed[:, 0], batch.concept)
        found.append(batch.concept.tolist())
    return found


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(2, 9 * BLOCK),
    left_out=st.sampled_from([0.0, 0.1, 0.9]),
    wanted=st.sampled_from([16, 64, 256]),
    window=st.sampled_from([BLOCK, 2 * BLOCK, 100 * BLOCK]),
    extra=st.sampled_from([0, 3, 2000]),
)
def test_every_example_at_most_once(
    n: int, left_out: float, wanted: int, window: int, extra: int
) -> None:
    rng = np.random.default_rng(n)
    concept = np.where(rng.random(n) < left_out, -1, np.arange(n)).astype(np.int32)
    source = Joined([RegionExamples(numbered(n).x, concept), numbered(extra, first=n)])
    if len(source) < 2:
        return
    made = batches(source, wanted, window)

    found = epoch(made)

    assert [len(batch) for batch in found] == [made.size] * made.steps
    seen = [number for batch in found for number in batch]
    assert len(set(seen)) == len(seen)
    assert len(source) - len(seen) < made.size
    assert set(seen) <= set(concept[concept >= 0].tolist()) | set(range(n, n + extra))


def test_the_seed_decides_on_the_order() -> None:
    for window in (2 * BLOCK, 100 * BLOCK):
        made = batches(numbered(5 * BLOCK), window=window)
        first, again, other = epoch(made), epoch(made), epoch(made, seed=1)
        assert first == again != other


def test_epochs_go_on_with_the_generator() -> None:
    made = batches(numbered(5 * BLOCK))
    generator = torch.Generator().manual_seed(0)
    one, two = ([b.concept.tolist() for b in made.epoch(generator)] for _ in range(2))
    assert one != two


def test_few_examples_are_a_plain_permutation() -> None:
    """What memory holds is shuffled as a whole: windows change nothing of small trainings."""
    found = epoch(batches(numbered(700), wanted=32))
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0)).tolist()
    assert [number for batch in found for number in batch] == order[: 32 * (700 // 32)]


def test_a_window_holds_blocks_from_everywhere() -> None:
    """Neighbours on disk, of one image or category, are not neighbours in training."""
    found = epoch(batches(numbered(64 * BLOCK), window=12 * BLOCK))
    first = np.array([number for batch in found[:32] for number in batch]) // BLOCK
    assert len(set(first.tolist())) == 8
    assert first.max() - first.min() > 16


@pytest.mark.parametrize("n", [26, 31, 64])
def test_every_window_has_its_share_of_every_source(n: int) -> None:
    made = batches(numbered(n * BLOCK), window=24 * BLOCK)
    for seed in range(5):
        for window in made._windows(torch.Generator().manual_seed(seed)):
            blocks = len(window) // BLOCK
            of_the_first = int((window.concept < n // 2 * BLOCK).sum()) / BLOCK
            assert abs(of_the_first - blocks / 2) <= 1.5


def test_no_more_than_a_window_is_read_at_a_time() -> None:
    class Watched(RegionExamples):
        largest = 0

        def read(self, start: int, stop: int) -> Examples:
            self.largest = max(self.largest, stop - start)
            return super().read(start, stop)

    source = Watched(numbered(10 * BLOCK).x, np.arange(10 * BLOCK, dtype=np.int32))
    made = batches(source, window=3 * BLOCK)
    held = max(len(window) for window in made._windows(torch.Generator()))
    assert (source.largest, held) == (BLOCK, 2 * BLOCK)


@pytest.mark.parametrize("take", [lambda b: b[slice(1, 3)], lambda b: b[torch.tensor([1, 2])]])
def test_part_of_a_batch(take: Callable[[Batch], Batch]) -> None:
    x = torch.arange(10.0).view(5, 2)
    part = take(Batch(x, torch.arange(5), x[:, :1]))
    assert len(part) == 2
    assert part.x.tolist() == [[2.0, 3.0], [4.0, 5.0]]
    assert part.concept.tolist() == [1, 2]
    assert part.fixed.tolist() == [[2.0], [4.0]]
