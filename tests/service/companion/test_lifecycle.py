"""A companion of its own process, from start to SIGTERM under load."""

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from lavise.errors import EnvironmentProblem, SpecError
from lavise.v1 import explain_pb2 as pb
from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.companion.lifecycle import serve
from lavise_service.companion.upstream import Upstream
from tests.false_torchserve import FalseTorchServe, well
from tests.running_companion import running_companion, running_doors, settings_for

TOKEN = "t" * 32
RUN = """
from lavise_service.companion.lifecycle import run
from lavise_service.companion.settings import Settings
run(Settings(), when_open=lambda doors: print(*doors.grpc, *doors.http, flush=True))
print("ended", flush=True)
"""


def slow(entries: dict[str, bytes], context: Any) -> bytes:
    time.sleep(0.05)
    return well(entries, context)


@dataclass
class Process:
    """A companion in a process, and where it listens."""

    process: "subprocess.Popen[str]"
    grpc: str
    http: str
    log: list[str]


@contextmanager
def process(torchserve: str, store: Path) -> Iterator[Process]:
    environment = {
        **os.environ,
        "LAVISE_TORCHSERVE": torchserve,
        "LAVISE_GRPC_LISTEN": "127.0.0.1:0",
        "LAVISE_HTTP_LISTEN": "127.0.0.1:0",
        "LAVISE_STORE": str(store),
        "LAVISE_TOKENS": f"ann={TOKEN}",
    }
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", RUN],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        log: list[str] = []
        reader = threading.Thread(target=log.extend, args=(running.stderr,))
        reader.start()
        places = running.stdout.readline().split()
        try:
            assert len(places) == 4, "".join(log)
            yield Process(running, ":".join(places[:2]), f"http://{':'.join(places[2:])}", log)
        finally:
            running.kill()
            reader.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_under_load_every_call_that_was_let_in_is_answered(number: int, tmp_path: Path) -> None:
    header = {"authorization": f"Bearer {TOKEN}"}
    outcomes: list[str] = []
    ended = threading.Event()

    def by_grpc(target: str) -> None:
        with grpc.insecure_channel(target) as channel:
            stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
            request = pb.ExplainRequest(images=[pb.Image(content=b"an image")])
            while not ended.is_set():
                try:
                    stub.Explain(request, metadata=tuple(header.items()), timeout=10)
                    outcomes.append("grpc OK")
                except grpc.RpcError as problem:
                    outcomes.append(f"grpc {problem.code().name}: {problem.details()}")
                    return

    def by_http(url: str) -> None:
        with httpx.Client(base_url=url, headers=header, trust_env=False, timeout=10) as client:
            while not ended.is_set():
                try:
                    answer = client.post("/v1/explain", content=b"an image")
                    outcomes.append(f"http {answer.status_code}")
                    if answer.status_code == 503:
                        assert answer.headers["retry-after"] == "1"
                        return
                except httpx.ConnectError:
                    outcomes.append("http refused")
                    return
                except httpx.TransportError as problem:
                    outcomes.append(f"http {problem!r}")
                    return

    with (
        FalseTorchServe(slow) as server,
        process(server.target, tmp_path) as running,
        ThreadPoolExecutor(8) as pool,
    ):
        places = {by_grpc: running.grpc, by_http: running.http}
        calls = [pool.submit(by, place) for by, place in places.items() for _ in range(4)]
        time.sleep(1)
        running.process.send_signal(number)
        start = time.monotonic()
        assert running.process.wait(timeout=15) == 0
        assert time.monotonic() - start < 8
        ended.set()
        for call in calls:
            call.result(timeout=15)
    told = set(outcomes)
    assert {"grpc OK", "http 200"} <= told
    refused = {each for each in told if each.startswith("grpc UNAVAILABLE")}
    assert told <= {"grpc OK", "http 200", "http 503", "http refused"} | refused
    lines = [json.loads(line) for line in running.log]
    assert [line["event"] for line in lines[-1:]] == ["closed"]
    answered = [line for line in lines if line.get("code") in {"OK", "200"}]
    assert len(answered) == outcomes.count("grpc OK") + outcomes.count("http 200")
    assert {line["caller"] for line in answered} == {"ann"}
    assert all(line["request_id"] for line in answered)
    assert TOKEN not in "".join(running.log)


def test_arrow_takes_memory_from_where_it_is_given_back() -> None:
    asked = (
        "import lavise_service.companion.lifecycle, pyarrow; "
        "print(pyarrow.default_memory_pool().backend_name)"
    )
    unasked = {key: value for key, value in os.environ.items() if not key.startswith("ARROW_")}
    said = subprocess.run(
        [sys.executable, "-c", asked], env=unasked, capture_output=True, text=True, check=True
    )
    assert said.stdout == "system\n"


def test_what_takes_too_long_is_cut_off() -> None:
    inside, done = threading.Event(), threading.Event()

    def stuck(entries: dict[str, bytes], context: Any) -> bytes:
        if entries["image"] != b"stuck":
            return well(entries, context)
        inside.set()
        done.wait(20)
        return b"{}"

    with FalseTorchServe(stuck) as server, ThreadPoolExecutor(2) as pool:
        with running_doors(settings_for(server.target), drain_s=1) as doors:
            channel = grpc.insecure_channel(str(doors.grpc))
            stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
            request = pb.ExplainRequest(images=[pb.Image(content=b"stuck")])
            first = pool.submit(stub.Explain, request)
            url = f"http://{doors.http}/v1/explain"
            second = pool.submit(httpx.post, url, content=b"stuck", timeout=20, trust_env=False)
            assert inside.wait(5)
            time.sleep(0.2)
            start = time.monotonic()
        assert time.monotonic() - start < 5
        with pytest.raises(grpc.RpcError) as caught:
            first.result(timeout=5)
        assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        with suppress(httpx.TransportError):
            assert second.result(timeout=5).status_code >= 500
        channel.close()
        done.set()


def test_it_drains_and_says_so() -> None:
    with FalseTorchServe() as server, running_companion(server.target) as companion:
        assert "connection" not in companion.http.get("/healthz").headers
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{companion.url}/healthz", trust_env=False)


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_taken_port_is_named(door: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = settings_for("127.0.0.1:9", **{f"{door}_listen": f"127.0.0.1:{port}"})
        with pytest.raises(EnvironmentProblem, match=rf"cannot listen on 127\.0\.0\.1:{port}") as e:
            asyncio.run(serve(settings, asyncio.Event()))
    assert e.value.field == f"LAVISE_{door.upper()}_LISTEN"


def test_files_that_are_not_there_are_named_before_a_door_opens(tmp_path: Path) -> None:
    none = tmp_path / "none"
    for options in ({"tokens_file": none}, {"tls_cert": none, "tls_key": none}):
        with pytest.raises(SpecError, match="none"):
            asyncio.run(serve(settings_for("127.0.0.1:9", **options), asyncio.Event()))


def test_nothing_is_left_behind() -> None:
    threads = threading.active_count()
    for _ in range(2):
        with FalseTorchServe() as server, running_companion(server.target) as companion:
            companion.http.get("/healthz").raise_for_status()
    deadline = time.monotonic() + 5
    while threading.active_count() > threads + 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert threading.active_count() <= threads + 2


def test_the_hop_is_short() -> None:
    """Both ways measured in one process, so this is what the companion itself adds."""

    async def seconds(call: Any) -> float:
        taken = []
        for _ in itertools.repeat(None, 60):
            start = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - start)
        return sorted(taken)[len(taken) // 2]

    async def measure(target: str, through: str, url: str) -> float:
        upstream = Upstream(target)
        image = bytes(50_000)
        request = pb.ExplainRequest(images=[pb.Image(content=image)])
        async with grpc.aio.insecure_channel(through) as channel:
            stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
            hop = await seconds(lambda: stub.Explain(request))
            direct = await seconds(lambda: upstream.explain_raw([image]))
        async with httpx.AsyncClient(trust_env=False) as client:
            web = await seconds(lambda: client.post(f"{url}/v1/explain", content=image))
        await upstream.close()
        return max(hop, web) - direct

    with FalseTorchServe() as server, running_companion(server.target) as companion:
        # The bar is 3 ms on a quiet machine; tests run on busy ones.
        places = (server.target, str(companion.doors.grpc), companion.url)
        assert asyncio.run(measure(*places)) < 0.02
