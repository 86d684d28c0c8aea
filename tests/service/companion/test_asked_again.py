"""A second question beside the first: who wins, and what is left of the other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lavise_service.companion.asked_again import asked_again


class Questions:
    """Each takes as long, and ends, as it is told to; remembers how they ended."""

    def __init__(self, *ends: tuple[float, str | Exception]) -> None:
        self._ends = list(ends)
        self.asked = 0
        self.ended: list[str] = []

    async def ask(self) -> str:
        after_s, end = self._ends[self.asked]
        self.asked += 1
        try:
            await asyncio.sleep(after_s)
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("answered")
        if isinstance(end, Exception):
            raise end
        return end


def run(
    questions: Questions, around: Callable[[Awaitable[str]], Awaitable[Any]] | None = None
) -> Any:
    async def work() -> Any:
        asking = asked_again(
            questions.ask,
            questions.ask,
            after_s=0.05,
            is_answer=lambda problem: isinstance(problem, KeyError),
        )
        try:
            return await (around(asking) if around else asking)
        finally:
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()
            await asyncio.sleep(0.02)  # nothing is left that would cancel whatever comes next

    return asyncio.run(work())


def test_an_answer_in_time_is_asked_for_once() -> None:
    questions = Questions((0.0, "first"))
    assert run(questions) == "first"
    assert questions.asked == 1


def test_the_second_answers_for_a_first_that_never_does() -> None:
    questions = Questions((60, "first"), (0.01, "second"))
    assert run(questions) == "second"
    assert sorted(questions.ended) == ["answered", "cancelled"]


def test_a_first_that_was_only_late_counts() -> None:
    questions = Questions((0.1, "first"), (60, "second"))
    assert run(questions) == "first"
    assert questions.ended == ["answered", "cancelled"]


def test_a_second_that_fails_does_not_count() -> None:
    questions = Questions((0.15, "first"), (0.01, ValueError("no")))
    assert run(questions) == "first"


def test_an_error_that_is_an_answer_counts() -> None:
    questions = Questions((60, "first"), (0.01, KeyError("no such layer")))
    with pytest.raises(KeyError, match="no such layer"):
        run(questions)
    assert sorted(questions.ended) == ["answered", "cancelled"]


def test_a_first_that_makes_something_else_of_being_cancelled() -> None:
    async def deaf() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as problem:
            raise ValueError("cut off") from problem
        return "first"

    async def work() -> str:
        task = asyncio.current_task()
        assert task is not None
        answer = await asked_again(deaf, lambda: asyncio.sleep(0.01, "second"), after_s=0.01)
        assert not task.cancelling()
        return answer

    assert asyncio.run(work()) == "second"


def test_a_first_that_fails_is_the_end() -> None:
    questions = Questions((0.1, ValueError("no")), (60, "second"))
    with pytest.raises(ValueError, match="no"):
        run(questions)
    assert questions.ended == ["answered", "cancelled"]


@pytest.mark.parametrize("first_s", [0.1, 0.1001, 0.0999])
def test_both_at_the_same_moment(first_s: float) -> None:
    assert run(Questions((first_s, "first"), (0.05, "second"))) in ("first", "second")


@pytest.mark.parametrize("timeout", [0.02, 0.08])
def test_who_gives_up_takes_both_along(timeout: float) -> None:
    questions = Questions((60, "first"), (60, "second"))

    async def impatient(asking: Awaitable[str]) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asking, timeout)

    run(questions, impatient)
    assert questions.ended == ["cancelled"] * questions.asked
