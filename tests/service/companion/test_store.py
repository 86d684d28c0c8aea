import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest

from lavise.errors import EnvironmentProblem, RequestError, SpecError
from lavise.profile import profile_of, profile_table
from lavise.v1.bias_pb2 import Comparison, ImageSet, RejectedImage
from lavise_service.companion.objects import Objects, s3_filesystem
from lavise_service.companion.problems import (
    AlreadyExists,
    NotFound,
    NotReady,
    ResourceExhausted,
)
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store, open_store
from tests.full_disk import no_file_over
from tests.mortal_filesystem import Killed, MortalFilesystem
from tests.profiles import SCHEMA, small_profile
from tests.s3_server import BUCKET, KEYS, REGION, s3_server

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NAME = "imageSets/cats"
Place = Callable[..., Objects]


def image_set(name: str = NAME, *, made: datetime = NOW, days: int = 30) -> ImageSet:
    fresh = ImageSet(
        name=name, display_name="Cats", layer=SCHEMA.layer, bundle_digest=SCHEMA.bundle_digest
    )
    fresh.create_time.FromDatetime(made)
    fresh.expire_time.FromDatetime(made + timedelta(days=days))
    return fresh


def rejected_image(index: int) -> RejectedImage:
    found = RejectedImage(index=index, source=f"{index}.png")
    found.error.code, found.error.message = 3, "no image"
    return found


def is_bad(index: int) -> bool:
    return index % 5 == 3


def append(store: Store, first: int, end: int, name: str = NAME) -> ImageSet:
    """Every fifth image is no image."""
    good = [i for i in range(first, end) if not is_bad(i)]
    bad = [rejected_image(i) for i in range(first, end) if is_bad(i)]
    return store.append_part(name, first, end, profile_table(small_profile(good)), bad)


def upload(store: Store, n: int, name: str = NAME, step: int = 4, **options: object) -> ImageSet:
    """Goes on where the set stands, as a client does."""
    received = store.create_set(image_set(name, **options)).received_images  # type: ignore[arg-type]
    for first in range(received, n, step):
        append(store, first, min(first + step, n), name)
    return store.finish_set(name)


def assert_holds(store: Store, n: int, name: str = NAME) -> None:
    """The set is ready, with exactly the images below n that are any."""
    found = store.get_set(name)
    good = [i for i in range(n) if not is_bad(i)]
    assert found.state == ImageSet.STATE_READY
    assert (found.received_images, found.image_count) == (n, len(good))
    assert found.rejected_count == n - len(good)
    assert [one.index for one in found.rejected] == [i for i in range(n) if is_bad(i)][:100]
    kept, expected = profile_of(store.profile_table(name)), small_profile(good)
    assert kept.schema == expected.schema
    np.testing.assert_array_equal(kept.index, expected.index)
    np.testing.assert_array_equal(kept.activation, expected.activation)
    np.testing.assert_array_equal(kept.word_scores, expected.word_scores)
    assert kept.sources == expected.sources
    assert kept.fingerprints == expected.fingerprints


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


def local(root: Path, dies_at: int = 0) -> tuple[Objects, MortalFilesystem]:
    mortal = MortalFilesystem(pafs.LocalFileSystem(), dies_at)
    return Objects(pafs.PyFileSystem(mortal), str(root), local=True), mortal


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Opens the same store again and again, to die at a step if one is named."""
    if request.param == "local":
        return lambda dies_at=0: local(tmp_path / "store", dies_at)[0]
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    s3 = s3_filesystem(BUCKET, request.getfixturevalue("endpoint"), REGION)
    root = f"{BUCKET}/{tmp_path.name}"

    def open_s3(dies_at: int = 0) -> Objects:
        if not dies_at:
            return Objects(s3, root, local=False)
        mortal = MortalFilesystem(s3, dies_at, leaves_halves=False)
        return Objects(pafs.PyFileSystem(mortal), root, local=False)

    return open_s3


@pytest.fixture
def store(place: Place) -> Store:
    return Store(place())


def files(store: Store, folder: str = "sets") -> list[str]:
    return sorted(entry.path for entry in store._objects.list(folder))


def test_a_set_from_its_beginning_to_its_end(store: Store) -> None:
    assert store.create_set(image_set()).state == ImageSet.STATE_UPLOADING
    assert append(store, 0, 4).received_images == 4
    standing = append(store, 4, 10)
    assert (standing.received_images, standing.image_count) == (10, 8)
    assert [one.index for one in store.get_set(NAME).rejected] == [3, 8]
    assert store.get_set(NAME).rejected[0].error.message == "no image"
    with pytest.raises(NotReady, match="still uploaded"):
        store.profile_table(NAME)
    ready = store.finish_set(NAME)
    assert ready.display_name == "Cats"
    assert ready.expire_time.ToDatetime(UTC) == NOW + timedelta(days=30)
    assert_holds(store, 10)
    head, profile = files(store)[1], files(store)[0]
    assert head == "sets/cats/set.json"
    assert profile.startswith("sets/cats/profile-")
    assert len(files(store)) == 2
    store.delete_set(NAME)
    assert files(store) == []
    for gone in (store.get_set, store.finish_set, store.profile_table, store.delete_set):
        with pytest.raises(NotFound, match="there is no imageSets/cats"):
            gone(NAME)


def test_what_is_there_already_is_skipped(store: Store) -> None:
    store.create_set(image_set())
    append(store, 0, 4)
    before = files(store)
    assert append(store, 0, 4).received_images == 4
    assert append(store, 2, 3).received_images == 4
    assert files(store) == before
    append(store, 2, 7)  # reaches further: its new images count, the others once
    store.finish_set(NAME)
    assert_holds(store, 7)


def test_images_out_of_order_are_refused_with_where_to_resume(store: Store) -> None:
    store.create_set(image_set())
    append(store, 0, 4)
    with pytest.raises(RequestError, match="resume at 4"):
        append(store, 5, 6)


def test_an_upload_is_found_again_with_its_counts(store: Store) -> None:
    store.create_set(image_set())
    append(store, 0, 4)
    found = store.create_set(image_set(made=NOW + timedelta(days=1)))
    assert found.received_images == 4
    assert found.create_time.ToDatetime(UTC) == NOW
    assert [one.index for one in found.rejected] == [3]


@pytest.mark.parametrize(
    ("field", "value"), [("layer", "early"), ("bundle_digest", "b"), ("thumbnails", True)]
)
def test_an_upload_cannot_change_what_it_is(store: Store, field: str, value: object) -> None:
    store.create_set(image_set())
    other = image_set()
    setattr(other, field, value)
    with pytest.raises(AlreadyExists, match=f"begun with {field}"):
        store.create_set(other)


def test_a_complete_set_takes_nothing_more(store: Store) -> None:
    upload(store, 4)
    with pytest.raises(AlreadyExists, match="complete"):
        store.create_set(image_set())
    for first in (0, 4, 9):
        with pytest.raises(NotReady, match="complete"):
            append(store, first, first + 1)
    assert store.finish_set(NAME) == store.get_set(NAME)
    assert_holds(store, 4)


def test_a_set_without_images_cannot_be_finished(store: Store) -> None:
    store.create_set(image_set())
    with pytest.raises(NotReady, match="0 were received"):
        store.finish_set(NAME)
    store.append_part(NAME, 0, 1, profile_table(small_profile([])), [rejected_image(0)])
    with pytest.raises(NotReady, match="1 were received, 1 of them rejected"):
        store.finish_set(NAME)
    assert store.get_set(NAME).state == ImageSet.STATE_UPLOADING
    assert not [name for name in files(store) if "profile" in name]


def test_a_part_without_images_does_no_harm(store: Store) -> None:
    store.create_set(image_set())
    nothing = profile_table(small_profile([], thumbnails=True))
    store.append_part(NAME, 0, 1, nothing, [rejected_image(0)])
    some = profile_table(small_profile([1], thumbnails=True))
    store.append_part(NAME, 1, 2, some)
    store.finish_set(NAME)
    assert store.thumbnails(NAME, {0, 1}) == {1: b"jpeg1"}
    assert profile_of(store.profile_table(NAME)).thumbnails == []


def test_small_images_are_found_by_index(store: Store) -> None:
    store.create_set(image_set())
    with pytest.raises(NotReady, match="still uploaded"):
        store.thumbnails(NAME, {1})
    for first in (0, 4, 8):
        table = profile_table(small_profile(range(first, first + 3), thumbnails=True))
        store.append_part(NAME, first, first + 4, table, [rejected_image(first + 3)])
    store.finish_set(NAME)
    assert store.thumbnails(NAME, {1, 3, 9, 77}) == {1: b"jpeg1", 9: b"jpeg9"}
    upload(store, 4, "imageSets/none")
    assert store.thumbnails("imageSets/none", {1}) == {}
    with pytest.raises(NotFound):
        store.thumbnails("imageSets/other", {1})


def test_parts_of_different_bundles_are_never_merged(store: Store) -> None:
    store.create_set(image_set())
    append(store, 0, 2)
    other = small_profile([2], schema=replace(SCHEMA, bundle_digest="b" * 64))
    store.append_part(NAME, 2, 3, profile_table(other))
    with pytest.raises(NotReady, match="different bundles"):
        store.finish_set(NAME)
    assert store.get_set(NAME).received_images == 3
    assert not [name for name in files(store) if "profile" in name]


def test_only_a_hundred_rejected_images_are_named(store: Store) -> None:
    store.create_set(image_set())
    bad = [rejected_image(i) for i in range(1, 151)]
    store.append_part(NAME, 0, 151, profile_table(small_profile([0])), bad)
    assert len(store.get_set(NAME).rejected) == 100
    ready = store.finish_set(NAME)
    assert (len(ready.rejected), ready.rejected_count) == (100, 150)


def test_lists_are_paged_newest_first_and_read_no_profile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        upload(store, 2, f"imageSets/set-{n}", made=NOW + timedelta(hours=n % 3))
    store.create_set(image_set("imageSets/parts", made=NOW + timedelta(days=1)))
    append(store, 0, 4, "imageSets/parts")
    again = Store(store._objects)
    monkeypatch.setattr(Objects, "reading", None)
    first, token = again.list_sets(4, "")
    rest, end = again.list_sets(4, token)
    names = [one.name.removeprefix("imageSets/") for one in first + rest]
    assert names == ["parts", "set-2", "set-1", "set-4", "set-0", "set-3"]
    assert not end
    assert (first[0].received_images, first[0].rejected_count) == (4, 1)
    with pytest.raises(RequestError, match="page_token"):
        again.list_sets(4, "x")


def test_a_list_reads_each_set_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lavise_service.companion.summaries._SETTLED_S", -60.0)
    upload(store, 2)
    assert [one.name for one in store.list_sets(0, "")[0]] == [NAME]
    store.create_set(image_set("imageSets/more"))
    seen: list[str] = []
    real = Objects.read

    def noting(self: Objects, path: str) -> bytes:
        seen.append(path)
        return real(self, path)

    monkeypatch.setattr(Objects, "read", noting)
    assert len(store.list_sets(0, "")[0]) == 2
    assert seen == ["sets/more/set.json"]
    store.delete_set(NAME)
    assert [one.name for one in store.list_sets(0, "")[0]] == ["imageSets/more"]


def comparison(name: str, *, hours: int = 0, words: int = 3) -> Comparison:
    made = Comparison(name=name, state=Comparison.STATE_DONE)
    made.create_time.FromDatetime(NOW + timedelta(hours=hours))
    made.expire_time.FromDatetime(NOW + timedelta(days=30, hours=hours))
    for n in range(words):
        made.report.words.add(word=f"word-{n}", difference=n / 3)
    return made


def test_comparisons(store: Store) -> None:
    one, two = comparison("comparisons/one"), comparison("comparisons/two", hours=1)
    running = comparison("comparisons/one", words=0)
    running.state = Comparison.STATE_RUNNING
    for made in (running, one, two):
        store.comparisons.put(made)
    assert store.comparisons.get(one.name) == one
    listed, token = store.comparisons.list(1, "")
    assert [made.name for made in listed] == [two.name]
    assert not listed[0].HasField("report")
    assert [made.name for made in store.comparisons.list(1, token)[0]] == [one.name]
    store.comparisons.delete(one.name)
    for gone in (store.comparisons.get, store.comparisons.delete):
        with pytest.raises(NotFound, match="comparisons/one"):
            gone(one.name)


def test_what_has_expired_is_swept_away(store: Store) -> None:
    upload(store, 4, "imageSets/old", days=1)
    store.create_set(image_set("imageSets/forgotten", days=1))
    append(store, 0, 4, "imageSets/forgotten")
    upload(store, 4, "imageSets/young", days=60)
    forever = image_set("imageSets/forever")
    forever.ClearField("expire_time")
    store.create_set(forever)
    store.comparisons.put(comparison("comparisons/old", hours=-30 * 24))
    store.comparisons.put(comparison("comparisons/young"))
    assert store.sweep(NOW + timedelta(days=1)) == 3
    assert {one.name for one in store.list_sets(0, "")[0]} == {
        "imageSets/young",
        "imageSets/forever",
    }
    assert {name.split("/")[1] for name in files(store)} == {"young", "forever"}
    assert [one.name for one in store.comparisons.list(0, "")[0]] == ["comparisons/young"]
    assert_holds(store, 4, "imageSets/young")


def test_what_nothing_refers_to_is_swept_away_when_nobody_works_on_it(store: Store) -> None:
    upload(store, 4, "imageSets/parts", days=10**4)
    store.create_set(image_set(days=10**4))
    append(store, 0, 4)
    objects = store._objects
    kept = files(store)
    for stray in (
        "sets/cats/parts/0123456789abcdef-000000004-000000008-000000000.parquet",
        "sets/cats/profile-0123.parquet",
        "sets/cats/set.json.0a1b.tmp",
        "sets/parts/parts/0123456789abcdef-000000004-000000008-000000000.parquet",
        "sets/gone/parts/x.parquet",
        "sets/gone/profile-1.parquet",
        "comparisons/one.pb.0a1b.tmp",
    ):
        objects.write(stray, b"left behind")
    store.sweep(datetime.now(UTC))
    assert len(files(store)) == len(kept) + 6
    store.sweep(datetime.now(UTC) + timedelta(hours=2))
    assert files(store) == kept
    assert files(store, "comparisons") == []


def test_a_name_that_is_used_again_begins_anew(store: Store) -> None:
    store.create_set(image_set())
    append(store, 0, 4)
    [part] = [name for name in files(store) if "/parts/" in name]
    content = store._objects.read(part)
    store.delete_set(NAME)
    store._objects.write(part, content)  # by a process that knew nothing of it
    assert store.create_set(image_set()).received_images == 0
    assert store.get_set(NAME).received_images == 0


def test_a_damaged_file_is_named_and_hides_no_other(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    upload(store, 4)
    store._objects.write("sets/bad/set.json", b'{"imageSet": {"name": 3}}')
    store._objects.write("sets/worse/set.json", b"\xff")
    store._objects.write("comparisons/bad.pb", b"[]")
    one = comparison("comparisons/one").SerializeToString()
    store._objects.write("comparisons/another.pb", one)
    late = comparison("comparisons/late")
    late.create_time.nanos = 2 * 10**9
    store._objects.write("comparisons/late.pb", late.SerializeToString())
    strange = comparison("comparisons/strange")
    strange.error.details.add(type_url="type.googleapis.com/no.such.Type")
    store._objects.write("comparisons/strange.pb", strange.SerializeToString())
    assert [one.name for one in store.list_sets(0, "")[0]] == [NAME]
    assert store.comparisons.list(0, "")[0] == []
    assert "sets/bad/set.json in the store is damaged" in caplog.text
    assert "another.pb in the store is damaged: it holds 'comparisons/one'" in caplog.text
    assert "late.pb in the store is damaged" in caplog.text
    with pytest.raises(EnvironmentProblem, match=r"strange\.pb in the store is damaged"):
        store.comparisons.get("comparisons/strange")
    with pytest.raises(EnvironmentProblem, match=r"sets/worse/set\.json in the store is damaged"):
        store.get_set("imageSets/worse")
    store.sweep(datetime.now(UTC) + timedelta(hours=2))
    assert "sets/bad/set.json" in files(store)
    store.delete_set("imageSets/bad")
    profile = next(name for name in files(store) if "profile" in name)
    store._objects.write(profile, b"PAR1 no more")
    with pytest.raises(EnvironmentProblem, match="is damaged"):
        store.profile_table(NAME)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "cats",
        "imageSets/",
        "imageSets/Cats",
        "imageSets/..",
        "imageSets/../../etc",
        "imageSets/a/b",
        "imageSets/a\x00",
        "imageSets/a\n",
        "imageSets/-a",
        "imageSets/a-",
        f"imageSets/{'a' * 64}",
        "imageSets/é",
        "comparisons/a",
        "/imageSets/a",
        "imageSets/%2e%2e",
    ],
)
def test_other_names_make_no_path(tmp_path: Path, name: str) -> None:
    store = Store(local(tmp_path, dies_at=1)[0])  # dies if anything is asked of the files
    for call in (store.get_set, store.finish_set, store.profile_table, store.delete_set):
        with pytest.raises(RequestError, match="is no name here; accepted: imageSets/ID"):
            call(name)
    with pytest.raises(RequestError):
        store.create_set(image_set(name))
    with pytest.raises(RequestError):
        append(store, 0, 1, name)
    other = name.replace("comparisons", "imageSets") if "comp" in name else name
    for call in (store.comparisons.get, store.comparisons.delete):
        with pytest.raises(RequestError, match="accepted: comparisons/ID"):
            call(other)


# Killed at each step in turn: nothing that was complete is lost, and the rest can go on.


def steps(run: Callable[[Store], None], place: Place, stride: int) -> Iterator[Store]:
    """Runs until killed at each step; yields the store opened again after each."""
    for dies_at in range(1, 10_000, stride):
        try:
            run(Store(place(dies_at=dies_at)))
        except Killed:
            yield Store(place())
        else:
            assert dies_at > 2, "nothing was interrupted"
            return
    raise AssertionError("it never ends")


def stride_of(place: Place) -> int:
    """Every step locally; some of them on the slow server."""
    return 1 if place.__name__ == "<lambda>" else 7


def clean_after(store: Store) -> None:
    """What was left behind is gone after a sweep: one JSON and one Parquet file for each set."""
    store.sweep(datetime.now(UTC) + timedelta(hours=2))
    for folder in {"/".join(name.split("/")[:2]) for name in files(store)}:
        profile, head = files(store, folder)
        assert head == f"{folder}/set.json"
        assert profile.startswith(f"{folder}/profile-")


def test_killed_at_any_step_of_an_upload(place: Place) -> None:
    upload(Store(place()), 6, "imageSets/done", days=10**4)

    def run(store: Store) -> None:
        upload(store, 11, days=10**4)

    seen = set()
    for store in steps(run, place, stride_of(place)):
        assert_holds(store, 6, "imageSets/done")
        listed = {one.name: one for one in store.list_sets(0, "")[0]}
        found = listed.get(NAME)
        if found is not None:
            seen.add((found.state, found.received_images))
        if found is None or found.state == ImageSet.STATE_UPLOADING:
            upload(store, 11, days=10**4)
        store.finish_set(NAME)
        assert_holds(store, 11)
        clean_after(store)
        store.delete_set(NAME)
    states = {(1, 0), (1, 4), (1, 8), (1, 11), (2, 11)}
    assert seen == states if stride_of(place) == 1 else seen <= states
    assert_holds(Store(place()), 11)  # the run that nobody killed
    clean_after(Store(place()))


def test_killed_at_any_step_of_a_deletion(place: Place) -> None:
    upload(Store(place()), 6, "imageSets/done", days=10**4)
    intact = absent = 0

    def run(store: Store) -> None:
        store.delete_set(NAME)

    upload(Store(place()), 8, days=10**4)
    for store in steps(run, place, 1):
        assert_holds(store, 6, "imageSets/done")
        if NAME in {one.name for one in store.list_sets(0, "")[0]}:
            assert_holds(store, 8)
            intact += 1
        else:
            absent += 1
        if files(store, "sets/cats"):
            store.delete_set(NAME)  # what is left can be deleted, by whoever asks again
        assert files(store, "sets/cats") == []
        upload(store, 8, days=10**4)
        assert_holds(store, 8)
    assert intact
    assert absent


def test_killed_at_any_step_of_writing_a_comparison(place: Place) -> None:
    old, new = comparison("comparisons/one"), comparison("comparisons/one", words=50)

    found = []
    for dies_at in range(1, 100):
        Store(place()).comparisons.put(old)
        try:
            Store(place(dies_at=dies_at)).comparisons.put(new)
        except Killed:
            found.append(len(Store(place()).comparisons.get(old.name).report.words))
        else:
            break
    assert set(found) <= {3, 50}
    assert found == sorted(found)
    assert Store(place()).comparisons.get(old.name) == new


def test_an_error_while_finishing_leaves_no_profile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow completes an S3 object even where the writing fails in the middle."""
    store.create_set(image_set())
    append(store, 0, 4)
    append(store, 4, 8)
    real, calls = Objects.reading, []

    def failing(self: Objects, path: str) -> object:
        calls.append(path)
        if len(calls) == 2:
            raise EnvironmentProblem("the network is gone")
        return real(self, path)

    monkeypatch.setattr(Objects, "reading", failing)
    with pytest.raises(EnvironmentProblem, match="network"):
        store.finish_set(NAME)
    assert not [name for name in files(store) if "profile" in name]
    store.finish_set(NAME)
    assert_holds(store, 8)


SENDER = """
import sys
sys.path.insert(0, {root!r})
from tests.service.companion.test_store import *
store = open_store(Settings(store={store!r}))
print("ready", flush=True)
input()
for _ in range(50):
    try:
        n = {n}
        received = store.create_set(image_set()).received_images
        while received < n:
            received = append(store, received, min(received + {step}, n)).received_images
        store.finish_set(NAME)
    except (AlreadyExists, NotReady):
        break
    except RequestError as problem:  # the other one has begun the set in the same moment
        assert 'resume at' in problem.message
assert_holds(store, n)
"""


def test_two_processes_may_send_one_set(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    place = str(tmp_path / "store")
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER.format(root=root, store=place, n=300, step=step)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for step in (7, 11)
    ]
    for sender in senders:
        assert sender.stdout is not None
        assert sender.stdout.readline() == "ready\n"
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("go\n")
        sender.stdin.flush()
    for sender in senders:
        sender.communicate(timeout=120)
    assert [sender.returncode for sender in senders] == [0, 0]
    store = open_store(Settings(store=str(tmp_path / "store")))
    assert_holds(store, 300)
    clean_after(store)


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    store = open_store(Settings(store=str(tmp_path / "store")))
    upload(store, 40, "imageSets/done")
    store.create_set(image_set())
    with no_file_over(1000), pytest.raises(ResourceExhausted, match="no room in the store"):
        append(store, 0, 40)
    assert store.get_set(NAME).received_images == 0
    assert not [name for name in files(store) if name.endswith(".tmp")]
    append(store, 0, 40)
    store.finish_set(NAME)
    assert_holds(store, 40)
    assert_holds(store, 40, "imageSets/done")


def test_stores_are_opened_by_folder_or_url(
    tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    upload(open_store(Settings(store=f"file://{tmp_path}/a")), 4)
    assert_holds(open_store(Settings(store=str(tmp_path / "a"))), 4)
    url = f"s3://{BUCKET}/{tmp_path.name}/b"
    upload(open_store(Settings(store=url, s3_endpoint=endpoint, s3_region=REGION)), 4)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert_holds(open_store(Settings(store=f"{url}/")), 4)
    with pytest.raises(EnvironmentProblem, match=r"does not answer: .*bucket"):
        open_store(Settings(store="s3://there-is-none/x"))
    with pytest.raises(SpecError, match="LAVISE_STORE is 'gopher://x'"):
        open_store(Settings(store="gopher://x"))


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match=r"the store at .*/file/store does not answer"):
        open_store(Settings(store=str(tmp_path / "file" / "store")))
