"""Who gives way to whom."""

import asyncio

from lavise_service.companion.turns import Turns


async def _large(turns: Turns, seen: list[int], at_work: list[None]) -> None:
    async with turns.in_turn():
        at_work.append(None)
        seen.append(len(at_work))
        await asyncio.sleep(0.01)
        at_work.pop()


def test_large_requests_go_together_where_nobody_waits() -> None:
    async def work() -> list[int]:
        turns, seen, at_work = Turns(), list[int](), list[None]()
        await asyncio.gather(*(_large(turns, seen, at_work) for _ in range(3)))
        return seen

    assert asyncio.run(work()) == [1, 2, 3]


def test_large_requests_go_one_by_one_while_somebody_waits() -> None:
    async def work() -> list[int]:
        turns, seen, at_work = Turns(), list[int](), list[None]()
        with turns.at_once():
            await asyncio.gather(*(_large(turns, seen, at_work) for _ in range(3)))
        return seen

    assert asyncio.run(work()) == [1, 1, 1]


def test_small_requests_never_wait() -> None:
    async def work() -> None:
        turns = Turns()
        with turns.at_once():
            async with turns.in_turn():
                with turns.at_once():
                    pass

    asyncio.run(asyncio.wait_for(work(), 1))


def test_who_gives_up_waiting_leaves_the_turn_to_others() -> None:
    async def work() -> list[int]:
        turns, seen, at_work = Turns(), list[int](), list[None]()
        with turns.at_once():
            async with turns.in_turn():
                waiting = asyncio.create_task(_large(turns, seen, at_work))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await asyncio.wait_for(_large(turns, seen, at_work), 1)
        return seen

    assert asyncio.run(work()) == [1]
