"""Which calls the clients repeat, and how long they wait before.

A server that refuses says when to come again (RetryInfo). The clients wait that long, and up to 1,
2, 4, 8 and then 15 s more, drawn by lot: who was refused together must not come back together.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from tenacity import retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

if TYPE_CHECKING:
    from tenacity import RetryCallState

# The clients cancel nothing that they then wait for: CANCELLED comes from a server that just ends.
_REPEATABLE: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)
_STREAM_ATTEMPTS: Final = 12
_LONGEST_S: Final = 60.0
_DETAILS: Final = "grpc-status-details-bin"
_by_lot: Final = wait_random_exponential(multiplier=1, max=15)


def again(*, within_s: float | None = None) -> dict[str, Any]:
    """How tenacity's Retrying and AsyncRetrying repeat a call.

    Args:
        within_s: Seconds that a call may take with all of its repetitions; None for a stream, which
            may take long and is repeated eleven times, over a minute.
    """
    return {
        "retry": retry_if_exception(may_be_repeated),
        "stop": stop_after_attempt(_STREAM_ATTEMPTS)
        if within_s is None
        else stop_before_delay(within_s),
        "wait": _pause,
        "reraise": True,
    }


def may_be_repeated(problem: BaseException) -> bool:
    """Whether the same call may succeed later."""
    # Where a server ends a stream that is still written, grpc.aio may fail to write before it reads
    # why, and calls that INTERNAL; a server's own INTERNAL comes with trailers.
    if code_of(problem) is grpc.StatusCode.INTERNAL:
        return isinstance(problem, grpc.aio.AioRpcError) and not problem.trailing_metadata()
    return code_of(problem) in _REPEATABLE


def code_of(problem: BaseException) -> grpc.StatusCode | None:
    """How a call ended; None where it is no call's error."""
    return problem.code() if isinstance(problem, grpc.Call | grpc.aio.AioRpcError) else None


def hint_s(problem: BaseException) -> float:
    """Seconds after which the server wants to be asked again; 0 where it does not say.

    At most a minute, whatever it says.
    """
    if not isinstance(problem, grpc.Call | grpc.aio.AioRpcError):
        return 0.0
    info = error_details_pb2.RetryInfo()
    for key, value in problem.trailing_metadata() or ():
        # A proxy may have written them.
        with suppress(DecodeError, TypeError):
            if key == _DETAILS and any(
                detail.Unpack(info) for detail in status_pb2.Status.FromString(value).details
            ):
                return min(max(0.0, float(info.retry_delay.ToMilliseconds()) / 1000), _LONGEST_S)
    return 0.0


def _pause(state: RetryCallState) -> float:
    problem = state.outcome.exception() if state.outcome else None
    return float(_by_lot(state)) + (hint_s(problem) if problem else 0.0)
