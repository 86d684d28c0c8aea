"""The bundle, the archive, the handler and the clients together, on a real TorchServe."""

import base64
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf import json_format

from lavise.errors import EnvironmentProblem, ImageError, LaviseError, RequestError
from lavise.v1 import explain_pb2
from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.client import GrpcClient, Json, RestClient
from lavise_service.torchserve import MAX_MESSAGE_BYTES, TorchServe
from tests.tiny_cnn import CHANNELS, COLOURS, picture

pytestmark = pytest.mark.server
Explain = Callable[..., Json]


def png(name: str) -> bytes:
    buffer = BytesIO()
    picture(COLOURS[name], 7).save(buffer, "PNG")
    return buffer.getvalue()


TOMATO, OCEAN = png("tomato"), png("ocean")


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    model_store = tmp_path_factory.mktemp("store")
    write_archive(tiny_bundle, model_store, config=WorkerConfig(threads=1))
    with TorchServe(model_store) as running:
        yield running


@pytest.fixture(scope="module")
def rest(server: TorchServe) -> Iterator[RestClient]:
    with RestClient(server.rest_url, management_url=server.management_url) as client:
        yield client


@pytest.fixture(scope="module")
def grpc(server: TorchServe) -> Iterator[GrpcClient]:
    with GrpcClient(server.grpc_target) as client:
        yield client


@pytest.fixture(params=["rest", "grpc"])
def explain(request: pytest.FixtureRequest) -> Explain:
    """Both doors, by their common call."""
    answer: Explain = request.getfixturevalue(request.param).explain
    return answer


def test_every_door_gives_the_same_answer(rest: RestClient, grpc: GrpcClient) -> None:
    expected = rest.explain_image(TOMATO)
    response = json_format.ParseDict(expected, explain_pb2.ExplainResponse())
    assert len(response.images[0].filters) == CHANNELS["stem"]
    inline = {"content": base64.b64encode(TOMATO).decode(), "source": "image"}
    assert rest.explain([TOMATO]) == expected
    assert rest.ask({"images": [inline]}) == expected
    assert grpc.explain([TOMATO]) == expected
    assert grpc.ask({"images": [inline]}) == expected


def test_several_images_and_options(explain: Explain) -> None:
    request = {"layer": "body", "filters": {"indices": [5, 2]}, "topK": 3}
    answer = explain([TOMATO, OCEAN], request)
    assert [image["source"] for image in answer["images"]] == ["image", "image_2"]
    for image in answer["images"]:
        assert [f["index"] for f in image["filters"]] == [5, 2]
        assert all(len(f["words"]) == 3 for f in image["filters"] if not f["inactive"])


@pytest.mark.parametrize(
    ("images", "request_", "kind", "field"),
    [
        ([TOMATO, b"no image"], {}, ImageError, "image_2"),
        ([TOMATO], {"topK": 0}, RequestError, "top_k"),
        ([TOMATO], {"layer": "ä"}, RequestError, "layer"),
        ([TOMATO], {"filters": {"indices": [99]}}, RequestError, "filters"),
    ],
)
def test_an_error_is_the_same_at_every_door(
    explain: Explain, images: list[bytes], request_: Json, kind: type[LaviseError], field: str
) -> None:
    with pytest.raises(kind) as caught:
        explain(images, request_)
    assert caught.value.field == field


def test_rest_has_the_error_in_the_status_as_well(server: TorchServe) -> None:
    url = f"{server.rest_url}/predictions/lavise"
    answer = httpx.put(url, content=b"no image", trust_env=False)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_a_request_over_the_limit_is_a_clear_error(explain: Explain) -> None:
    with pytest.raises(RequestError, match="over TorchServe's limit of 33,554,432 bytes"):
        explain([bytes(MAX_MESSAGE_BYTES + 1)])
    assert explain([TOMATO])["images"]


def test_an_image_over_its_limit_is_refused_by_the_handler(explain: Explain) -> None:
    with pytest.raises(ImageError) as caught:
        explain([bytes(21 * 1024 * 1024)])
    assert caught.value.field == "image"


def test_an_unknown_model_is_a_clear_error(server: TorchServe) -> None:
    rest, grpc = (
        RestClient(server.rest_url, model="birds"),
        GrpcClient(server.grpc_target, model="birds"),
    )
    for explain in (rest.explain, grpc.explain):
        with pytest.raises(RequestError, match="birds"):
            explain([TOMATO])
    rest.close()
    grpc.close()


def test_nobody_there_is_a_clear_error() -> None:
    rest, grpc = RestClient("http://127.0.0.1:9"), GrpcClient("127.0.0.1:9")
    for explain in (rest.explain, grpc.explain):
        with pytest.raises(EnvironmentProblem, match=r"does not answer at .*127\.0\.0\.1:9"):
            explain([TOMATO])
    rest.close()
    grpc.close()


def test_get_model_by_three_doors(rest: RestClient, grpc: GrpcClient) -> None:
    described = rest.model()
    assert described["providers"] == ["CPUExecutionProvider"]
    assert described["device"] == "cpu"
    assert rest.ask({"getModel": {}}) == described
    assert grpc.ask({"getModel": {}}) == described


def test_filters_are_described_without_an_image(rest: RestClient, grpc: GrpcClient) -> None:
    request = {"describeFilters": {"layer": "body", "indices": [4]}}
    answer = rest.ask(request)
    assert [f["index"] for f in answer["filters"]] == [4]
    assert grpc.ask(request) == answer


def test_requests_at_once_are_each_answered_for_themselves(
    rest: RestClient, server: TorchServe
) -> None:
    def ask(number: int) -> Any:
        if number % 5 == 4:
            with pytest.raises(ImageError):
                rest.explain_image(b"no image")
            return None
        return rest.explain([TOMATO], {"layer": "body", "filters": {"indices": [number % 12]}})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(120)))
    for number, answer in enumerate(answers):
        if answer is not None:
            [explained] = answer["images"][0]["filters"]
            assert explained["index"] == number % 12
    assert server.running


def test_metrics_are_scraped(rest: RestClient, server: TorchServe) -> None:
    rest.explain_image(TOMATO)
    with pytest.raises(ImageError):
        rest.explain_image(b"no image")
    text = httpx.get(server.metrics_url, trust_env=False).text
    for name in (
        "lavise_requests_total",
        "lavise_images_total",
        "lavise_filters_explained_total",
        "lavise_errors_total",
        "lavise_batch_size",
        "lavise_batch_seconds_count",
        "lavise_stage_seconds_count",
        "lavise_worker_cpu_seconds_total",
        "lavise_worker_memory_bytes",
        "lavise_java_memory_bytes",
    ):
        assert f'{name}{{ModelName="lavise",' in text, name
    assert 'Kind="INVALID_ARGUMENT"' in text
    assert 'Stage="words"' in text
    assert not re.search(r"^lavise_gpu", text, re.MULTILINE)  # absent, not zero


def test_the_log_is_quiet_and_names_the_provider(server: TorchServe) -> None:
    log = "\n".join(server.log)
    assert "on cpu (CPUExecutionProvider)" in log
    assert "Traceback" not in log
    assert len(server.log) < 40
