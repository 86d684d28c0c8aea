"""``lavise.v1.Explainer`` of a companion before a real TorchServe."""

import contextlib
import importlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2

from lavise.v1 import explain_pb2 as pb
from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.client import GrpcClient
from lavise_service.torchserve import TorchServe
from tests.false_torchserve import FalseTorchServe, well
from tests.running_companion import Running, detail, running_companion, told
from tests.tiny_cnn import CHANNELS, COLOURS, picture

psutil: Any = importlib.import_module("psutil")  # TorchServe brings it; it has no types


def png(name: str) -> bytes:
    buffer = BytesIO()
    picture(COLOURS[name], 7).save(buffer, "PNG")
    return buffer.getvalue()


TOMATO, OCEAN = png("tomato"), png("ocean")


def request(*images: bytes, **options: Any) -> pb.ExplainRequest:
    return pb.ExplainRequest(images=[pb.Image(content=image) for image in images], **options)


@pytest.fixture(scope="module")
def torchserve(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    model_store = tmp_path_factory.mktemp("store")
    write_archive(tiny_bundle, model_store, config=WorkerConfig(threads=1))
    with TorchServe(model_store) as running:
        yield running


@pytest.fixture(scope="module")
def companion(torchserve: TorchServe) -> Iterator[Running]:
    with running_companion(torchserve.grpc_target, max_image_bytes=2**20) as running:
        yield running


@pytest.mark.server
def test_it_is_what_torchserve_says(companion: Running, torchserve: TorchServe) -> None:
    options = {"layer": "body", "filters": {"indices": [5, 2]}, "topK": 3, "heatmaps": True}
    with GrpcClient(torchserve.grpc_target) as client:
        expected = client.explain([TOMATO, OCEAN], options)
    asked = json_format.ParseDict(options, request(TOMATO, OCEAN))
    assert companion.explainer.Explain(asked) == json_format.ParseDict(
        expected, pb.ExplainResponse()
    )


@pytest.mark.server
def test_images_keep_their_names(companion: Running) -> None:
    asked = request(TOMATO, OCEAN, OCEAN)
    asked.images[0].source, asked.images[2].source = "tomato.png", "Ozean ä.png"
    answer = companion.explainer.Explain(asked)
    assert [image.source for image in answer.images] == ["tomato.png", "image_2", "Ozean ä.png"]
    assert len(answer.images[0].filters) == CHANNELS["stem"]


@pytest.mark.server
@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        (request(), "images", "0 images; accepted: 1 to 64"),
        (request(*[TOMATO] * 65), "images", "65 images; accepted: 1 to 64"),
        (request(TOMATO, b""), "images[1].content", "empty"),
        (request(TOMATO, bytes(2**20 + 1)), "images[1].content", "limit of 1,048,576 bytes"),
        (request(TOMATO, b"no image"), "images[1].content", "not an image"),
        (request(TOMATO, top_k=0), "top_k", "top_k"),
        (request(TOMATO, layer="tail"), "layer", "tail"),
        (request(TOMATO, model="birds"), "model", "birds"),
        (request(TOMATO, filters=pb.FilterIndices(indices=[99])), "filters", "99"),
        (request(TOMATO, all_filters=False), "all_filters", "selects nothing"),
    ],
)
def test_what_is_wrong_is_named(
    companion: Running, asked: pb.ExplainRequest, field: str, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        companion.explainer.Explain(asked)
    status = told(caught.value)
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert words in status.message
    [violation] = detail(status, error_details_pb2.BadRequest).field_violations
    assert violation.field == field


@pytest.mark.server
def test_filters_page_by_page(companion: Running) -> None:
    asked = pb.DescribeFiltersRequest(layer="body", page_size=5)
    found = []
    while True:
        page = companion.explainer.DescribeFilters(asked)
        found += [each.index for each in page.filters]
        if not page.next_page_token:
            break
        asked.page_token = page.next_page_token
    assert found == list(range(CHANNELS["body"]))
    asked.page_token = "x" * 9  # none that was given out
    with pytest.raises(grpc.RpcError) as caught:
        companion.explainer.DescribeFilters(asked)
    [violation] = detail(told(caught.value), error_details_pb2.BadRequest).field_violations
    assert violation.field == "page_token"


@pytest.mark.server
def test_what_is_loaded(companion: Running, torchserve: TorchServe) -> None:
    with GrpcClient(torchserve.grpc_target) as client:
        expected = client.ask({"getModel": {}})
    assert companion.explainer.GetModel(pb.GetModelRequest()) == json_format.ParseDict(
        expected, pb.GetModelResponse()
    )


@pytest.mark.server
def test_a_worker_killed_twice_costs_no_answer(companion: Running, torchserve: TorchServe) -> None:
    asked = {name: request(png(name), layer="body") for name in ("tomato", "ocean")}
    expected = {name: companion.explainer.Explain(each) for name, each in asked.items()}
    refused: list[grpc.RpcError] = []

    def ask(number: int) -> None:
        name = ("tomato", "ocean")[number % 2]
        while True:
            try:
                assert companion.explainer.Explain(asked[name], timeout=60) == expected[name]
            except grpc.RpcError as problem:
                refused.append(problem)
                wait = detail(told(problem), error_details_pb2.RetryInfo).retry_delay
                time.sleep(wait.ToMilliseconds() / 1000)
            else:
                return

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(ask, range(1000))
        for _ in range(2):
            time.sleep(0.5)
            _await_worker(torchserve).kill()
        assert len(list(answers)) == 1000
    assert {each.code() for each in refused} <= {grpc.StatusCode.UNAVAILABLE}
    assert torchserve.running


def _workers(torchserve: TorchServe) -> list[Any]:
    """Those that live; one that was killed has no command line, until Java notices."""
    found = []
    for child in psutil.Process(torchserve.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "model_service_worker" in " ".join(child.cmdline()):
                found.append(child)
    return found


def _await_worker(torchserve: TorchServe) -> Any:
    """The one worker, once Java has started it again."""
    deadline = time.monotonic() + 20
    while not (found := _workers(torchserve)):
        assert time.monotonic() < deadline, "\n".join(torchserve.log[-40:])
        time.sleep(0.05)
    [worker] = found
    return worker


def test_a_deadline_is_kept_and_told() -> None:
    done = threading.Event()

    def slow(*_: Any) -> bytes:
        done.wait(5)
        return b"{}"

    with FalseTorchServe(slow) as server, running_companion(server.target) as companion:
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            companion.explainer.Explain(request(TOMATO), timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - start < 2
        done.set()


def test_a_cancelled_call_is_cancelled_at_torchserve() -> None:
    asked, cancelled = threading.Event(), threading.Event()

    def wait(entries: dict[str, bytes], context: Any) -> bytes:
        if entries["image"] != TOMATO:
            return well(entries, context)  # readiness asks too
        context.add_callback(cancelled.set)
        asked.set()
        cancelled.wait(5)
        return b"{}"

    with FalseTorchServe(wait) as server, running_companion(server.target) as companion:
        call = companion.explainer.Explain.future(request(TOMATO))
        assert asked.wait(5)
        call.cancel()
        assert cancelled.wait(5)


@pytest.mark.parametrize(
    "answer", [b'{"images": [{"source": 5}]}', b'{"images": []}', b'{"pictures": []}']
)
def test_an_answer_that_is_none_tells_nothing_inner(answer: bytes) -> None:
    with (
        FalseTorchServe(lambda *_: answer) as server,
        running_companion(server.target) as companion,
        pytest.raises(grpc.RpcError) as caught,
    ):
        companion.explainer.Explain(request(TOMATO))
    status = told(caught.value)
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert status.message == "internal error; the server's log has the details"
