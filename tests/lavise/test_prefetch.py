import itertools
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.prefetch import batched, prefetch


def test_results_come_in_order_whatever_takes_longer() -> None:
    def slow_first(i: int) -> int:
        time.sleep(0.02 if i % 5 == 0 else 0)
        return i * i

    assert list(prefetch(slow_first, range(20), workers=3)) == [i * i for i in range(20)]


def test_never_further_ahead_than_allowed() -> None:
    taken = itertools.count()
    given_out = []

    def endless() -> Iterator[int]:
        for i in taken:
            given_out.append(i)
            yield i

    results = prefetch(lambda i: i, endless(), ahead=4)
    for expected in range(10):
        assert next(results) == expected
        assert len(given_out) <= expected + 1 + 4


def test_an_error_is_raised_at_its_place() -> None:
    def fail_at_three(i: int) -> int:
        if i == 3:
            raise ValueError("three")
        return i

    results = prefetch(fail_at_three, range(10))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


def test_leaving_early_leaves_no_thread() -> None:
    before = threading.active_count()
    for _ in prefetch(lambda i: i, range(100)):
        break
    assert threading.active_count() == before


@given(n=st.integers(0, 40), size=st.integers(1, 9))
def test_batches_hold_everything_once(n: int, size: int) -> None:
    batches = list(batched(range(n), size))
    assert list(itertools.chain(*batches)) == list(range(n))
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(1 <= len(batch) <= size for batch in batches)
