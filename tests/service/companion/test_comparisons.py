"""Comparisons as work, on a store in a folder: begun, followed, given up, taken up again."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.rpc import code_pb2

from lavise.bias import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS, compare
from lavise.errors import LaviseError, RequestError
from lavise.profile import Profile, profile_table
from lavise.v1.bias_pb2 import CompareRequest, Comparison, ImageSet
from lavise_service.companion import comparisons as module
from lavise_service.companion.comparisons import MOST_WAITING, Comparisons
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import NotFound, NotReady, ResourceExhausted
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store, open_store
from tests.full_disk import no_file_over
from tests.profiles import make_profile

A, B = "imageSets/a", "imageSets/b"
LONG = 100_000
"""Permutations that take longer than any test."""


def drawn(seed: int, n: int = 200, **options: Any) -> Profile:
    rng = np.random.default_rng(seed)
    return make_profile(rng.random((n, 40)), rng.random((n, 6)), seed=seed, **options)


def put_set(store: Store, name: str, profile: Profile) -> None:
    schema = profile.schema
    about = ImageSet(
        name=name, display_name="Cats", layer=schema.layer, bundle_digest=schema.bundle_digest
    )
    store.create_set(about)
    store.append_part(name, 0, len(profile), profile_table(profile))
    store.finish_set(name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = open_store(Settings(store=str(tmp_path / "store")))
    put_set(made, A, drawn(1))
    put_set(made, B, drawn(2))
    return made


@asynccontextmanager
async def working(store: Store, *, days: int | None = 30) -> AsyncIterator[Comparisons]:
    retention = None if days is None else timedelta(days=days)
    comparisons = Comparisons(store, retention=retention)
    try:
        yield comparisons
    finally:
        async with asyncio.timeout(10):
            await comparisons.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(bounded())


def asked(a: str = A, b: str = B, **options: Any) -> CompareRequest:
    return CompareRequest(image_set_a=a, image_set_b=b, **options)


async def ended(comparisons: Comparisons, name: str) -> Comparison:
    return [state async for state in comparisons.follow(name)][-1]


async def moving(comparisons: Comparisons, name: str) -> None:
    """Returns when permutations are being worked through."""
    async with aclosing(comparisons.follow(name)) as states:
        async for state in states:
            if state.progress.done:
                return


def expected(seed: int, permutations: int) -> Any:
    report = compare(drawn(1), drawn(2), seed=seed, permutations=permutations)
    for side, name in ((report.a, A), (report.b, B)):
        side.name, side.display_name = name, "Cats"
    return report


def test_it_ends_as_the_library_says(store: Store) -> None:
    async def work() -> None:
        async with working(store) as comparisons:
            begun = await comparisons.start(asked(seed=5, permutations=3000))
            assert begun.state == Comparison.STATE_RUNNING
            assert store.comparisons.get(begun.name) == begun
            states = [state async for state in comparisons.follow(begun.name)]
            assert {one.state for one in states[:-1]} == {Comparison.STATE_RUNNING}
            assert all(0 <= one.progress.done <= 1 and one.progress.stage for one in states[:-1])
            found = states[-1]
            assert found.state == Comparison.STATE_DONE
            assert found.report == expected(5, 3000)
            assert not found.HasField("progress")
            assert not found.HasField("error")
            assert found.request == begun.request
            assert await comparisons.get(begun.name) == found == store.comparisons.get(begun.name)
            [listed], token = await comparisons.list(0, "")
            assert (listed.name, listed.HasField("report"), token) == (begun.name, False, "")

    run(work)


@pytest.mark.parametrize("days", [7, None])
def test_what_is_left_out_is_filled_in(store: Store, days: int | None) -> None:
    async def work() -> None:
        async with working(store, days=days) as comparisons:
            begun = await comparisons.start(asked())
            assert begun.request.alpha == DEFAULT_ALPHA
            assert begun.request.permutations == DEFAULT_PERMUTATIONS
            assert begun.HasField("expire_time") == (days is not None)
            if days is not None:
                kept = begun.expire_time.ToDatetime(UTC) - begun.create_time.ToDatetime(UTC)
                assert kept == timedelta(days=days)

    run(work)


@pytest.mark.parametrize(
    ("request_", "kind", "field"),
    [
        (asked(A, A), RequestError, "image_set_b"),
        (asked("a", B), RequestError, "name"),
        (asked(A, "imageSets/none"), NotFound, "name"),
        (asked(A, "imageSets/open"), NotReady, "image_set_b"),
        (asked("imageSets/open", B), NotReady, "image_set_a"),
        (asked(alpha=0.0), RequestError, "alpha"),
        (asked(alpha=float("nan")), RequestError, "alpha"),
        (asked(permutations=99), RequestError, "permutations"),
        (asked(alpha=0.001, permutations=100), RequestError, "permutations"),
        (asked(seed=-1), RequestError, "seed"),
    ],
)
def test_what_cannot_be_compared_is_never_begun(
    store: Store, request_: CompareRequest, kind: type[LaviseError], field: str
) -> None:
    store.create_set(ImageSet(name="imageSets/open", layer="body", bundle_digest="a" * 64))

    async def work() -> None:
        async with working(store) as comparisons:
            with pytest.raises(kind) as refused:
                await comparisons.start(request_)
            assert refused.value.field == field
            assert (await comparisons.list(0, ""))[0] == []

    run(work)


def test_a_failure_is_kept_with_its_error(store: Store) -> None:
    put_set(store, "imageSets/other", drawn(3, layer="stem"))

    async def work() -> None:
        async with working(store) as comparisons:
            begun = await comparisons.start(asked(A, "imageSets/other"))
            found = await ended(comparisons, begun.name)
            assert found.state == Comparison.STATE_FAILED
            assert found.error.code == code_pb2.INVALID_ARGUMENT
            assert "'stem'" in found.error.message
            assert not found.HasField("report")
            assert store.comparisons.get(begun.name) == found

    run(work)


def test_an_unforeseen_failure_is_kept_and_tells_nothing_inner(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr(module, "compare", broken)

    async def work() -> None:
        async with working(store) as comparisons:
            begun = await comparisons.start(asked())
            found = await ended(comparisons, begun.name)
            assert found.state == Comparison.STATE_FAILED
            assert found.error.code == code_pb2.INTERNAL
            assert "hunter2" not in str(found)

    run(work)
    assert "hunter2" in caplog.text


def test_a_set_that_is_deleted_before_its_turn_is_a_failure(store: Store) -> None:
    async def work() -> None:
        async with working(store) as comparisons:
            long = await comparisons.start(asked(permutations=LONG))
            await moving(comparisons, long.name)
            begun = await comparisons.start(asked(seed=1))
            store.delete_set(B)
            await comparisons.delete(long.name)
            found = await ended(comparisons, begun.name)
            assert found.state == Comparison.STATE_FAILED
            assert found.error.code == code_pb2.NOT_FOUND

    run(work)


def test_what_is_deleted_while_it_is_worked_on_does_not_come_back(store: Store) -> None:
    async def work() -> None:
        async with working(store) as comparisons:
            begun = await comparisons.start(asked(permutations=LONG))
            await moving(comparisons, begun.name)

            async def ask() -> None:
                while True:  # as impatient callers do, in the middle of the deletion too
                    await comparisons.get(begun.name)
                    await asyncio.sleep(0)

            following = asyncio.create_task(ended(comparisons, begun.name))
            asking = asyncio.create_task(ask())
            await asyncio.sleep(0.1)
            await comparisons.delete(begun.name)
            for each in (following, asking):
                with pytest.raises(NotFound):
                    await each
            quick = await comparisons.start(asked(permutations=100))
            assert (await ended(comparisons, quick.name)).state == Comparison.STATE_DONE
            for gone in (comparisons.get, comparisons.delete):
                with pytest.raises(NotFound):
                    await gone(begun.name)
            assert [one.name for one in (await comparisons.list(0, ""))[0]] == [quick.name]

    run(work)


def test_what_another_process_deletes_does_not_come_back(store: Store) -> None:
    async def work() -> None:
        async with working(store) as comparisons:
            begun = await comparisons.start(asked(permutations=3000))
            store.comparisons.delete(begun.name)
            with pytest.raises(NotFound):
                await ended(comparisons, begun.name)
            assert (await comparisons.list(0, ""))[0] == []

    run(work)


def test_one_that_waits_is_deleted_at_once(store: Store) -> None:
    async def work() -> None:
        async with working(store) as comparisons:
            long = await comparisons.start(asked(permutations=LONG))
            waiting = await comparisons.start(asked(seed=1))
            last = await comparisons.start(asked(seed=2))
            assert (await comparisons.get(waiting.name)).progress.stage == "waiting"
            async with asyncio.timeout(1):
                await comparisons.delete(waiting.name)
            assert (await comparisons.get(long.name)).state == Comparison.STATE_RUNNING
            await comparisons.delete(long.name)
            assert (await ended(comparisons, last.name)).state == Comparison.STATE_DONE

    run(work)


def test_what_was_interrupted_ends_with_the_same_report(store: Store) -> None:
    permutations = {3: 80_000, 4: 100}
    names = []

    async def interrupted() -> None:
        async with working(store) as comparisons:
            for seed, count in permutations.items():
                begun = await comparisons.start(asked(seed=seed, permutations=count))
                names.append(begun.name)
            await moving(comparisons, names[0])

    async def again() -> None:
        for name in names:
            assert store.comparisons.get(name).state == Comparison.STATE_RUNNING
        async with working(store) as comparisons:
            await comparisons.take_up()
            for name, (seed, count) in zip(names, permutations.items(), strict=True):
                found = await ended(comparisons, name)
                assert found.state == Comparison.STATE_DONE
                assert found.report == expected(seed, count)

    run(interrupted)
    run(again)


def test_who_asks_for_an_interrupted_one_has_it_taken_up(store: Store) -> None:
    left = Comparison(
        name="comparisons/left",
        state=Comparison.STATE_RUNNING,
        request=asked(alpha=0.05, permutations=200),
    )
    store.comparisons.put(left)

    async def work() -> None:
        async with working(store) as comparisons:
            found = await asyncio.gather(*(ended(comparisons, left.name) for _ in range(3)))
            assert found[0].report == expected(0, 200)
            assert found[0] == found[1] == found[2]

    run(work)


def test_only_so_many_are_unfinished_at_a_time(store: Store) -> None:
    async def work() -> None:
        async with working(store) as comparisons:
            starts = [comparisons.start(asked(permutations=LONG)) for _ in range(MOST_WAITING + 8)]
            outcomes = await asyncio.gather(*starts, return_exceptions=True)
            refused = [one for one in outcomes if isinstance(one, ResourceExhausted)]
            begun = [one.name for one in outcomes if isinstance(one, Comparison)]
            assert (len(begun), len(refused)) == (MOST_WAITING, 8)
            assert {one.retry_after_s for one in refused} == {5}
            listed, _ = await comparisons.list(0, "")
            assert {one.name for one in listed} == set(begun)
            await comparisons.delete(begun[7])
            await comparisons.start(asked())

    run(work)


def test_a_report_that_finds_no_room_is_kept_when_there_is_some(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEEP_AGAIN_S", 0.05)
    made = threading.Semaphore(0)

    def counted(*profiles: Profile, **options: Any) -> Any:
        made.release()
        return compare(*profiles, **options)

    monkeypatch.setattr(module, "compare", counted)

    async def work() -> None:
        async with working(store) as comparisons:
            with no_file_over(1000):
                begun = await comparisons.start(asked(permutations=200))
                assert await asyncio.to_thread(made.acquire, timeout=10)
                await asyncio.sleep(0.5)
                assert (await comparisons.get(begun.name)).state == Comparison.STATE_RUNNING
            assert (await ended(comparisons, begun.name)).report == expected(0, 200)
            assert not made.acquire(blocking=False), "it was worked out once"

    run(work)


def test_prometheus_sees_how_far_it_is_and_how_they_ended(store: Store) -> None:
    metrics = Metrics()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"lavise_companion_{name}", labels)

    def outcomes() -> list[float | None]:
        each = ("done", "failed", "given_up")
        return [value("comparisons_total", outcome=outcome) for outcome in each]

    async def work() -> None:
        comparisons = Comparisons(store, retention=None, metrics=metrics)
        assert value("slots_limit", slots="comparisons") == MOST_WAITING
        long = await comparisons.start(asked(permutations=LONG))
        waiting = await comparisons.start(asked(permutations=LONG))
        assert value("slots_in_use", slots="comparisons") == 2
        await moving(comparisons, long.name)
        told = value("comparison_progress_ratio", stage="permutations")
        assert told is not None
        assert 0 < told < 1
        for name in (waiting.name, long.name):
            await comparisons.delete(name)
        assert value("comparison_progress_ratio", stage="permutations") is None
        assert outcomes() == [0, 0, 2]
        done = await comparisons.start(asked(permutations=100))
        assert (await ended(comparisons, done.name)).state == Comparison.STATE_DONE
        put_set(store, "imageSets/other", drawn(3, digest="b" * 64))
        failing = await comparisons.start(asked(b="imageSets/other"))
        assert (await ended(comparisons, failing.name)).state == Comparison.STATE_FAILED
        await comparisons.close()
        assert outcomes() == [1, 1, 2]
        assert value("comparison_seconds_count") == 3  # one never had its turn
        assert value("slots_in_use", slots="comparisons") == 0

    run(work)
