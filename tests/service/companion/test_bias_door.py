"""``lavise.v1.BiasComparison`` of a companion before a real TorchServe, by ``lavise.client``."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from lavise.bias import compare
from lavise.client import AsyncClient, Client
from lavise.client.requests import upload_parts
from lavise.explainer import Explainer
from lavise.image_set import folder_images
from lavise.profiling import profile_images
from lavise.v1 import bias_pb2 as pb
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise_service.torchserve import TorchServe
from tests.running_companion import Running, running_companion, told
from tests.tiny_cnn import COLOURS, INPUT_SIZE, picture

pytestmark = pytest.mark.server
MAX_IMAGE_BYTES = 100_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of 40 pictures; tomatoes are in A alone."""
    root = tmp_path_factory.mktemp("sets")
    for name, colours in (("A", ("tomato", "snow")), ("B", ("ocean", "snow"))):
        (root / name).mkdir()
        for i in range(40):
            image = picture(COLOURS[colours[i % 2]], 1000 * (name == "B") + i)
            image.save(root / name / f"{i:02}.png")
    return root / "A", root / "B"


@pytest.fixture(scope="module")
def companion(shared_torchserve: TorchServe, folders: tuple[Path, Path]) -> Iterator[Running]:
    with running_companion(
        shared_torchserve.grpc_target,
        allowed_uris=folders[0].parent.as_uri(),
        max_image_bytes=MAX_IMAGE_BYTES,
        profile_batch=5,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def stub(companion: Running) -> Any:
    return BiasComparisonStub(companion.channel)  # type: ignore[no-untyped-call]


@pytest.fixture
def client(companion: Running) -> Iterator[Client]:
    with Client(str(companion.doors.grpc)) as made:
        yield made


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def code(problem: pytest.ExceptionInfo[grpc.RpcError]) -> grpc.StatusCode:
    assert isinstance(problem.value, grpc.Call)
    return problem.value.code()


def upload(stub: Any, *parts: pb.UploadImageSetRequest) -> pb.UploadImageSetResponse:
    answer: pb.UploadImageSetResponse = stub.UploadImageSet(iter(parts))
    return answer


def test_a_comparison_is_what_the_library_says(
    client: Client, folders: tuple[Path, Path], tiny_bundle: Path
) -> None:
    sets = [
        client.upload_image_set(files(folder), display_name=folder.name, layer="body")
        for folder in folders
    ]
    for image_set in sets:
        assert image_set.state == pb.ImageSet.STATE_READY
        assert image_set.image_count == image_set.received_images == 40
        assert image_set.layer == "body"
        assert client.image_set(image_set.name) == image_set
    heard: list[tuple[str, float]] = []
    found = client.compare(
        sets[0].name,
        sets[1].name,
        seed=5,
        permutations=300,
        progress=lambda stage, done: heard.append((stage, done)),
    )
    assert heard
    explainer = Explainer.open(tiny_bundle, device="cpu", threads=1)
    a, b = (
        profile_images(explainer, folder_images(folder, INPUT_SIZE), layer="body")
        for folder in folders
    )
    expected = compare(a, b, seed=5, permutations=300)
    assert {word.word for word in expected.words[:2]} == {"tomato", "ocean"}
    for side, image_set in zip((expected.a, expected.b), sets, strict=True):
        side.name, side.display_name = image_set.name, image_set.display_name
    assert found.state == pb.Comparison.STATE_DONE
    assert [w.word for w in found.report.words] == [w.word for w in expected.words]
    for ours, theirs in zip(found.report.words, expected.words, strict=True):
        assert ours.difference == pytest.approx(theirs.difference, abs=2e-3)
    assert found.report.a == expected.a
    assert found.report.findings[0].words == expected.findings[0].words
    assert client.comparison(found.name) == found
    assert found.name in [one.name for one in client.comparisons()]
    again = client.compare(sets[0].name, sets[1].name, seed=5, permutations=300)
    assert again.report == found.report
    client.delete_comparison(again.name)
    client.delete_image_set(sets[0].name)
    assert sets[0].name not in [one.name for one in client.image_sets()]
    with pytest.raises(grpc.RpcError) as problem:
        client.compare(sets[0].name, sets[1].name)
    assert code(problem) is grpc.StatusCode.NOT_FOUND


def test_a_broken_upload_goes_on_where_it_stopped(
    client: Client, stub: Any, folders: tuple[Path, Path]
) -> None:
    name = "imageSets/broken"
    about = pb.ImageSetMetadata(name=name, thumbnails=True)
    images = files(folders[0])

    def breaking() -> Iterator[pb.UploadImageSetRequest]:
        for part in upload_parts(about, images, 0):
            if part.chunk.index == 23:
                time.sleep(0.5)  # let what was sent be worked on
                raise ConnectionError
            yield part

    with pytest.raises(grpc.RpcError):
        stub.UploadImageSet(breaking())
    deadline = time.monotonic() + 10
    while not (received := client.image_set(name).received_images):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert 0 < received <= 23
    assert client.image_set(name).state == pb.ImageSet.STATE_UPLOADING
    with pytest.raises(grpc.RpcError) as early:
        stub.UploadImageSet(upload_parts(about, images, received + 5))
    assert code(early) is grpc.StatusCode.INVALID_ARGUMENT
    done = client.upload_image_set(images, name=name, thumbnails=True)
    assert done.image_count == 40
    with pytest.raises(grpc.RpcError) as taken:
        client.upload_image_set(images, name=name, thumbnails=True)
    assert code(taken) is grpc.StatusCode.ALREADY_EXISTS
    client.delete_image_set(name)


def test_an_answer_that_is_lost(companion: Running, folders: tuple[Path, Path]) -> None:
    """The set was finished, and the connection broke before the client was told."""

    async def work() -> None:
        async with AsyncClient(str(companion.doors.grpc)) as lavise:
            upload_there = lavise._bias.UploadImageSet

            async def lost(*args: Any, **options: Any) -> None:
                await upload_there(*args, **options)
                lavise._bias.UploadImageSet = upload_there
                nothing = grpc.aio.Metadata()
                raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing)

            lavise._bias.UploadImageSet = lost
            done = await lavise.upload_image_set(files(folders[0]), name="imageSets/lost")
            assert (done.state, done.image_count) == (pb.ImageSet.STATE_READY, 40)
            await lavise.delete_image_set(done.name)

    asyncio.run(work())


def test_what_cannot_be_read_is_counted(client: Client, folders: tuple[Path, Path]) -> None:
    good = [(f"{i}.png", file.read_bytes()) for i, file in enumerate(files(folders[0])[:6])]
    bad = [("text.png", b"no image"), ("empty.png", b""), ("big.png", bytes(MAX_IMAGE_BYTES + 1))]
    found = client.upload_image_set([*good[:3], *bad, *good[3:]])
    assert (found.image_count, found.rejected_count, found.received_images) == (6, 3, 9)
    assert [(one.index, one.source) for one in found.rejected] == [
        (3, "text.png"),
        (4, "empty.png"),
        (5, "big.png"),
    ]
    assert all(one.error.message for one in found.rejected)
    client.delete_image_set(found.name)


def test_a_folder_that_is_allowed(client: Client, folders: tuple[Path, Path]) -> None:
    found = client.import_image_set(folders[1].as_uri(), display_name="B")
    assert found.image_count == 40
    client.delete_image_set(found.name)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file:///etc",
        "http://169.254.169.254/latest/meta-data",
        "s3://elsewhere/x",
        "",
    ],
)
def test_other_folders_are_refused(client: Client, uri: str) -> None:
    before = len(list(client.image_sets()))
    with pytest.raises(grpc.RpcError) as problem:
        client.import_image_set(uri)
    assert code(problem) in {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
    assert told(problem.value).message
    assert len(list(client.image_sets())) == before, "nothing half-made is left"


def chunk(**fields: Any) -> pb.UploadImageSetRequest:
    return pb.UploadImageSetRequest(chunk=pb.ImageChunk(**fields))


def metadata(**fields: Any) -> pb.UploadImageSetRequest:
    return pb.UploadImageSetRequest(metadata=pb.ImageSetMetadata(**fields))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "first message"),
        ([chunk(index=0)], "first message"),
        ([metadata(name="nose/x")], "imageSets/"),
        ([metadata(name="imageSets/../x")], "imageSets/"),
        ([metadata(layer="nose")], "stem, body"),
        ([metadata(), metadata()], "piece of an image"),
        ([metadata(), chunk(index=-1, last=True)], "accepted: 0 and more"),
        ([metadata(), chunk(index=7, last=True)], "too early"),
        ([metadata(), chunk(index=0, content=b"x")], "no end"),
        ([metadata(), chunk(index=0, last=True), chunk(index=2, last=True)], "in order"),
        ([metadata(), chunk(index=0, content=b"x"), chunk(index=1, content=b"y")], "in order"),
    ],
)
def test_bad_uploads(stub: Any, parts: Sequence[pb.UploadImageSetRequest], said: str) -> None:
    with pytest.raises(grpc.RpcError) as problem:
        upload(stub, *parts)
    assert code(problem) is grpc.StatusCode.INVALID_ARGUMENT
    assert said in told(problem.value).message


def test_a_set_without_a_readable_image(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as problem:
        upload(stub, metadata(), chunk(index=0, content=b"x", last=True))
    assert code(problem) is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"alpha": 7.0}, "alpha is 7"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"permutations": 3}, "permutations is 3"),
        ({"permutations": -1}, "permutations is -1"),
        ({"image_set_b": "imageSets/a"}, "name two sets"),
        ({"image_set_a": "../../etc"}, "imageSets/"),
    ],
)
def test_bad_comparisons(stub: Any, fields: dict[str, Any], said: str) -> None:
    asked = {"image_set_a": "imageSets/a", "image_set_b": "imageSets/b"} | fields
    with pytest.raises(grpc.RpcError) as problem:
        list(stub.Compare(pb.CompareRequest(**asked)))
    assert code(problem) is grpc.StatusCode.INVALID_ARGUMENT
    assert said in told(problem.value).message


def test_a_cancelled_comparison_is_given_up(
    client: Client, stub: Any, folders: tuple[Path, Path]
) -> None:
    a, b = (client.upload_image_set(files(folder)) for folder in folders)
    before = {one.name for one in client.comparisons()}
    call = stub.Compare(
        pb.CompareRequest(image_set_a=a.name, image_set_b=b.name, permutations=100_000)
    )
    first = next(call)
    assert first.WhichOneof("event") == "progress"
    assert len({one.name for one in client.comparisons()} - before) == 1
    call.cancel()
    deadline = time.monotonic() + 10
    while {one.name for one in client.comparisons()} - before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    # The next one does not wait for it.
    assert client.compare(a.name, b.name, permutations=100).HasField("report")


def test_the_asynchronous_client(companion: Running, folders: tuple[Path, Path]) -> None:
    async def work() -> None:
        async with AsyncClient(str(companion.doors.grpc)) as lavise:
            answer = await lavise.explain([files(folders[0])[0]], most_active=2, layer="body")
            assert len(answer.images[0].filters) == 2
            assert (await lavise.model()).layers[0].name == "stem"
            described = [one async for one in lavise.describe_filters(layer="body")]
            assert [one.index for one in described] == list(range(12))
            a, b = [await lavise.upload_image_set(files(folder)) for folder in folders]
            found = await lavise.compare(a.name, b.name, permutations=100)
            assert found.HasField("report")
            assert (await lavise.comparison(found.name)) == found
            names = [one.name async for one in lavise.image_sets()]
            assert {a.name, b.name} <= set(names)
            for one in (a, b):
                await lavise.delete_image_set(one.name)
            await lavise.delete_comparison(found.name)
            assert found.name not in [one.name async for one in lavise.comparisons()]

    asyncio.run(work())
