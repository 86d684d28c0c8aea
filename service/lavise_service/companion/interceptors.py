"""What every gRPC call passes through, whichever service it is for.

From the outside in: ``Calls`` (request id, log, metrics, errors), ``Callers`` (who asks, and how
much each may), reading of the message, and the slots of what is limited. Who has no token, or is
beyond a limit of its own, is refused before any message is read, and makes nobody hold megabytes;
of others that are refused a little is read and dropped, so that they hear why (grpc_handlers).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Final, TypeAlias, cast

import grpc
import structlog
from google.rpc import code_pb2

from lavise.errors import LaviseError
from lavise_service.companion.caller_limits import CallerLimits
from lavise_service.companion.certificates import grpc_peer
from lavise_service.companion.grpc_handlers import Context, Handler, reading, wrapped
from lavise_service.companion.in_flight import InFlight
from lavise_service.companion.metrics import Metrics, Outcome
from lavise_service.companion.problems import status_of
from lavise_service.companion.request_id import HEADER, request_id_from
from lavise_service.companion.slots import Slots
from lavise_service.companion.tokens import ANONYMOUS, Tokens

HEALTH: Final = "/grpc.health.v1.Health/"
OWN: Final = "/lavise.v1."
_DETAILS: Final = "grpc-status-details-bin"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

Details: TypeAlias = grpc.HandlerCallDetails
Continuation: TypeAlias = "Callable[[Details], Awaitable[Handler | None]]"

_log = logging.getLogger(__name__)


class Layers(grpc.aio.ServerInterceptor):
    """Puts the layers around every method, once: made anew, they were a tenth of its work.

    Args:
        calls: The outermost.
        callers: Who may ask; health is for everybody.
        slots: How much is worked on at a time, by the beginning of the method's name, such as
            ``/lavise.v1.Explainer/``; methods that begin otherwise are not limited.
        idle_s: Seconds that a caller may send nothing while a message is waited for.
    """

    def __init__(
        self, calls: "Calls", callers: "Callers", slots: Mapping[str, Slots], *, idle_s: float
    ) -> None:
        self._calls = calls
        self._callers = callers
        self._slots = slots
        self._idle_s = idle_s
        self._made: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, details: Details
    ) -> "Handler | None":
        """See ``grpc.aio.ServerInterceptor``."""
        method = _method(details)
        made = self._made.get(method)
        if made is None:
            handler = await continuation(details)
            # Nobody implements it: grpc says so. A made-up name must not become a metric's label.
            if handler is None:
                return handler
            made = self._made[method] = self._around(method, handler)
        return made

    def _around(self, method: str, handler: Handler) -> Handler:
        slots = next((s for start, s in self._slots.items() if method.startswith(start)), None)
        if slots is None:
            handler = reading(handler, self._idle_s)
        else:
            # Refused before the message is read, held only once it is there: who sends slowly
            # takes no slot.
            held = wrapped(handler, lambda _: _holding(slots))
            handler = reading(held, self._idle_s, admit=slots.check)
        if not method.startswith(HEALTH):
            handler = wrapped(handler, self._callers.one)
        return wrapped(handler, partial(self._calls.one, method))


class Calls:
    """Names, times, counts and logs every call, and makes every error a google.rpc.Status.

    Args:
        metrics: Where they are counted.
        in_flight: Where they are held while they are worked on. Health and reflection are not:
            who watches health does so until the server ends.
    """

    def __init__(self, metrics: Metrics, in_flight: InFlight) -> None:
        self._metrics = metrics
        self._in_flight = in_flight

    @asynccontextmanager
    async def one(self, method: str, context: Context) -> AsyncIterator[None]:
        """Goes around one call.

        Args:
            method: Its full name.
            context: Its own.
        """
        request_id = request_id_from(_metadata(context, HEADER))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        trailers = ((HEADER, request_id),)
        context.set_trailing_metadata(trailers)
        try:
            with self._metrics.call("grpc") as outcome:
                outcome.method = method
                try:
                    with self._in_flight.one() if method.startswith(OWN) else nullcontext():
                        yield
                except asyncio.CancelledError:
                    outcome.code = "CANCELLED"
                    raise
                except grpc.aio.AbortError:
                    # grpc-stubs does not know that this is a StatusCode, or its number.
                    code = cast("Any", context.code())
                    outcome.code = getattr(code, "name", None) or _CODES[code].name
                    raise
                except Exception as error:  # noqa: BLE001 - it becomes the answer
                    if not isinstance(error, LaviseError):
                        _log.exception("a call failed", extra={"method": method})
                    self._metrics.refused(error)
                    status = status_of(error)
                    outcome.code = code_pb2.Code.Name(status.code)
                    await context.abort(
                        _CODES[status.code],
                        status.message,
                        (*trailers, (_DETAILS, status.SerializeToString())),
                    )
        finally:
            # Written while the answer is on its way: it need not wait for that.
            asyncio.get_running_loop().call_soon(_write, outcome)


class Callers:
    """Lets nobody in without a token, or asking too much.

    Args:
        tokens: Who may ask.
        limits: How much each may.
    """

    def __init__(self, tokens: Tokens, limits: CallerLimits) -> None:
        self._tokens = tokens
        self._limits = limits

    @asynccontextmanager
    async def one(self, context: Context) -> AsyncIterator[None]:
        """Goes around one call.

        Raises:
            Unauthenticated: No good token.
            ResourceExhausted: The caller asks too much.
        """
        who = self._tokens.check(_metadata(context, "authorization"))
        # Without tokens, the certificate says who asks.
        caller = (grpc_peer(context) if who == ANONYMOUS else None) or who
        structlog.contextvars.bind_contextvars(caller=caller)
        with self._limits.one(caller):
            yield


@asynccontextmanager
async def _holding(slots: Slots) -> AsyncIterator[None]:
    with slots.one():
        yield


def _write(outcome: Outcome) -> None:
    """Logs a call that has ended."""
    _log.log(
        logging.DEBUG if outcome.method.startswith(HEALTH) else logging.INFO,
        "call",
        extra={
            "door": "grpc",
            "method": outcome.method,
            "code": outcome.code,
            "seconds": round(outcome.seconds, 6),
        },
    )


def _method(details: Details) -> str:
    """The call's method; grpc gives bytes or text."""
    method = cast("str | bytes", details.method)
    return method.decode("latin-1") if isinstance(method, bytes) else method


def _metadata(context: Context, name: str) -> str | None:
    """A text header of the call; None where there is none, or several that contradict."""
    values = {value for key, value in context.invocation_metadata() or () if key == name}
    value = values.pop() if len(values) == 1 else None
    return value if isinstance(value, str) else None
