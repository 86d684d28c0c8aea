"""What dies: the companion at any moment, and TorchServe's worker. Nothing finished is lost."""

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from lavise.client import Client
from lavise.client.requests import upload_parts
from lavise.profile import profile_of
from lavise.v1 import bias_pb2 as pb
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise_service.companion.store import Store
from lavise_service.torchserve import TorchServe
from tests.companion_process import CompanionProcess, companion_process, psutil
from tests.uploads import PICTURES, Picture, Slowly

pytestmark = pytest.mark.server


@pytest.fixture
def companion(shared_torchserve: TorchServe, tmp_path: Path) -> Iterator[CompanionProcess]:
    with companion_process(shared_torchserve.grpc_target, tmp_path, profile_batch=4) as running:
        yield running


@pytest.fixture
def client(companion: CompanionProcess) -> Iterator[Client]:
    with Client(companion.grpc) as made:
        yield made


def until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_same(store: Store, name: str, undisturbed: str) -> None:
    """Two profiles are equal row by row, but for what another batch does to the last digits."""
    ours, theirs = (profile_of(store.profile_table(one)) for one in (name, undisturbed))
    assert ours.schema == theirs.schema
    assert ours.index.tolist() == theirs.index.tolist()
    assert ours.sources == theirs.sources
    assert ours.fingerprints == theirs.fingerprints
    np.testing.assert_array_equal(ours.qualified, theirs.qualified)
    np.testing.assert_allclose(ours.activation, theirs.activation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        ours.word_scores.astype(float), theirs.word_scores.astype(float), atol=1e-3
    )


def assert_clean(store: Store, *names: str) -> None:
    """After a sweep nothing but these finished sets is left, two files each."""
    store.sweep(datetime.now(UTC) + timedelta(hours=2))
    kept = [entry.path.split("/") for entry in store._objects.list("sets")]
    assert sorted(path[1] for path in kept) == sorted(2 * [n.partition("/")[2] for n in names])


def test_killed_again_and_again_during_an_upload(
    companion: CompanionProcess, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(20)
    done, broken = "imageSets/done", "imageSets/broken"
    assert client.upload_image_set(PICTURES, name=done).image_count == len(PICTURES)
    images = Slowly(PICTURES)
    received = [0]
    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(client.upload_image_set, images, name=broken)
        for moment in sorted(rng.choice(280, 5, replace=False)):
            until(lambda moment=moment: images.furthest >= moment)
            time.sleep(rng.uniform(0, 0.05))
            companion.kill()
            sets = {one.name: one for one in companion.store().list_sets(0, "")[0]}
            assert sets[done].state == pb.ImageSet.STATE_READY
            assert sets[done].image_count == len(PICTURES)
            if broken in sets:
                assert sets[broken].state == pb.ImageSet.STATE_UPLOADING
                received.append(sets[broken].received_images)
            companion.start()
        images.may_end.set()
        found = uploading.result(timeout=60)
    assert received == sorted(received), "what was kept stays"
    assert received[-1] > 0
    assert found.state == pb.ImageSet.STATE_READY
    assert found.image_count == found.received_images == len(PICTURES)
    store = companion.store()
    assert_same(store, broken, done)
    assert_clean(store, done, broken)
    assert "damaged" not in caplog.text


def sent(companion: CompanionProcess, name: str, images: Sequence[Picture]) -> "Future[Any]":
    """Begins an upload that is not taken up again when it breaks."""
    channel = grpc.insecure_channel(companion.grpc)
    stub: Any = BiasComparisonStub(channel)  # type: ignore[no-untyped-call]
    call = stub.UploadImageSet.future(upload_parts(pb.ImageSetMetadata(name=name), images, 0))
    call.add_done_callback(lambda _: channel.close())
    future: Future[Any] = call
    return future


def test_killed_while_a_set_is_finished(
    companion: CompanionProcess, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(30)
    images = PICTURES[:12]
    client.upload_image_set(images, name="imageSets/warm")
    start = time.monotonic()
    client.upload_image_set(images, name="imageSets/whole")
    moment = 0.7 * (time.monotonic() - start)
    states = set()
    names = [f"imageSets/round-{number}" for number in range(8)]
    for name in names:
        call = sent(companion, name, images)
        time.sleep(moment)
        companion.kill()
        with contextlib.suppress(grpc.RpcError):
            call.result(timeout=10)
        store = companion.store()
        found = next((one for one in store.list_sets(0, "")[0] if one.name == name), None)
        ready = found is not None and found.state == pb.ImageSet.STATE_READY
        states.add(ready)
        # Ever closer to the end of the work, from both sides, however fast the machine is now.
        moment *= rng.uniform(0.6, 0.9) if ready else rng.uniform(1.1, 1.7)
        companion.start()
        if not ready:
            client.upload_image_set(images, name=name)
        assert client.image_set(name).image_count == len(images)
        assert_same(store, name, "imageSets/whole")
    assert states == {True, False}, "the moments were spread over the upload"
    assert_clean(companion.store(), "imageSets/warm", "imageSets/whole", *names)
    assert "damaged" not in caplog.text


def test_killed_while_comparisons_are_made(
    companion: CompanionProcess, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(40)
    a, b = (
        client.upload_image_set(images, name=name).name
        for name, images in (("imageSets/a", PICTURES[:60]), ("imageSets/b", PICTURES[30:110]))
    )
    start = time.monotonic()
    client.delete_comparison(client.compare(a, b, permutations=2000).name)
    seconds = time.monotonic() - start
    rounds = 6
    for seed in range(rounds):
        with httpx.Client(base_url=companion.url, trust_env=False) as http:
            asked = {"imageSetA": a, "imageSetB": b, "seed": seed, "permutations": 2000}
            assert http.post("/v1/comparisons", json=asked).status_code == 202
        time.sleep(rng.uniform(0, 1.2) * seconds)
        companion.kill()
        files = [
            entry.path
            for entry in companion.store()._objects.list("comparisons")
            if entry.path.endswith(".pb")
        ]
        assert len(companion.store().comparisons.list(0, "")[0]) == len(files) == seed + 1
        companion.start()
    found = {one.request.seed: one.name for one in client.comparisons()}
    assert sorted(found) == list(range(rounds))
    for seed, name in found.items():
        until(lambda name=name: client.comparison(name).state != pb.Comparison.STATE_RUNNING)
        undisturbed = client.compare(a, b, seed=seed, permutations=2000)
        interrupted = client.comparison(name)
        assert interrupted.state == pb.Comparison.STATE_DONE
        assert interrupted.report == undisturbed.report
    assert "damaged" not in caplog.text


def test_a_client_begins_an_interrupted_comparison_again(
    companion: CompanionProcess, client: Client
) -> None:
    a, b = (client.upload_image_set(images).name for images in (PICTURES[:60], PICTURES[60:120]))
    begun = threading.Event()

    def compared() -> pb.Comparison:
        return client.compare(a, b, permutations=20_000, progress=lambda *_: begun.set())

    with ThreadPoolExecutor(1) as pool:
        comparing = pool.submit(compared)
        assert begun.wait(30)
        companion.kill()
        assert not comparing.done()
        companion.start()
        assert comparing.result(timeout=60).state == pb.Comparison.STATE_DONE


def test_a_worker_killed_during_an_upload(
    companion: CompanionProcess, client: Client, shared_torchserve: TorchServe
) -> None:
    images = Slowly(PICTURES)
    images.may_end.set()
    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(client.upload_image_set, images)
        for moment in (60, 180):
            until(lambda moment=moment: images.furthest >= moment)
            children = psutil.Process(shared_torchserve.pid).children(recursive=True)
            for worker in children:
                if worker.name().startswith("python"):
                    worker.kill()
        found = uploading.result(timeout=90)
    assert found.state == pb.ImageSet.STATE_READY
    assert (found.image_count, found.rejected_count) == (len(PICTURES), 0)
    profile = profile_of(companion.store().profile_table(found.name))
    assert profile.sources == [name for name, _ in PICTURES]
