"""Callers who send too slowly, too much, or what is made to harm: refused, and nobody suffers."""

import asyncio
import contextlib
import io
import itertools
import select
import socket
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2

from lavise.client import Client
from lavise.client.requests import CHUNK_BYTES, upload_parts
from lavise.v1 import bias_pb2 as pb
from lavise.v1 import explain_pb2
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.torchserve import TorchServe
from tests.companion_process import CompanionProcess, companion_process
from tests.running_companion import detail, told
from tests.uploads import PICTURES

pytestmark = pytest.mark.server
MiB: Final = 2**20
IDLE_S: Final = 0.6
FORM: Final = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
Part = pb.UploadImageSetRequest


@pytest.fixture(scope="module")
def companion(
    shared_torchserve: TorchServe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CompanionProcess]:
    """Takes one upload at a time: who does not let go of it is noticed."""
    with companion_process(
        shared_torchserve.grpc_target,
        tmp_path_factory.mktemp("companion"),
        max_upload_idle_s=IDLE_S,
        max_concurrent_uploads=1,
        max_image_bytes=MiB,
        max_request_bytes=2 * MiB,
    ) as running:
        yield running


@pytest.fixture
def stub(companion: CompanionProcess) -> Iterator[Any]:
    with grpc.insecure_channel(companion.grpc) as channel:
        yield BiasComparisonStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture
def http(companion: CompanionProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=companion.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(autouse=True)
def still_answers(companion: CompanionProcess) -> Iterator[None]:
    """After each of these callers an honest one is served as before."""
    yield
    with Client(companion.grpc) as client:
        found = client.upload_image_set(PICTURES[:3])
        assert found.image_count == 3
        client.delete_image_set(found.name)
    assert "Traceback" not in companion.log


@contextmanager
def bounded_memory(companion: CompanionProcess, most: int) -> Iterator[None]:
    """The process never holds so many bytes more than before."""
    before, peak = companion.memory(), [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak.append(companion.memory())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
    assert max(peak) - before < most, f"{(max(peak) - before) / MiB:.0f} MiB more"


def metadata() -> Part:
    return Part(metadata=pb.ImageSetMetadata())


def silent(stopped: threading.Event) -> Iterator[Part]:
    yield metadata()
    stopped.wait(20)


def silent_in_an_image(stopped: threading.Event) -> Iterator[Part]:
    yield from itertools.islice(upload_parts(pb.ImageSetMetadata(), PICTURES, 0), 5)
    yield Part(chunk=pb.ImageChunk(index=4, content=PICTURES[4][1][:100]))
    stopped.wait(20)


def a_byte_now_and_then(stopped: threading.Event) -> Iterator[Part]:
    yield metadata()
    while not stopped.wait(IDLE_S / 4):
        yield Part(chunk=pb.ImageChunk(index=0, content=b"x"))


@pytest.mark.parametrize("slow", [silent, silent_in_an_image, a_byte_now_and_then])
def test_a_stalled_stream_is_not_waited_for(
    stub: Any, slow: Callable[[threading.Event], Iterator[Part]]
) -> None:
    stopped = threading.Event()
    start = time.monotonic()
    call = stub.UploadImageSet.future(slow(stopped), timeout=15)
    time.sleep(IDLE_S / 3)
    with pytest.raises(grpc.RpcError) as refused:
        stub.UploadImageSet(iter([metadata()]))
    assert told(refused.value).code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    with pytest.raises(grpc.RpcError) as ended:
        call.result(timeout=20)
    stopped.set()
    assert told(ended.value).code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert "too slowly" in told(ended.value).message
    assert time.monotonic() - start < 10 * IDLE_S


def test_who_is_refused_while_still_sending_hears_why(companion: CompanionProcess) -> None:
    """grpc.aio says INTERNAL where it finds the call closed under what it still writes."""
    images = [(str(i), bytes(MiB // 2)) for i in range(8)]

    async def codes() -> set[grpc.StatusCode]:
        async with grpc.aio.insecure_channel(companion.grpc) as channel:
            stub: Any = BiasComparisonStub(channel)  # type: ignore[no-untyped-call]  # generated

            async def code() -> grpc.StatusCode:
                sent = upload_parts(pb.ImageSetMetadata(), images, 0)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.UploadImageSet(sent, timeout=15)
                return refused.value.code()

            return {*await asyncio.gather(*(code() for _ in range(12)))}

    let_in = grpc.StatusCode.FAILED_PRECONDITION  # none of the images is one
    assert asyncio.run(codes()) == {let_in, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.mark.parametrize("bytes_", [0, 40])
def test_a_stalled_form_is_not_waited_for(
    companion: CompanionProcess, http: httpx.Client, bytes_: int
) -> None:
    host, _, port = companion.http.partition(":")
    head = (
        b"POST /v1/imageSets HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        start = time.monotonic()
        connection.sendall(head + b"%x\r\n%s\r\n" % (len(FORM), FORM))
        with contextlib.suppress(ConnectionError):
            for _ in range(bytes_):
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(IDLE_S / 4)
                if select.select([connection], [], [], 0)[0]:
                    break
        answer = b""
        while b"DEADLINE_EXCEEDED" not in answer and (piece := connection.recv(MiB)):
            answer += piece
        assert time.monotonic() - start < 10 * IDLE_S
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"DEADLINE_EXCEEDED" in answer
    assert http.get("/v1/imageSets").json()["imageSets"] == []


def test_a_message_that_is_too_large(companion: CompanionProcess, stub: Any) -> None:
    large = bytes(3 * MiB)
    with grpc.insecure_channel(companion.grpc) as channel:
        explainer: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
        image = explain_pb2.Image(content=large)
        with pytest.raises(grpc.RpcError) as refused:
            explainer.Explain(explain_pb2.ExplainRequest(images=[image]))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in str(refused.value.details())
    chunk = Part(chunk=pb.ImageChunk(content=large, last=True))
    with pytest.raises(grpc.RpcError) as broken:
        stub.UploadImageSet(iter([metadata(), chunk]))
    assert broken.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (explain_pb2.DescribeFiltersRequest(indices=[0] * MiB), "indices"),
        (explain_pb2.DescribeFiltersRequest(page_token="a" * MiB), "page_token"),
        (explain_pb2.GetModelRequest(model="a" * MiB), "model"),
        (
            explain_pb2.ExplainRequest(
                images=[explain_pb2.Image(content=PICTURES[0][1])],
                filters=explain_pb2.FilterIndices(indices=[0] * MiB),
            ),
            "indices",
        ),
        (explain_pb2.ExplainRequest(images=[explain_pb2.Image()] * (MiB // 2)), "images"),
        (pb.ImportImageSetRequest(metadata=pb.ImageSetMetadata(layer="a" * MiB)), "layer"),
        (pb.ImportImageSetRequest(uri="file:///" + "a" * MiB), "uri"),
        (pb.GetImageSetRequest(name="imageSets/" + "a" * MiB), "name"),
        (pb.ListImageSetsRequest(page_token="a" * MiB), "page_token"),
        (pb.GetComparisonRequest(name="a" * MiB), "name"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_message_full_of_nothing(companion: CompanionProcess, asked: Any, field: str) -> None:
    name = type(asked).__name__.removesuffix("Request")
    service = "Explainer" if asked.DESCRIPTOR.file is explain_pb2.DESCRIPTOR else "BiasComparison"
    with grpc.insecure_channel(companion.grpc) as channel:
        call: Any = channel.unary_unary(f"/lavise.v1.{service}/{name}")
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as refused:
            call(asked.SerializeToString(), timeout=20)
        assert time.monotonic() - start < 2
    status = told(refused.value)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    [violation] = detail(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == field


def test_an_image_without_end_is_one_rejected_image(companion: CompanionProcess, stub: Any) -> None:
    piece = bytes(CHUNK_BYTES)
    pieces = 200 * MiB // CHUNK_BYTES

    def parts() -> Iterator[Part]:
        yield from upload_parts(pb.ImageSetMetadata(), PICTURES[:2], 0)
        for number in range(pieces):
            last = number == pieces - 1
            yield Part(chunk=pb.ImageChunk(index=2, content=piece, last=last))

    with bounded_memory(companion, 60 * MiB):
        found = stub.UploadImageSet(parts()).image_set
    assert (found.image_count, found.rejected_count) == (2, 1)
    assert "more than 1 MiB" in found.rejected[0].error.message
    stub.DeleteImageSet(pb.DeleteImageSetRequest(name=found.name))


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def linked(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (zipped(**{"a.png": bytes(100 * MiB)}), "zip bomb"),
        (zipped(**{"../../a.png": PICTURES[0][1]}), "it has '..'"),
        (zipped(**{"/etc/a.png": PICTURES[0][1]}), "it is absolute"),
        (zipped(**{"..\\a.png": PICTURES[0][1]}), "it has a backslash"),
        (linked("a.png", "/etc/passwd"), "it is a link"),
    ],
    ids=["bomb", "above", "absolute", "backslash", "link"],
)
def test_archives_made_to_harm(
    companion: CompanionProcess, http: httpx.Client, archive: bytes, said: str
) -> None:
    with bounded_memory(companion, 60 * MiB):
        answer = http.post("/v1/imageSets", content=archive)
    assert answer.status_code == 400
    assert said in answer.json()["detail"]
    assert http.get("/v1/imageSets").json()["imageSets"] == []


def endless(head: bytes = b"", tail: bytes = b"") -> Iterator[bytes]:
    """200 MiB in chunks whose sum nobody names."""
    yield head
    yield from itertools.repeat(bytes(MiB), 200)
    yield tail


@pytest.mark.parametrize(
    ("path", "kind", "body", "status"),
    [
        ("/v1/imageSets", "application/zip", (), 415),
        ("/v1/imageSets", "multipart/form-data; boundary=x", (FORM, b"\r\n--x--\r\n"), 409),
        ("/v1/imageSets", "application/json", (), 413),
        ("/v1/explain", "image/png", (), 413),
        ("/v1/comparisons", "application/json", (), 413),
    ],
    ids=["archive", "form", "uri", "explain", "compare"],
)
def test_a_body_of_200_mib_is_never_held(
    companion: CompanionProcess,
    http: httpx.Client,
    path: str,
    kind: str,
    body: tuple[bytes, ...],
    status: int,
) -> None:
    with bounded_memory(companion, 60 * MiB):
        try:
            answer = http.post(path, content=endless(*body), headers={"content-type": kind})
        except httpx.WriteError:  # refused and closed before all was sent
            assert status == 413
            return
    assert answer.status_code == status
    assert answer.json()["detail"]
