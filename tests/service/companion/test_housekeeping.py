"""What a companion does unasked, on a store in a folder."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lavise.profile import profile_table
from lavise.v1.bias_pb2 import CompareRequest, Comparison, ImageSet
from lavise_service.companion import housekeeping
from lavise_service.companion.comparisons import Comparisons
from lavise_service.companion.housekeeping import keep_house
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store, open_store
from tests.profiles import make_profile


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(housekeeping, "_EVERY_S", 0.05)
    return tmp_path / "store"


@pytest.fixture
def store(place: Path) -> Store:
    return open_store(Settings(store=str(place)))


def put_set(store: Store, name: str, *, days: int) -> None:
    about = ImageSet(name=name, layer="body", bundle_digest="a" * 64)
    about.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=days))
    store.create_set(about)
    store.append_part(name, 0, 6, profile_table(make_profile(seed=len(name))))
    store.finish_set(name)


def keep_until(store: Store, done: Callable[[], bool]) -> None:
    """Keeps house until something is so, and a while longer."""

    async def work() -> None:
        comparisons = Comparisons(store, retention=None)
        keeping = asyncio.create_task(keep_house(store, comparisons))
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline
            assert not keeping.done()
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.15)
        assert not keeping.done()
        keeping.cancel()
        await comparisons.close()

    asyncio.run(work())


def names(store: Store) -> set[str]:
    return {one.name for one in store.list_sets(0, "")[0]}


def test_what_has_expired_is_removed_and_nothing_else(store: Store) -> None:
    put_set(store, "imageSets/old", days=-1)
    put_set(store, "imageSets/young", days=1)
    old = Comparison(name="comparisons/old", state=Comparison.STATE_DONE)
    old.expire_time.FromDatetime(datetime.now(UTC))
    store.comparisons.put(old)
    keep_until(store, lambda: names(store) == {"imageSets/young"})
    assert store.comparisons.list(0, "")[0] == []
    assert names(store) == {"imageSets/young"}


def interrupted(store: Store) -> Comparison:
    for name in ("imageSets/a", "imageSets/bb"):
        put_set(store, name, days=1)
    left = Comparison(
        name="comparisons/left",
        state=Comparison.STATE_RUNNING,
        request=CompareRequest(
            image_set_a="imageSets/a", image_set_b="imageSets/bb", alpha=0.05, permutations=200
        ),
    )
    store.comparisons.put(left)
    return left


def test_interrupted_comparisons_are_finished(store: Store) -> None:
    left = interrupted(store)
    keep_until(store, lambda: store.comparisons.get(left.name).state == Comparison.STATE_DONE)
    assert store.comparisons.get(left.name).report.words


def test_a_store_that_is_away_for_a_while_ends_nothing(
    store: Store, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = interrupted(store)
    away = place.rename(place.with_name("away"))
    place.symlink_to(place)  # a path that cannot be followed

    def back() -> bool:
        if "housekeeping failed" in caplog.text and away.exists():
            place.unlink()
            away.rename(place)
        return place.is_dir() and store.comparisons.get(left.name).state == Comparison.STATE_DONE

    keep_until(store, back)
    assert store.comparisons.get(left.name).report.words


def test_memory_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[None] = []
    monkeypatch.setattr(housekeeping, "_TRIM_EVERY_S", 0.01)
    monkeypatch.setattr(housekeeping, "trim_heap", lambda: times.append(None))

    async def work() -> None:
        keeping = asyncio.create_task(housekeeping.keep_small())
        while len(times) < 3:
            assert not keeping.done()
            await asyncio.sleep(0.01)
        keeping.cancel()

    asyncio.run(asyncio.wait_for(work(), 10))
