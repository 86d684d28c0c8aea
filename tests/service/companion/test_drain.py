"""SIGTERM while all doors are busy: what was accepted is answered, or told when to come again."""

import asyncio
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, cast

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from lavise.client import Client
from lavise.client.requests import upload_parts
from lavise.v1 import bias_pb2 as pb
from lavise.v1 import explain_pb2
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.companion.lifecycle import LINGER_S
from lavise_service.torchserve import TorchServe
from tests.companion_process import companion_process
from tests.running_companion import detail, running_doors, settings_for, told
from tests.uploads import PICTURES

pytestmark = pytest.mark.server
ANSWERED: Final = "answered"
COME_AGAIN: Final = "come again"
NOT_LET_IN: Final = "not let in"
A, B = "imageSets/a", "imageSets/b"
Ask = Callable[[grpc.Channel, int], None]


def explain(channel: grpc.Channel, _: int) -> None:
    stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
    image = explain_pb2.Image(content=PICTURES[0][1])
    stub.Explain(explain_pb2.ExplainRequest(images=[image]), timeout=30)


def upload(channel: grpc.Channel, number: int) -> None:
    stub: Any = BiasComparisonStub(channel)  # type: ignore[no-untyped-call]
    about = pb.ImageSetMetadata(name=f"imageSets/{threading.get_ident()}-{number}")
    stub.UploadImageSet(upload_parts(about, PICTURES[:60], 0), timeout=30)


def compare(channel: grpc.Channel, number: int) -> None:
    stub: Any = BiasComparisonStub(channel)  # type: ignore[no-untyped-call]
    asked = pb.CompareRequest(image_set_a=A, image_set_b=B, seed=number, permutations=1000)
    [*_, last] = stub.Compare(asked, timeout=30)
    assert last.comparison.state == pb.Comparison.STATE_DONE


def over_grpc(place: str, ask: Ask) -> Iterator[str]:
    """How calls one after the other ended, up to the first that was not answered."""
    with grpc.insecure_channel(place) as channel:
        for number in itertools.count():
            try:
                ask(channel, number)
            except grpc.RpcError as problem:
                yield refusal(problem)
                return
            yield ANSWERED


def over_http(url: str) -> Iterator[str]:
    """The same for Explain over HTTP."""
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        while True:
            try:
                answer = http.post("/v1/explain", content=PICTURES[0][1])
            except httpx.ConnectError:
                yield NOT_LET_IN
                return
            if answer.status_code != 200:
                assert answer.status_code == 503
                assert float(answer.headers["retry-after"]) > 0
                yield COME_AGAIN
                return
            yield ANSWERED


def refusal(problem: grpc.RpcError) -> str:
    """How a call ended that was not answered."""
    call = cast("grpc.Call", problem)
    if call.code() is not grpc.StatusCode.UNAVAILABLE:
        return str(problem)
    if rpc_status.from_call(call) is None:  # grpc's own words, not the companion's
        return NOT_LET_IN if "connect" in str(call.details()) else str(problem)
    assert detail(told(problem), error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    return COME_AGAIN


def test_sigterm_under_mixed_load(shared_torchserve: TorchServe, tmp_path: Path) -> None:
    place = shared_torchserve.grpc_target
    with companion_process(place, tmp_path) as companion, ThreadPoolExecutor(8) as pool:
        with Client(companion.grpc) as client:
            client.upload_image_set(PICTURES[:40], name=A)
            client.upload_image_set(PICTURES[40:80], name=B)
        asked = {"explain": explain, "upload": upload, "compare": compare}
        calls = {
            (what, number): pool.submit(list, over_grpc(companion.grpc, ask))
            for what, ask in asked.items()
            for number in range(2)
        }
        for number in range(2):
            calls["http", number] = pool.submit(list, over_http(companion.url))
        time.sleep(2)
        assert companion.end() == 0
        ended = Counter(
            (what, how) for (what, _), call in calls.items() for how in call.result(timeout=30)
        )
    assert {what for what, how in ended if how == ANSWERED} == {*asked, "http"}
    assert {how for _, how in ended} <= {ANSWERED, COME_AGAIN, NOT_LET_IN}, ended
    store = companion.store()
    sets = store.list_sets(1000, "")[0]
    ready = [one for one in sets if one.state == pb.ImageSet.STATE_READY]
    assert len(ready) == 2 + ended["upload", ANSWERED]
    made = store.comparisons.list(1000, "")[0]
    assert {one.state for one in made} == {pb.Comparison.STATE_DONE}
    assert len(made) == ended["compare", ANSWERED]
    assert "Traceback" not in companion.log


def test_what_is_cut_off_may_come_again(shared_torchserve: TorchServe) -> None:
    waiting = threading.Event()

    def stalled() -> Iterator[pb.UploadImageSetRequest]:
        yield from itertools.islice(upload_parts(pb.ImageSetMetadata(), PICTURES, 0), 9)
        waiting.wait(30)

    def body() -> Iterator[bytes]:
        yield PICTURES[0][1]
        waiting.wait(30)

    with ThreadPoolExecutor(1) as pool:
        settings = settings_for(shared_torchserve.grpc_target)
        with running_doors(settings, drain_s=0.5) as doors:
            channel = grpc.insecure_channel(str(doors.grpc))
            stub: Any = BiasComparisonStub(channel)  # type: ignore[no-untyped-call]
            call = stub.UploadImageSet.future(stalled())
            url = f"http://{doors.http}/v1/explain"
            post = pool.submit(httpx.post, url, content=body(), timeout=30, trust_env=False)
            time.sleep(0.5)
        waiting.set()
        with pytest.raises(grpc.RpcError) as caught:
            call.result(timeout=10)
        assert refusal(caught.value) == COME_AGAIN
        answer = post.result(timeout=10)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        channel.close()


def test_an_unread_request_hears_that_it_is_refused(tmp_path: Path) -> None:
    head = b"POST /v1/explain HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\n"
    with (
        companion_process("127.0.0.1:1", tmp_path) as companion,
        socket.create_connection(("127.0.0.1", int(companion.http.split(":")[1]))) as unfinished,
    ):
        unfinished.sendall(head)  # it keeps the companion from closing
        companion.terminate()
        time.sleep(LINGER_S + 0.5)

        async def refused() -> None:
            async with httpx.AsyncClient(base_url=companion.url, trust_env=False) as http:
                for _ in range(20):
                    answer = await http.post("/v1/explain", content=bytes(2**20))
                    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

        asyncio.run(refused())
