"""The same question once more where no answer comes; whichever answer is first counts."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


async def asked_again(
    ask: Callable[[], Coroutine[Any, Any, _T]],
    again: Callable[[], Coroutine[Any, Any, _T]],
    *,
    after_s: float,
    is_answer: Callable[[BaseException], bool] = lambda _: False,
) -> _T:
    """Awaits an answer, and after a while that of a second question as well.

    The first goes on meanwhile, for it may be late only. It runs in the caller's own task: a task
    for each question that is answered at once would take a tenth of a millisecond.

    Args:
        ask: Asks.
        again: Asks the second time; whether it makes sense is its own business.
        after_s: Seconds without an answer.
        is_answer: Whether an error of the second question is an answer as well.

    Returns:
        The first answer.

    Raises:
        Exception: What the first question ended with, where the second has no answer by then, or
            the second's error that is an answer.
    """
    caller = cast("asyncio.Task[Any]", asyncio.current_task())  # a coroutine runs in one
    cancels, over = caller.cancelling(), False
    second: asyncio.Task[_T] | None = None
    winner: asyncio.Task[_T] | None = None

    def begin() -> None:
        nonlocal second
        second = asyncio.create_task(again())
        second.add_done_callback(ended)

    def ended(task: "asyncio.Task[_T]") -> None:
        nonlocal winner
        problem = None if task.cancelled() else task.exception()
        if not over and not task.cancelled() and (problem is None or is_answer(problem)):
            winner = task
            caller.cancel()

    timer = asyncio.get_running_loop().call_later(after_s, begin)
    try:
        answer = await ask()
    except (asyncio.CancelledError, Exception):
        # As asyncio.timeout does: somebody else may cancel as well.
        if winner is not None and caller.uncancel() <= cancels:
            return winner.result()
        raise
    else:
        if winner is not None:  # it was asked to end, and did not listen
            caller.uncancel()
        return answer
    finally:
        over = True
        timer.cancel()
        if second is not None:
            second.cancel()
