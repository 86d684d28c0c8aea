"""The HTTP door: what it answers, and what it refuses."""

import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.client import GrpcClient
from lavise_service.companion import http_server
from lavise_service.torchserve import TorchServe
from tests.false_torchserve import ANSWER, FalseTorchServe
from tests.running_companion import Running, running_companion
from tests.tiny_cnn import COLOURS, picture

GOOD = "g" * 32
LIMIT = 2**20


def png(name: str) -> bytes:
    buffer = BytesIO()
    picture(COLOURS[name], 7).save(buffer, "PNG")
    return buffer.getvalue()


TOMATO, OCEAN = png("tomato"), png("ocean")


def inline(image: bytes, **more: str) -> dict[str, str]:
    return {"content": base64.b64encode(image).decode(), **more}


def problem(answer: httpx.Response, status: int) -> Any:
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    told = answer.json()
    assert told["status"] == status
    assert told["requestId"] == answer.headers["x-request-id"]
    return told


@pytest.fixture(scope="module")
def torchserve(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    model_store = tmp_path_factory.mktemp("store")
    write_archive(tiny_bundle, model_store, config=WorkerConfig(threads=1))
    with TorchServe(model_store) as running:
        yield running


@pytest.fixture(scope="module")
def real(torchserve: TorchServe) -> Iterator[Running]:
    with running_companion(torchserve.grpc_target) as running:
        yield running


@pytest.fixture(scope="module")
def companion() -> Iterator[Running]:
    """Before a false TorchServe: what does not depend on its numbers."""
    with (
        FalseTorchServe() as server,
        running_companion(
            server.target,
            max_request_bytes=LIMIT,
            max_image_bytes=LIMIT // 2,
            max_upload_idle_s=0.4,
        ) as running,
    ):
        yield running


@pytest.mark.server
def test_every_body_gives_the_answer_of_torchserve(real: Running, torchserve: TorchServe) -> None:
    with GrpcClient(torchserve.grpc_target) as client:
        expected = client.explain([TOMATO])
    for kind in ("image/png", "application/octet-stream", None):
        headers = {"content-type": kind} if kind else {}
        assert real.http.post("/v1/explain", content=TOMATO, headers=headers).json() == expected
    assert real.http.post("/v1/explain", json={"images": [inline(TOMATO)]}).json() == expected
    expected["images"][0]["source"] = "a.png"
    assert real.http.post("/v1/explain", files={"image": ("a.png", TOMATO)}).json() == expected


@pytest.mark.server
def test_several_images_and_options(real: Running) -> None:
    options = {"layer": "body", "filters": {"indices": [5, 2]}, "topK": 3}
    forms: list[Any] = [
        [
            ("image", ("a", TOMATO)),
            ("image", ("b", OCEAN)),
            ("request", (None, json.dumps(options))),
        ],
        [
            ("image_2", ("b", OCEAN)),
            ("request", ("r", json.dumps(options))),
            ("image", ("a", TOMATO)),
        ],
    ]
    answers = [real.http.post("/v1/explain", files=form).json() for form in forms]
    images = [inline(TOMATO, source="a"), inline(OCEAN, source="b")]
    answers.append(real.http.post("/v1/explain", json={**options, "images": images}).json())
    assert answers[0] == answers[1] == answers[2]
    assert [image["source"] for image in answers[0]["images"]] == ["a", "b"]
    assert [each["index"] for each in answers[0]["images"][1]["filters"]] == [5, 2]


@pytest.mark.server
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"content": b"no image"}, "image"),
        ({"files": [("image", TOMATO), ("image_7", b"no image")]}, "image_7"),
        ({"json": {"images": [inline(TOMATO), inline(b"no image")]}}, "images[1].content"),
        ({"json": {"images": [inline(TOMATO)], "layer": "tail"}}, "layer"),
        ({"json": {"images": [inline(TOMATO)], "topK": 0}}, "top_k"),
    ],
)
def test_an_error_of_torchserve_names_the_callers_field(
    real: Running, body: dict[str, Any], field: str
) -> None:
    told = problem(real.http.post("/v1/explain", **body), 400)
    assert [each["field"] for each in told["fieldViolations"]] == [field]


@pytest.mark.server
def test_filters_and_model(real: Running, torchserve: TorchServe) -> None:
    with GrpcClient(torchserve.grpc_target) as client:
        assert real.http.get("/v1/model").json() == client.ask({"getModel": {}})
        described = client.ask({"describeFilters": {"layer": "body", "indices": [4, 1]}})
    asked: dict[str, Any] = {"layer": "body", "indices": [4, 1]}
    assert real.http.get("/v1/filters", params=asked).json() == described
    page = real.http.get("/v1/filters", params={"layer": "body", "pageSize": 5}).json()
    more = {"layer": "body", "pageSize": 5, "pageToken": page["nextPageToken"]}
    rest = real.http.get("/v1/filters", params=more).json()
    assert [each["index"] for each in page["filters"] + rest["filters"]] == list(range(10))
    assert problem(real.http.get("/v1/filters", params={"layer": "tail"}), 400)
    assert problem(real.http.get("/v1/filters", params={"pageToken": "x"}), 400)


def test_an_answer_that_needs_no_name_passes_as_it_came(companion: Running) -> None:
    answer = companion.http.post("/v1/explain", content=b"an image")
    assert answer.content == orjson.dumps(ANSWER)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"content": b""}, 400, "image is empty"),
        ({"content": bytes(LIMIT // 2 + 1)}, 413, "image is over the limit of 524,288 bytes"),
        ({"content": bytes(LIMIT + 1)}, 413, "up to 1,048,576 bytes"),
        ({"files": {"image": bytes(LIMIT // 2 + 1)}}, 413, "image is over the limit"),
        ({"files": {"picture": b"x"}}, 400, "unknown entry 'picture'"),
        ({"files": {"request": (None, "{}")}}, 400, "0 images"),
        ({"files": {"image": (None, "text")}}, 400, "image is text"),
        ({"files": [("image", b"x")] * 66}, 400, "Too many files"),
        ({"files": {"image": b"x", "request": (None, "{")}}, 400, "request is no JSON"),
        ({"files": {"image": b"x", "request": (None, "[]")}}, 400, "no object"),
        ({"files": {"image": b"x", "request": (None, '{"topL": 1}')}}, 400, "no field named"),
        ({"files": {"image": b"x", "request": (None, '{"getModel": {}}')}}, 400, "no field named"),
        ({"files": {"image": b"x", "request": (None, '{"images": [{}]}')}}, 400, "not both"),
        ({"data": {"image": "x"}}, 415, "application/x-www-form-urlencoded"),
        ({"json": {}}, 400, "images"),
        ({"json": {"images": {}}}, 400, "images"),
        ({"json": {"images": [5]}}, 400, "images[0]"),
        ({"json": {"images": [{"content": "?"}]}}, 400, "no base64"),
        ({"json": {"images": [{"content": "aa", "source": 5}]}}, 400, "images[0]"),
        ({"json": {"images": [{"content": "aa"}] * 65}}, 400, "1 to 64"),
        ({"json": {"images": [{"content": ""}]}}, 400, "images[0].content is empty"),
        ({"json": {"filters": [[]] * 30_000}}, 400, "more than 20,000 values"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
        ({"content": b"[" * 9000, "headers": {"content-type": "application/json"}}, 400, "JSON"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"x", "headers": {"content-type": "text/html"}}, 415, "text/html"),
    ],
)
def test_what_is_wrong_is_told(
    companion: Running, body: dict[str, Any], status: int, words: str
) -> None:
    assert words in problem(companion.http.post("/v1/explain", **body), status)["detail"]


def test_paths_and_methods_that_are_not_there(companion: Running) -> None:
    assert problem(companion.http.get("/v1/nothing"), 404)["code"] == "NOT_FOUND"
    refused = companion.http.put("/v1/explain", content=b"x")
    assert "accepted: POST" in problem(refused, 405)["detail"]
    assert refused.headers["allow"] == "POST"
    assert problem(companion.http.get("/v1/filters", params={"pageSize": "many"}), 400)
    assert problem(companion.http.get("/v1/filters", params={"indices": "a"}), 400)
    assert problem(companion.http.get("/static-offline-docs/../../etc/passwd"), 404)
    assert problem(companion.http.get("/static-offline-docs/%2e%2e/%2e%2e/core.py"), 404)
    made_up = companion.http.request("BREW", "/v1/explain")
    assert problem(made_up, 405)
    assert "BREW" not in companion.http.get("/metrics").text


def test_every_answer_has_the_name_of_its_request(companion: Running) -> None:
    answer = companion.http.get("/healthz", headers={"x-request-id": "my-42"})
    assert answer.headers["x-request-id"] == "my-42"
    answer = companion.http.get("/healthz", headers={"x-request-id": 'a"b'})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("sent", [None, f"Bearer {'x' * 32}", GOOD, "Bearer", "Basic YTpi"])
def test_only_health_needs_no_token(sent: str | None) -> None:
    headers = {"authorization": sent} if sent else {}
    with (
        FalseTorchServe() as server,
        running_companion(server.target, tokens=f"ann={GOOD}") as companion,
    ):
        for path in ("/v1/model", "/v1/filters", "/metrics", "/docs", "/openapi.json", "/nothing"):
            refused = companion.http.get(path, headers=headers)
            assert problem(refused, 401)["code"] == "UNAUTHENTICATED"
            assert refused.headers["www-authenticate"] == "Bearer"
        assert problem(companion.http.post("/v1/explain", content=b"x", headers=headers), 401)
        assert companion.http.get("/healthz", headers=headers).status_code == 200
        assert companion.http.get("/readyz", headers=headers).status_code in {200, 503}
        good = {"authorization": f"bearer {GOOD}"}
        assert companion.http.get("/docs", headers=good).status_code == 200
        two = [("authorization", f"Bearer {GOOD}"), ("authorization", "Bearer x")]
        assert companion.http.get("/docs", headers=two).status_code == 401


def test_the_openapi_page_needs_nobody_else(companion: Running) -> None:
    page = companion.http.get("/docs").text
    assets = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(assets) == 3
    for asset in assets:
        assert asset.startswith("/static-offline-docs/")
        assert companion.http.get(asset).status_code == 200
    assert not re.findall(r"https?://", page)
    schema = companion.http.get("/openapi.json").json()
    assert {"/v1/explain", "/v1/filters", "/v1/model"} <= set(schema["paths"])
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(schema)))
    assert named <= set(schema["components"]["schemas"])
    threshold = schema["components"]["schemas"]["FilterExplanation"]["properties"]["catalogWords"]
    assert threshold == {"type": "array", "items": {"$ref": "#/components/schemas/Word"}}


def talk(companion: Running, *pieces: bytes, pause: float = 0.0) -> tuple[bytes, float]:
    """Sends pieces over a socket of its own; returns what comes back, and seconds until the end."""
    with socket.create_connection(companion.doors.http, timeout=10) as connection:
        start = time.monotonic()
        answer = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                answer += data
        return answer, time.monotonic() - start


HEAD = b"POST /v1/explain HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nConnection: close\r\n"


def test_a_body_that_stands_still_is_not_waited_for(companion: Running) -> None:
    answer, seconds = talk(companion, HEAD + b"Content-Length: 100\r\n\r\nhalf")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"came too slowly" in answer
    assert seconds < 3


def test_a_byte_now_and_then_is_no_upload(companion: Running) -> None:
    pieces = [HEAD + b"Content-Length: 100\r\n\r\n", *[b"x"] * 20]
    answer, seconds = talk(companion, *pieces, pause=0.1)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert seconds < 5


def test_a_content_length_that_lies(companion: Running) -> None:
    more = (
        HEAD.replace(b"Connection: close\r\n", b"") + b"Content-Length: 2\r\n\r\nno truth\r\n\r\n"
    )
    answer, _ = talk(companion, more)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer  # the rest is no request
    huge, seconds = talk(companion, HEAD + b"Content-Length: 99999999999999999999\r\n\r\nx")
    assert huge.startswith(b"HTTP/1.1 413 ")
    assert seconds < 3
    for bad in (b"-5", b"5, 6", b"ten", "٣".encode()):
        refused, _ = talk(companion, HEAD + b"Content-Length: " + bad + b"\r\n\r\nx")
        assert refused.startswith(b"HTTP/1.1 400 ")


def test_chunks_are_counted(companion: Running) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    answer, _ = talk(companion, head, *[chunk] * 17)
    assert answer.startswith(b"HTTP/1.1 413 ")
    answer, _ = talk(companion, head, b"1\r\nx\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_headers_that_never_end_are_not_waited_for(
    companion: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "_HEADERS_S", 0.5)
    answer, seconds = talk(
        companion, *[b"GET / HTTP/1.1\r\nX-A: b\r\n"[:n] for n in (9, 5)], pause=0.2
    )
    assert answer == b""
    assert seconds < 2
    silent, seconds = talk(companion)
    assert silent == b""
    assert seconds < 2
    endless, _ = talk(companion, b"GET / HTTP/1.1\r\n", b"X-Y: " + b"a" * 70_000)
    assert b"200" not in endless[:15]


def test_a_caller_who_goes_away_leaves_nothing(companion: Running) -> None:
    with socket.create_connection(companion.doors.http) as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\nhalf")
    deadline = time.monotonic() + 5
    counted = 'lavise_companion_requests_total{code="499",door="http",method="POST /v1/explain"}'
    while counted not in companion.http.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_unforeseen_error_tells_nothing() -> None:
    with (
        FalseTorchServe(lambda *_: b'{"images": "hunter2"}') as server,
        running_companion(server.target) as companion,
    ):
        told = problem(companion.http.post("/v1/explain", files={"image": ("a", b"x")}), 500)
    assert told["detail"] == "internal error; the server's log has the details"


def test_a_dead_worker_is_503_and_says_when_to_come_again() -> None:
    with (
        FalseTorchServe(lambda *_: b"") as server,
        running_companion(server.target) as companion,
    ):
        answer = companion.http.post("/v1/explain", content=b"x")
    assert problem(answer, 503)["retryAfterSeconds"] == 1.0
    assert answer.headers["retry-after"] == "1"
