"""A companion in a thread, on ports of its own."""

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import Any, cast

import grpc
import httpx
from google.rpc import status_pb2
from grpc_status import rpc_status

from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.companion.lifecycle import Doors, serve
from lavise_service.companion.settings import Settings


@dataclass
class Running:
    """A companion that runs, and clients of it."""

    doors: Doors
    channel: grpc.Channel
    http: httpx.Client
    explainer: Any  # generated code has no types

    @property
    def url(self) -> str:
        return f"http://{self.doors.http}"


@contextmanager
def running_doors(settings: Settings, *, drain_s: float = 5.0) -> Iterator[Doors]:
    """Opens the doors of a companion, and drains it at the end."""
    opened: Queue[Doors | BaseException] = Queue()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def work() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        await serve(settings, stop, when_open=opened.put, linger_s=0.05, drain_s=drain_s)

    def thread() -> None:
        try:
            asyncio.run(work())
        except BaseException as problem:  # noqa: BLE001 - it goes to the test
            opened.put(problem)

    running = threading.Thread(target=thread)
    running.start()
    doors = opened.get(timeout=20)
    if isinstance(doors, BaseException):
        running.join()
        raise doors
    try:
        yield doors
    finally:
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        running.join(timeout=20)
        assert not running.is_alive()
    if not opened.empty():
        problem = opened.get()
        assert isinstance(problem, BaseException)
        raise problem


def settings_for(torchserve: str, **settings: Any) -> Settings:
    """Settings on free ports of loopback, with a store of its own."""
    ports = {"grpc_listen": "127.0.0.1:0", "http_listen": "127.0.0.1:0"}
    return Settings(**{"torchserve": torchserve, "store": tempfile.mkdtemp(), **ports, **settings})


@contextmanager
def running_companion(torchserve: str, **settings: Any) -> Iterator[Running]:
    """Runs a companion before a TorchServe; its clients send no token."""
    with running_doors(settings_for(torchserve, **settings)) as doors:
        url = f"http://{doors.http}"
        with (
            grpc.insecure_channel(str(doors.grpc)) as channel,
            httpx.Client(base_url=url, trust_env=False, timeout=30) as http,
        ):
            yield Running(doors, channel, http, ExplainerStub(channel))  # type: ignore[no-untyped-call]


def told(problem: grpc.RpcError) -> status_pb2.Status:
    """The google.rpc.Status that came with a failed call."""
    # The exception of a failed call is the call itself, which the stubs do not say.
    status = rpc_status.from_call(cast("grpc.Call", problem))
    assert status is not None
    return status


def detail(status: status_pb2.Status, kind: Any) -> Any:
    """The detail of a kind in a status."""
    for each in status.details:
        message = kind()
        if each.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")
