"""What every gRPC call passes through: tokens, names, numbers, limits, errors."""

import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavise.v1 import explain_pb2 as pb
from lavise_service.companion import assembly
from lavise_service.companion.request_id import HEADER
from tests.false_torchserve import FalseTorchServe, well
from tests.running_companion import Running, detail, running_companion, told

IMAGE = b"an image"
REQUEST = pb.ExplainRequest(images=[pb.Image(content=IMAGE)])
GOOD, LATE, OTHER = "g" * 32, "l" * 32, "o" * 32


@pytest.fixture(scope="module")
def torchserve() -> Iterator[FalseTorchServe]:
    with FalseTorchServe() as server:
        yield server


@pytest.fixture(scope="module")
def companion(torchserve: FalseTorchServe) -> Iterator[Running]:
    with running_companion(torchserve.target, max_request_bytes=2**20) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(
    torchserve: FalseTorchServe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    file.write_text(f"ann {GOOD}\nbob {LATE} {past}\n")
    file.chmod(0o600)
    with running_companion(torchserve.target, tokens_file=file) as running:
        yield running


def reflect(channel: grpc.Channel, **options: Any) -> list[str]:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    [answer] = stub.ServerReflectionInfo(iter([asked]), **options)
    return [service.name for service in answer.list_services_response.service]


def header(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        header(OTHER),
        header(LATE),
        header(""),
        [("authorization", GOOD)],
        [*header(GOOD), *header(OTHER)],
        [("authorization-bin", GOOD.encode())],
    ],
    ids=["none", "wrong", "expired", "empty", "bare", "two", "binary"],
)
def test_nobody_comes_in_without_a_good_token(
    guarded: Running, metadata: list[tuple[str, str]]
) -> None:
    explainer = guarded.explainer
    calls = (
        lambda: explainer.Explain(REQUEST, metadata=metadata),
        lambda: explainer.DescribeFilters(pb.DescribeFiltersRequest(), metadata=metadata),
        lambda: explainer.GetModel(pb.GetModelRequest(), metadata=metadata),
        lambda: reflect(guarded.channel, metadata=metadata),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        status = told(caught.value)
        assert status.code == code_pb2.UNAUTHENTICATED
        assert detail(status, error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"


def test_a_good_token_comes_in(guarded: Running) -> None:
    assert guarded.explainer.Explain(REQUEST, metadata=header(GOOD)).bundle_digest == "d"
    services = reflect(guarded.channel, metadata=header(GOOD))
    assert {"lavise.v1.Explainer", "grpc.health.v1.Health"} <= set(services)


def test_health_needs_no_token(guarded: Running) -> None:
    stub: Any = health_pb2_grpc.HealthStub(guarded.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status


@pytest.mark.parametrize(
    ("sent", "kept"), [("my-42", True), ("a" * 129, False), ("a b", False), (None, False)]
)
def test_every_call_has_a_name(companion: Running, sent: str | None, *, kept: bool) -> None:
    metadata = [("x-request-id", sent)] if sent else []
    _, call = companion.explainer.Explain.with_call(REQUEST, metadata=metadata)
    [name] = [each.value for each in call.trailing_metadata() if each.key == HEADER]
    assert (name == sent) is kept
    assert len(name) == 32 or kept
    with pytest.raises(grpc.RpcError) as caught:
        companion.explainer.Explain(pb.ExplainRequest(), metadata=metadata)
    [name] = [str(each.value) for each in caught.value.trailing_metadata() if each.key == HEADER]
    assert (name == sent) is kept


@given(st.binary(max_size=64))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_answered_or_refused(companion: Running, data: bytes) -> None:
    for method in ("Explain", "DescribeFilters", "GetModel"):
        call: Any = companion.channel.unary_unary(f"/lavise.v1.Explainer/{method}")
        try:
            call(data)
        except grpc.RpcError as problem:
            # The answer is made for Explain; as another message it is none.
            accepted = {grpc.StatusCode.INVALID_ARGUMENT}
            if method != "Explain":
                accepted.add(grpc.StatusCode.INTERNAL)
            assert problem.code() in accepted  # noqa: PT017 - either outcome is right


def test_garbage_is_the_callers_error(companion: Running) -> None:
    call: Any = companion.channel.unary_unary("/lavise.v1.Explainer/Explain")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff\xff")
    assert told(caught.value).code == code_pb2.INVALID_ARGUMENT
    nothing: Any = companion.channel.stream_unary("/lavise.v1.Explainer/Explain")
    with pytest.raises(grpc.RpcError) as caught:
        nothing(iter(()))
    assert told(caught.value).message == "the call ended without a message"


def test_a_message_over_the_limit_is_refused(companion: Running) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        companion.explainer.Explain(pb.ExplainRequest(images=[pb.Image(content=bytes(2**21))]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_calls_are_counted_by_names_that_exist(companion: Running) -> None:
    companion.explainer.Explain(REQUEST)
    with pytest.raises(grpc.RpcError):
        companion.explainer.Explain(pb.ExplainRequest())
    unknown: Any = companion.channel.unary_unary("/lavise.v1.Explainer/MadeUp")
    with pytest.raises(grpc.RpcError) as caught:
        unknown(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    metrics = companion.http.get("/metrics").text
    explain = 'door="grpc",method="/lavise.v1.Explainer/Explain"'
    for code in ("OK", "INVALID_ARGUMENT"):
        name = "lavise_companion_requests_total"
        assert f'{name}{{code="{code}",{explain}}}' in metrics
    assert f"lavise_companion_request_seconds_count{{{explain}}}" in metrics
    assert "MadeUp" not in metrics


def test_who_is_turned_away_is_counted_at_both_doors(torchserve: FalseTorchServe) -> None:
    limits = {"max_request_bytes": 2**20, "max_image_bytes": 2**19}
    bearer = {"authorization": f"Bearer {GOOD}"}
    with running_companion(torchserve.target, tokens=f"ann={GOOD}", **limits) as running:
        with pytest.raises(grpc.RpcError):
            running.explainer.Explain(REQUEST)

        def explain(size: int, headers: dict[str, str]) -> int:
            kind = {"content-type": "image/png"}
            sent = running.http.post("/v1/explain", content=bytes(size), headers=headers | kind)
            return sent.status_code

        assert explain(10, {}) == 401
        assert explain(2**21, bearer) == 413  # the body, before it is read
        assert explain(2**19 + 1, bearer) == 413  # the image
        assert explain(0, bearer) == 400  # wrong, but not turned away
        metrics = running.http.get("/metrics", headers=bearer).text
    found = dict(re.findall(r'lavise_companion_refusals_total{reason="(\w+)"} (\S+)', metrics))
    counts = {reason: float(count) for reason, count in found.items() if float(count)}
    assert counts == {"unauthenticated": 2, "size": 2}


def test_more_than_the_limit_hear_when_to_come_again() -> None:
    inside, done = threading.Semaphore(0), threading.Event()

    def slow(entries: dict[str, bytes], context: Any) -> bytes:
        if entries["image"] == IMAGE:
            inside.release()
            done.wait(10)
        return well(entries, context)

    with (
        FalseTorchServe(slow) as server,
        running_companion(server.target, max_concurrent_explains=2) as companion,
        ThreadPoolExecutor(2) as pool,
    ):
        first = [pool.submit(companion.explainer.Explain, REQUEST) for _ in range(2)]
        for _ in first:
            assert inside.acquire(timeout=5)
        with pytest.raises(grpc.RpcError) as caught:
            companion.explainer.Explain(REQUEST)
        status = told(caught.value)
        assert status.code == code_pb2.RESOURCE_EXHAUSTED
        assert detail(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 1000
        assert companion.http.post("/v1/explain", content=IMAGE).status_code == 429
        # Pages have a limit of their own.
        assert companion.http.get("/v1/comparisons/a/report.html").status_code == 404
        done.set()
        assert [each.result().bundle_digest for each in first] == ["d", "d"]
        # Those who were cancelled give their places back as well.
        done.clear()
        for _ in range(3):
            call = companion.explainer.Explain.future(REQUEST)
            assert inside.acquire(timeout=5)
            call.cancel()
        done.set()
        assert companion.explainer.Explain(REQUEST).bundle_digest == "d"


def test_more_pages_than_the_limit_hear_when_to_come_again(
    torchserve: FalseTorchServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "_PAGES_AT_ONCE", 0)
    with running_companion(torchserve.target) as companion:
        refused = companion.http.get("/v1/comparisons/a/report.html")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "report pages" in refused.json()["detail"]


def test_who_sends_nothing_is_not_waited_for(torchserve: FalseTorchServe) -> None:
    gone = threading.Event()

    def nothing() -> Iterator[bytes]:
        gone.wait(10)
        yield b""

    with running_companion(torchserve.target, max_upload_idle_s=0.2) as companion:
        call: Any = companion.channel.stream_unary("/lavise.v1.Explainer/Explain")
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            call(nothing())
        gone.set()
    assert time.monotonic() - start < 2
    assert told(caught.value).code == code_pb2.DEADLINE_EXCEEDED


def test_an_unforeseen_error_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    def strange(*_: Any) -> bytes:
        return b'{"images": [{"source": 5}], "bundleDigest": "hunter2"}'

    with (
        caplog.at_level(logging.INFO, "lavise_service"),
        FalseTorchServe(strange) as server,
        running_companion(server.target) as companion,
        pytest.raises(grpc.RpcError) as caught,
    ):
        companion.explainer.Explain(REQUEST)
    assert told(caught.value).message == "internal error; the server's log has the details"
    [logged] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert logged.exc_info
    [call] = [each for each in caplog.records if each.message == "call"]
    assert call.__dict__["code"] == "INTERNAL"


def test_logs_hold_no_token(guarded: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "lavise_service"):
        guarded.explainer.Explain(REQUEST, metadata=header(GOOD))
        with pytest.raises(grpc.RpcError):
            guarded.explainer.Explain(REQUEST, metadata=header(OTHER))
        guarded.http.get("/v1/model", headers={"authorization": f"Bearer {OTHER}"})
        deadline = time.monotonic() + 5
        # A call is logged once its answer is out.
        while [each.message for each in caplog.records].count("call") < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    text = "\n".join(str(each.__dict__) for each in caplog.records)
    assert GOOD not in text
    assert OTHER not in text


def test_the_tokens_file_is_read_again(torchserve: FalseTorchServe, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"ann {GOOD}\n")
    file.chmod(0o600)
    with running_companion(torchserve.target, tokens_file=file) as companion:
        companion.explainer.Explain(REQUEST, metadata=header(GOOD))
        file.write_text(f"ann {OTHER}  \n")
        companion.explainer.Explain(REQUEST, metadata=header(OTHER))
        with pytest.raises(grpc.RpcError):
            companion.explainer.Explain(REQUEST, metadata=header(GOOD))
