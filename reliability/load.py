"""The load: what both companions together can do, then calls that come whether they can or not.

It runs in a process of its own. The capacity is measured in a closed loop, in which each of so many
callers asks again when it has its answer. The load is an open one: a call is due when it is due,
and its latency counts from then. So a server that stands still is charged with all that would have
come meanwhile (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from reliability.calls import World, compare_grpc, upload_grpc
from reliability.clients import Clients
from reliability.plan import SEED, SHARE_OF_CAPACITY, arrivals, draw
from reliability.records import OK, Call
from reliability.stalled import stalled_calls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from reliability.plan import Arrival, Plan
    from reliability.truth import Truth

CALLERS: Final = 24
_WARM_UP_S: Final = 40.0
_MEASURED_S: Final = 60.0
_MOST_AT_ONCE: Final = 5000
_LAST_ANSWERS_S: Final = 100.0


def run_load(
    truth: Truth,
    places: tuple[Sequence[str], Sequence[str]],
    plan: Plan,
    pipe: Connection,
) -> None:
    """Measures the capacity, says it, waits for the moment to begin, and sends back the calls.

    Args:
        truth: The right answers.
        places: HOST:PORT of the gRPC doors, and of the HTTP doors.
        plan: How long.
        pipe: Receives that the servers are up, sends the capacity, receives when the calm
            minutes end by time.monotonic(), sends list[Call].
    """
    pipe.recv()
    asyncio.run(_run(truth, places, plan, pipe))


async def _run(
    truth: Truth,
    places: tuple[Sequence[str], Sequence[str]],
    plan: Plan,
    pipe: Connection,
) -> None:
    async with Clients(*places) as clients:
        world = World(truth, clients)
        for seed in range(4):  # something to compare, and a page to look at
            await upload_grpc(world, random.Random(seed))
        await compare_grpc(world, random.Random(0))
        await _closed_loop(world, _WARM_UP_S * min(1, 2 * plan.scale))
        capacity = await _closed_loop(world, _MEASURED_S * min(1, 2 * plan.scale))
        pipe.send(capacity)
        begin = await asyncio.to_thread(pipe.recv)
        calls = await _open_loop(world, plan, SHARE_OF_CAPACITY * capacity, begin)
        pipe.send(calls)


async def _closed_loop(world: World, seconds: float) -> float:
    """Calls a second that come back, while every caller always waits for one."""
    rng = np.random.default_rng(SEED + 1)
    ends = time.monotonic() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.monotonic() < ends:
            code, _, wrong, _ = await world.call(*draw(rng))
            if code != OK or wrong:
                if code not in ("RESOURCE_EXHAUSTED", "429"):
                    raise RuntimeError(f"without any fault a call ended with {code} {wrong}")
                await asyncio.sleep(0.1)
            elif time.monotonic() < ends:
                done += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return done / seconds


async def _open_loop(world: World, plan: Plan, rate: float, begin: float) -> list[Call]:
    calls: list[Call] = []
    at_work: set[asyncio.Task[None]] = set()

    async def one(arrival: Arrival) -> None:
        late = time.monotonic() - begin - arrival.due
        code, hint, wrong, made = await world.call(arrival.kind, arrival.seed)
        seconds = time.monotonic() - begin - arrival.due
        calls.append(Call(arrival.kind, arrival.due, seconds, late, code, hint, wrong, made))

    stalling = asyncio.create_task(stalled_calls(world, plan.one("stalled").start, begin))
    for arrival in arrivals(plan, rate):
        wait = begin + arrival.due - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        if len(at_work) >= _MOST_AT_ONCE:
            calls.append(Call(arrival.kind, arrival.due, 0.0, code="not sent"))
            continue
        task = asyncio.create_task(one(arrival))
        at_work.add(task)
        task.add_done_callback(at_work.discard)
    if at_work:
        await asyncio.wait(at_work, timeout=_LAST_ANSWERS_S)
    calls += [Call("lost", plan.seconds, _LAST_ANSWERS_S, code="no answer") for _ in at_work]
    return sorted(calls, key=lambda call: call.due) + await stalling
