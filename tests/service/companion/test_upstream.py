"""The companion's way to TorchServe: what works, what is tried again, what is told."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import grpc
import orjson
import pytest

from lavise.errors import ImageError, LaviseError, RequestError
from lavise_service.companion import upstream as upstream_module
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import DeadlineExceeded, TooLarge, Unavailable
from lavise_service.companion.upstream import WORKER_RESTART_S, Upstream
from lavise_service.torchserve import MAX_MESSAGE_BYTES, Ports
from tests.false_torchserve import ANSWER, FalseTorchServe, failing, well

IMAGE = b"an image"
DIED = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
)


def ask(
    target: str, call: Callable[[Upstream], Awaitable[Any]], metrics: Metrics | None = None
) -> Any:
    """Asks through an upstream that lives for this one call."""

    async def work() -> Any:
        upstream = Upstream(target, timeout_s=5, metrics=metrics)
        try:
            return await call(upstream)
        finally:
            await upstream.close()

    return asyncio.run(work())


def explain(upstream: Upstream) -> Awaitable[Any]:
    return upstream.explain([IMAGE])


def refusing(code: int, field: str) -> bytes:
    violation = {"field": field, "description": "no"}
    error = {"code": code, "message": "no", "details": [{"fieldViolations": [violation]}]}
    return orjson.dumps({"error": error})


def test_workers_behind_one_name_share_the_work() -> None:
    async def calls(upstream: Upstream) -> None:
        for _ in range(20):
            await explain(upstream)

    with FalseTorchServe() as one, FalseTorchServe() as other:
        ask(f"ipv4:{one.target},{other.target}", calls)
        assert one.calls + other.calls == 20
        assert min(one.calls, other.calls) >= 5


def test_a_worker_that_leaves_costs_nobody_an_answer() -> None:
    with FalseTorchServe() as staying, ExitStack() as there:
        leaving = there.enter_context(FalseTorchServe())

        async def calls(upstream: Upstream) -> None:
            for _ in range(6):
                await explain(upstream)
            there.close()
            for _ in range(6):
                await explain(upstream)

        ask(f"ipv4:{leaving.target},{staying.target}", calls)
        assert leaving.calls >= 1
        assert leaving.calls + staying.calls >= 12


def test_entries_and_answers_travel_as_the_handler_has_them() -> None:
    seen: list[dict[str, Any]] = []

    def keep(entries: dict[str, bytes], _: Any) -> bytes:
        seen.append({k: orjson.loads(v) if k == "request" else v for k, v in entries.items()})
        return orjson.dumps(ANSWER)

    async def calls(upstream: Upstream) -> None:
        assert upstream.last_success is None
        await upstream.describe({"layer": "a"})
        await upstream.model()
        await upstream.profile([], {"withWords": True})
        assert upstream.last_success is None  # none of them proves that the CNN runs
        assert await upstream.profile([IMAGE], {"layer": "a"}) == ANSWER
        assert upstream.last_success is not None
        assert await upstream.explain([IMAGE, IMAGE], {"topK": 2}) == ANSWER
        assert await upstream.explain_raw([IMAGE]) == orjson.dumps(ANSWER)

    with FalseTorchServe(keep) as server:
        ask(server.target, calls)
    assert seen == [
        {"request": {"describeFilters": {"layer": "a"}}},
        {"request": {"getModel": {}}},
        {"request": {"profile": {"withWords": True}}},
        {"image": IMAGE, "request": {"profile": {"layer": "a"}}},
        {"image": IMAGE, "image_2": IMAGE, "request": {"topK": 2}},
        {"image": IMAGE},
    ]


@pytest.mark.parametrize("code", DIED, ids=lambda code: code.name)
def test_a_dead_worker_is_tried_once_more_and_then_told(code: grpc.StatusCode) -> None:
    metrics = Metrics()
    with FalseTorchServe(failing(code)) as server:
        with pytest.raises(Unavailable) as caught:
            ask(server.target, explain, metrics)
        assert server.calls == 2
    assert caught.value.retry_after_s == WORKER_RESTART_S
    told = metrics.exposition().decode()
    assert "lavise_companion_torchserve_retries_total 1.0" in told
    assert f'lavise_companion_torchserve_failures_total{{reason="{code.name}"}} 2.0' in told


@pytest.mark.parametrize("answer", [b"", b"Internal Server Error", b'{"images": [', b"\xff"])
def test_an_answer_that_is_not_json_is_tried_once_more(answer: bytes) -> None:
    with FalseTorchServe(lambda *_: answer) as server:
        with pytest.raises(Unavailable, match="not JSON"):
            ask(server.target, explain)
        assert server.calls == 2


def test_the_second_try_may_succeed() -> None:
    def once(entries: dict[str, bytes], context: Any) -> bytes:
        server.behave = well
        return failing(grpc.StatusCode.INTERNAL)(entries, context)

    with FalseTorchServe(once) as server:
        assert ask(server.target, explain) == ANSWER
        assert server.calls == 2


@pytest.mark.parametrize(
    ("code", "field", "kind"),
    [
        (3, "image_2", ImageError),
        (3, "layer", RequestError),
        (14, "", LaviseError),
        (13, "", LaviseError),
    ],
)
def test_what_the_handler_refuses_is_not_sent_again(
    code: int, field: str, kind: type[LaviseError]
) -> None:
    with FalseTorchServe(lambda *_: refusing(code, field)) as server:
        with pytest.raises(kind, match="no") as caught:
            ask(server.target, explain)
        assert caught.value.field == field
        assert server.calls == 1


def test_a_request_over_the_limit_never_leaves() -> None:
    with FalseTorchServe() as server:
        with pytest.raises(TooLarge, match="33,554,432 bytes"):
            ask(server.target, lambda upstream: upstream.explain([bytes(MAX_MESSAGE_BYTES)]))
        assert server.calls == 0


def test_a_model_that_is_not_there_yet() -> None:
    with FalseTorchServe(failing(grpc.StatusCode.NOT_FOUND, "Model not found: lavise")) as server:
        with pytest.raises(Unavailable, match="does not serve the model 'lavise'"):
            ask(server.target, explain)
        assert server.calls == 1


def test_the_callers_time_is_kept() -> None:
    done = threading.Event()

    def slow(*_: Any) -> bytes:
        done.wait(5)
        return b"{}"

    with FalseTorchServe(slow) as server:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(server.target, lambda upstream: upstream.explain([IMAGE], timeout=0.3))
        assert 0.2 < time.monotonic() - start < 2
        with pytest.raises(DeadlineExceeded):
            ask(server.target, lambda upstream: upstream.explain([IMAGE], timeout=-1))

        async def impatient() -> None:
            upstream = Upstream(server.target, timeout_s=0.3)
            with pytest.raises(Unavailable, match=r"did not answer within 0\.3 s"):
                await upstream.explain([IMAGE], timeout=3600)
            await upstream.close()

        asyncio.run(impatient())
        done.set()


def test_what_has_many_images_gives_way_to_who_waits() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def hold(*_: Any) -> bytes:
        begun.release()
        go_on.wait(5)
        return orjson.dumps(ANSWER)

    async def calls(upstream: Upstream) -> None:
        small = asyncio.ensure_future(explain(upstream))
        await asyncio.to_thread(begun.acquire, timeout=5)
        large = [asyncio.ensure_future(upstream.profile([IMAGE], {})) for _ in range(3)]
        await asyncio.to_thread(begun.acquire, timeout=5)
        with pytest.raises(DeadlineExceeded):  # a page does not wait for its turn for ever
            await upstream.explain([IMAGE], timeout=0.3, in_turn=True)
        assert server.calls == 2
        other = asyncio.ensure_future(explain(upstream))
        assert await asyncio.to_thread(begun.acquire, timeout=5)
        go_on.set()
        assert await asyncio.gather(small, other, *large) == [ANSWER] * 5

    with FalseTorchServe(hold) as server:
        ask(server.target, calls)
        assert server.calls == 5


def test_what_torchserve_forgot_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "_LONG_S", 0.2)
    metrics, first_is_over = Metrics(), threading.Event()

    def forget_the_first(_: dict[str, bytes], context: Any) -> bytes:
        if server.calls == 1:
            context.add_callback(first_is_over.set)
            first_is_over.wait(5)
        return orjson.dumps(ANSWER)

    with FalseTorchServe(forget_the_first) as server:
        start = time.monotonic()
        assert ask(server.target, explain, metrics) == ANSWER
        assert time.monotonic() - start < 2
        assert server.calls == 2
        assert first_is_over.wait(2)  # nobody goes on waiting for it
    told = metrics.exposition().decode()
    assert 'lavise_companion_torchserve_failures_total{reason="no_answer"} 1.0' in told
    assert "lavise_companion_torchserve_retries_total 0.0" in told


def test_a_long_queue_does_not_grow_by_what_waits_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_module, "_LONG_S", 0.1)

    def slow(*_: Any) -> bytes:
        time.sleep(0.6)
        return orjson.dumps(ANSWER)

    async def many(upstream: Upstream) -> None:
        assert await asyncio.gather(*(explain(upstream) for _ in range(8))) == [ANSWER] * 8

    with FalseTorchServe(slow) as server:
        ask(server.target, many)
        assert server.calls == 8 + 2


def test_the_second_try_ends_with_the_callers_time() -> None:
    def slow(*_: Any) -> bytes:
        time.sleep(0.4)
        return b"no JSON"

    with FalseTorchServe(slow) as server:
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(server.target, lambda upstream: upstream.explain([IMAGE], timeout=0.5))
        assert time.monotonic() - start < 2


def test_cancelling_reaches_torchserve() -> None:
    cancelled, asked = threading.Event(), threading.Event()

    def wait(_: dict[str, bytes], context: Any) -> bytes:
        context.add_callback(cancelled.set)
        asked.set()
        cancelled.wait(5)
        return b"{}"

    async def give_up(upstream: Upstream) -> None:
        task = asyncio.ensure_future(upstream.explain([IMAGE]))
        await asyncio.to_thread(asked.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(cancelled.wait, 5)

    with FalseTorchServe(wait) as server:
        ask(server.target, give_up)


def test_a_torchserve_that_comes_later_is_found() -> None:
    port = Ports.free().grpc

    async def until_there(upstream: Upstream) -> None:
        with pytest.raises(Unavailable):
            await upstream.explain([IMAGE])
        with FalseTorchServe(port=port):
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                try:
                    assert await upstream.explain([IMAGE]) == ANSWER
                except Unavailable:
                    await asyncio.sleep(0.1)
                else:
                    return
            pytest.fail("TorchServe is there and is not found")

    ask(f"127.0.0.1:{port}", until_there)
