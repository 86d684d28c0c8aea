import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavise.errors import RequestError
from lavise.profile import profile_of
from lavise.v1.bias_pb2 import ImageSet, ImageSetMetadata
from lavise_service.companion.image_sets import ImageSets
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.objects import open_objects
from lavise_service.companion.problems import AlreadyExists, NotFound, NotReady, Unavailable
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store
from lavise_service.wire import entries

NAME = "imageSets/cats"
WORDS = ["cat", "dog", "fish"]
DIGEST = "d" * 64
Image = tuple[str, bytes]


class Numbers:
    """A Profiler whose numbers are those in the image: b"7" has activation 7.

    Attributes:
        digest: Of the bundle.
        running: Requests in flight, and the most that there were.
        batches: The images of each request.
    """

    def __init__(self) -> None:
        self.digest = DIGEST
        self.running = self.most = 0
        self.batches: list[list[bytes]] = []
        self.before: Callable[[Sequence[bytes]], Awaitable[None]] | None = None

    async def profile(
        self, images: Sequence[bytes], request: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        layer = request.get("layer") or "late"
        if layer not in {"late", "early"}:
            raise RequestError(f"there is no layer {layer!r}", field="layer")
        answer: dict[str, Any] = {"bundleDigest": self.digest, "layer": layer, "images": []}
        if not images:
            assert request["withWords"]
            filters = [{"words": [], "verdict": "uninterpretable"}] * 4
            return answer | {"words": WORDS, "filters": filters}
        self.running += 1
        self.most = max(self.most, self.running)
        self.batches.append(list(images))
        try:
            if self.before is not None:
                await self.before(images)
            await asyncio.sleep(0)
            kept = bool(request.get("withThumbnails"))
            answer["images"] = [
                _numbers(place, image, thumbnail=kept)
                for place, image in entries(images, None).items()
            ]
        finally:
            self.running -= 1
        return answer


def _numbers(place: str, image: bytes, *, thumbnail: bool) -> dict[str, Any]:
    if not image.strip().isdigit():
        return {"error": {"code": 3, "message": f"{place}: no image; accepted: digits"}}

    def base64_of(data: bytes) -> str:
        return base64.b64encode(data).decode()

    value = int(image)
    found = {
        "fingerprint": base64_of(value.to_bytes(16, "big")),
        "activation": base64_of(np.full(4, value, "<f4").tobytes()),
        "wordScores": base64_of(np.full(3, value % 8, "<f2").tobytes()),
        "qualified": base64_of(b"\x05"),
    }
    return found | ({"thumbnail": base64_of(b"small%d" % value)} if thumbnail else {})


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(open_objects(str(tmp_path / "store")))


def image_sets(store: Store, numbers: Numbers, **options: object) -> ImageSets:
    chosen = {"profile_batch": 4, "profiles_in_flight": 2} | options
    return ImageSets(store, numbers, Settings(**chosen))


@pytest.fixture
def sets(store: Store, numbers: Numbers) -> ImageSets:
    return image_sets(store, numbers)


async def pictures(*indices: int) -> AsyncIterator[Image]:
    for i in indices:
        yield f"{i}.png", b"%d" % i


def about(**options: Any) -> ImageSetMetadata:
    return ImageSetMetadata(**({"name": NAME, "display_name": "Cats"} | options))


def kept(store: Store, name: str = NAME) -> list[int]:
    """The indices of the profile; its numbers must be those of the images."""
    profile = profile_of(store.profile_table(name))
    indices: list[int] = profile.index.tolist()
    assert profile.activation[:, 0].tolist() == indices
    assert profile.sources == [f"{i}.png" for i in indices]
    assert profile.schema.words == tuple(WORDS)
    assert profile.qualified is not None
    assert profile.qualified.tolist() == [[True, False, True, False]] * len(indices)
    return indices


def test_images_become_a_set(sets: ImageSets, store: Store, numbers: Numbers) -> None:
    async def run() -> ImageSet:
        begun = await sets.begin(about())
        assert (begun.layer, begun.bundle_digest) == ("late", DIGEST)
        assert begun.state == ImageSet.STATE_UPLOADING
        lasts = begun.expire_time.ToDatetime(UTC) - begun.create_time.ToDatetime(UTC)
        assert lasts.days == 30
        added = await sets.add(NAME, pictures(*range(101)), 0)
        assert (added.received_images, added.image_count) == (101, 101)
        return await sets.finish(NAME)

    ready = asyncio.run(run())
    assert ready.state == ImageSet.STATE_READY
    assert kept(store) == list(range(101))
    assert numbers.most == 2
    assert {len(batch) for batch in numbers.batches} == {4, 1}
    assert profile_of(store.profile_table(NAME)).thumbnails == []


def test_small_copies_are_kept_when_asked_for(sets: ImageSets, store: Store) -> None:
    asyncio.run(sets.take_in(about(thumbnails=True), pictures(0, 1)))
    assert store.thumbnails(NAME, {0, 1}) == {0: b"small0", 1: b"small1"}


def test_a_name_is_made_up_where_none_is_given(sets: ImageSets) -> None:
    async def run() -> None:
        one, two = [await sets.take_in(about(name=""), pictures(0)) for _ in range(2)]
        assert one.name != two.name
        assert {each.name for each in (await sets.list(0, ""))[0]} == {one.name, two.name}
        await sets.delete(one.name)
        with pytest.raises(NotFound):
            await sets.get(one.name)

    asyncio.run(run())


def test_without_a_retention_time_a_set_stays(store: Store, numbers: Numbers) -> None:
    begun = asyncio.run(image_sets(store, numbers, retention_days=0).begin(about()))
    assert not begun.HasField("expire_time")


def test_what_cannot_be_read_is_recorded_and_the_rest_goes_on(
    store: Store, numbers: Numbers
) -> None:
    sets = image_sets(store, numbers, max_image_bytes=1000)

    async def mixed() -> AsyncIterator[Image]:
        for i in range(12):
            content = {3: b"text", 5: b"", 6: b"9" * 1001, 7: b"8" + b" " * 999}.get(i, b"%d" % i)
            yield f"{i}.png", content

    found = asyncio.run(sets.take_in(about(), mixed()))
    assert (found.received_images, found.image_count, found.rejected_count) == (12, 9, 3)
    told = {one.index: one.error.message for one in found.rejected}
    assert told[3] == "3.png: no image; accepted: digits"
    assert told[5] == "5.png: it is empty"
    assert told[6].startswith("6.png: it has more than")
    assert [one.source for one in found.rejected] == ["3.png", "5.png", "6.png"]
    assert {one.error.code for one in found.rejected} == {3}
    assert profile_of(store.profile_table(NAME)).index.tolist() == [0, 1, 2, 4, 7, 8, 9, 10, 11]


def test_a_set_of_nothing_but_rejected_images(sets: ImageSets, numbers: Numbers) -> None:
    async def empty() -> AsyncIterator[Image]:
        for _ in range(9):
            yield "", b""

    with pytest.raises(NotReady, match="9 were received, 9 of them rejected"):
        asyncio.run(sets.take_in(about(), empty()))
    found = asyncio.run(sets.get(NAME))
    assert found.rejected[8].source == "image 8"
    assert numbers.batches == []


async def breaking(first: int, end: int) -> AsyncIterator[Image]:
    async for image in pictures(*range(first, end)):
        yield image
    raise ConnectionError("the sender went away")


@pytest.mark.parametrize("broken_at", [0, 1, 7, 40, 57])
def test_a_broken_upload_goes_on_where_it_stands(
    sets: ImageSets, store: Store, broken_at: int
) -> None:
    async def run() -> int:
        await sets.begin(about())
        with pytest.raises(ConnectionError):
            await sets.add(NAME, breaking(0, broken_at), 0)
        received = (await sets.begin(about())).received_images
        await sets.add(NAME, pictures(*range(received, 60)), received)
        await sets.finish(NAME)
        return received

    received = asyncio.run(run())
    assert broken_at - 12 <= received <= broken_at
    assert kept(store) == list(range(60))


@pytest.mark.parametrize("n", [0, 1, 10, 50])
def test_a_cancelled_upload_goes_on_where_it_stands(
    sets: ImageSets, store: Store, numbers: Numbers, n: int
) -> None:
    async def run() -> int:
        stalled = asyncio.Event()

        async def stalling() -> AsyncIterator[Image]:
            async for image in pictures(*range(n)):
                yield image
            stalled.set()
            await asyncio.Event().wait()

        await sets.begin(about())
        upload = asyncio.create_task(sets.add(NAME, stalling(), 0))
        await stalled.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert numbers.running == 0
        assert len(asyncio.all_tasks()) == 1
        received = (await sets.get(NAME)).received_images
        await sets.add(NAME, pictures(*range(received, 60)), received)
        await sets.finish(NAME)
        return received

    received = asyncio.run(run())
    assert n - 12 <= received <= n
    assert kept(store) == list(range(60))


def test_what_came_back_before_a_failure_is_kept(
    sets: ImageSets, store: Store, numbers: Numbers
) -> None:
    async def fail_at_20(images: Sequence[bytes]) -> None:
        if b"20" in images:
            raise Unavailable("the worker died", retry_after_s=5)

    async def run() -> None:
        await sets.begin(about())
        numbers.before = fail_at_20
        with pytest.raises(Unavailable, match="the worker died"):
            await sets.add(NAME, pictures(*range(40)), 0)
        assert (await sets.get(NAME)).received_images == 20
        numbers.before = None
        await sets.take_in(about(), pictures(*range(40)))  # a source that begins at 0 each time

    asyncio.run(run())
    assert kept(store) == list(range(40))
    sent = [image for batch in numbers.batches for image in batch]
    assert sent.count(b"19") == 1
    assert sent.count(b"20") == 2


def test_memory_does_not_grow_with_the_set(sets: ImageSets, numbers: Numbers) -> None:
    """No image is asked for while the batches before it are still away."""
    asked = 0

    async def counting() -> AsyncIterator[Image]:
        nonlocal asked
        async for image in pictures(*range(400)):
            asked += 1
            yield image

    async def run() -> None:
        gate = asyncio.Event()

        async def wait(_: Sequence[bytes]) -> None:
            await gate.wait()

        numbers.before = wait
        await sets.begin(about())
        upload = asyncio.create_task(sets.add(NAME, counting(), 0))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(upload), 0.3)
        assert asked <= 2 * 4 + 4 + 1  # in flight, the next batch, and what shows that it is full
        gate.set()
        await upload

    asyncio.run(run())
    assert asked == 400


def test_batches_fit_into_a_message(store: Store, numbers: Numbers) -> None:
    sets = image_sets(store, numbers, profile_batch=16)

    async def large() -> AsyncIterator[Image]:
        for i in range(4):
            yield f"{i}.png", b"%d" % i + b" " * (15 * 2**20)

    asyncio.run(sets.take_in(about(), large()))
    assert [len(batch) for batch in numbers.batches] == [2, 2]


def test_images_that_are_there_are_not_sent_again(sets: ImageSets, numbers: Numbers) -> None:
    async def run() -> None:
        await sets.begin(about())
        await sets.add(NAME, pictures(*range(10)), 0)
        numbers.batches.clear()
        found = await sets.add(NAME, pictures(*range(5, 12)), 5)
        assert found.received_images == 12

    asyncio.run(run())
    assert numbers.batches == [[b"10", b"11"]]


def test_images_that_come_too_early_are_refused(sets: ImageSets) -> None:
    async def run() -> None:
        await sets.begin(about())
        with pytest.raises(RequestError, match=r"image 3 of imageSets/cats .* resume at 0"):
            await sets.add(NAME, pictures(3), 3)

    asyncio.run(run())


def test_too_many_images_are_refused_and_those_before_stay(store: Store, numbers: Numbers) -> None:
    sets = image_sets(store, numbers, max_images_per_set=10)

    async def run() -> None:
        await sets.begin(about())
        with pytest.raises(RequestError, match="at most 10 images"):
            await sets.add(NAME, pictures(*range(11)), 0)
        received = (await sets.get(NAME)).received_images
        await sets.add(NAME, pictures(*range(received, 10)), received)
        await sets.finish(NAME)

    asyncio.run(run())
    assert kept(store) == list(range(10))


def test_another_bundle_takes_no_part(sets: ImageSets, numbers: Numbers) -> None:
    async def run() -> None:
        await sets.begin(about())
        numbers.digest = "e" * 64
        with pytest.raises(NotReady, match="another bundle"):
            await sets.add(NAME, pictures(0), 0)
        with pytest.raises(AlreadyExists, match="begun with bundle_digest"):
            await sets.begin(about())
        assert (await sets.get(NAME)).received_images == 0

    asyncio.run(run())


def test_a_bundle_that_changes_during_an_upload_is_noticed(
    sets: ImageSets, numbers: Numbers
) -> None:
    real = numbers.profile

    async def another(images: Sequence[bytes], request: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = await real(images, request)
        return {**answer, "bundleDigest": "e" * 64} if b"20" in images else answer

    async def run() -> None:
        await sets.begin(about())
        numbers.profile = another  # type: ignore[method-assign]
        with pytest.raises(RequestError, match="another bundle"):
            await sets.add(NAME, pictures(*range(30)), 0)
        assert (await sets.get(NAME)).received_images == 20

    asyncio.run(run())


def test_the_layer_is_that_of_the_set_where_it_is_left_out(sets: ImageSets) -> None:
    async def run() -> None:
        assert (await sets.begin(about(layer="early"))).layer == "early"
        assert (await sets.begin(about())).layer == "early"
        with pytest.raises(AlreadyExists, match="begun with layer 'early'"):
            await sets.begin(about(layer="late"))
        with pytest.raises(RequestError, match="no layer 'middle'"):
            await sets.begin(about(layer="middle", name="imageSets/other"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("field", "value"), [("name", "imageSets/../x"), ("name", "cats"), ("display_name", "x" * 1001)]
)
def test_wrong_metadata_is_refused_before_anybody_is_asked(
    store: Store, field: str, value: str
) -> None:
    nobody: Any = None
    with pytest.raises(RequestError, match="name"):
        asyncio.run(ImageSets(store, nobody, Settings()).begin(about(**{field: value})))


def test_two_uploads_at_once_keep_apart(sets: ImageSets, store: Store) -> None:
    names = [f"imageSets/set-{n}" for n in range(3)]

    async def run() -> None:
        await asyncio.gather(
            *(
                sets.take_in(about(name=name), pictures(*range(10 * n + 5)))
                for n, name in enumerate(names)
            )
        )

    asyncio.run(run())
    assert [len(kept(store, name)) for name in names] == [5, 15, 25]


def test_images_are_counted_by_what_became_of_them(store: Store, numbers: Numbers) -> None:
    async def images() -> AsyncIterator[Image]:
        for content in (b"1", b"2", b"no number", b"", b"3"):
            yield "x", content

    metrics = Metrics()
    sets = ImageSets(store, numbers, Settings(profile_batch=2), metrics)
    asyncio.run(sets.take_in(ImageSetMetadata(), images()))
    counts = {
        outcome: metrics.registry.get_sample_value(
            "lavise_companion_images_total", {"outcome": outcome}
        )
        for outcome in ("accepted", "rejected")
    }
    assert counts == {"accepted": 3, "rejected": 2}
