"""The same question once more where no answer comes; whichever answer is first counts."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


async def asked_again(
    ask: Callable[[], Coroutine[Any, Any, _T]],
    *,
    after_s: float,
    when_again: Callable[[], None] = lambda: None,
) -> _T:
    """Awaits an answer, and after a while that of a second question as well.

    The first goes on meanwhile, for it may be late only. It runs in the caller's own task: a task
    for each question that is answered at once would take a tenth of a millisecond.

    Args:
        ask: Asks.
        after_s: Seconds without an answer.
        when_again: Called as it is asked again.

    Returns:
        The first answer; the second question's failures do not count.

    Raises:
        Exception: What the first question ended with, where the second has no answer by then.
    """
    caller = cast("asyncio.Task[Any]", asyncio.current_task())  # a coroutine runs in one
    cancels, over = caller.cancelling(), False
    second: asyncio.Task[_T] | None = None
    winner: asyncio.Task[_T] | None = None

    def begin() -> None:
        nonlocal second
        when_again()
        second = asyncio.create_task(ask())
        second.add_done_callback(ended)

    def ended(task: "asyncio.Task[_T]") -> None:
        nonlocal winner
        if not task.cancelled() and task.exception() is None and not over:
            winner = task
            caller.cancel()

    timer = asyncio.get_running_loop().call_later(after_s, begin)
    try:
        return await ask()
    except asyncio.CancelledError:
        # As asyncio.timeout does: somebody else may cancel as well.
        if winner is not None and caller.uncancel() <= cancels:
            return winner.result()
        raise
    finally:
        over = True
        timer.cancel()
        if second is not None:
            second.cancel()
