"""Readiness is what a real prediction says."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lavise_service.companion.health import SERVICES
from lavise_service.torchserve import Ports
from tests.false_torchserve import FalseTorchServe, failing
from tests.running_companion import Running, running_companion, running_doors, settings_for

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def check(channel: grpc.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service)).status)


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def told(companion: Running) -> tuple[int, str]:
    answer = companion.http.get("/readyz")
    return answer.status_code, answer.json().get("reason", "")


def test_a_torchserve_that_fails_and_recovers() -> None:
    with FalseTorchServe() as server, running_companion(server.target) as companion:
        wait_for(lambda: told(companion)[0] == 200)
        assert [check(companion.channel, name) for name in SERVICES] == [SERVING] * len(SERVICES)
        assert "lavise_companion_ready 1.0" in companion.http.get("/metrics").text
        server.behave = failing(grpc.StatusCode.INTERNAL)
        wait_for(lambda: told(companion)[0] == 503)
        assert "worker" in told(companion)[1]
        assert [check(companion.channel, s) for s in SERVICES] == [NOT_SERVING] * len(SERVICES)
        assert "lavise_companion_ready 0.0" in companion.http.get("/metrics").text
        assert companion.http.get("/healthz").json() == {"status": "alive"}
        server.behave = lambda *_: b'{"images": []}'
        wait_for(lambda: told(companion)[0] == 200)


def test_without_torchserve_it_never_says_yes() -> None:
    with running_companion(f"127.0.0.1:{Ports.free().grpc}") as companion:
        assert told(companion)[0] == 503
        assert check(companion.channel) == NOT_SERVING
        wait_for(lambda: "worker" in told(companion)[1])


def test_real_traffic_is_proof_enough() -> None:
    with FalseTorchServe() as server, running_companion(server.target) as companion:
        wait_for(lambda: told(companion)[0] == 200)
        before, asked = server.calls, 0
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            companion.http.post("/v1/explain", content=b"an image").raise_for_status()
            asked += 1
            time.sleep(0.05)
        assert server.calls - before == asked


def test_an_unknown_service_is_not_found() -> None:
    with FalseTorchServe() as server, running_companion(server.target) as companion:
        with pytest.raises(grpc.RpcError) as caught:
            check(companion.channel, "birds")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_who_watches_hears_of_the_end_and_does_not_delay_it() -> None:
    with FalseTorchServe() as server:
        seen = []
        with running_doors(settings_for(server.target), drain_s=30) as doors:
            url = f"http://{doors.http}/readyz"
            wait_for(lambda: httpx.get(url, trust_env=False).status_code == 200)
            channel = grpc.insecure_channel(str(doors.grpc))
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest())
            seen.append(next(watch).status)
            start = time.monotonic()
        assert time.monotonic() - start < 5
        seen += [each.status for each in _until_closed(watch)]
        channel.close()
    assert seen == [SERVING, NOT_SERVING]


def _until_closed(watch: Any) -> list[Any]:
    found = []
    with contextlib.suppress(grpc.RpcError):
        found.extend(watch)
    return found
