"""What every gRPC call passes through, whichever service it is for.

From the outside in: ``Calls`` (request id, log, metrics, errors), ``Callers`` (who asks, and how
much each may), ``Messages`` (reads them), ``ConcurrencyLimit``. Who has no token, or is beyond a
limit of its own, is refused before any message is read, and makes nobody hold megabytes; of others
that are refused a little is read and dropped, so that they hear why (grpc_handlers).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final, TypeAlias, cast

import grpc
import structlog
from google.rpc import code_pb2

from lavise.errors import LaviseError
from lavise_service.companion.caller_limits import CallerLimits
from lavise_service.companion.certificates import grpc_peer
from lavise_service.companion.grpc_handlers import Context, Handler, reading, refusal, wrapped
from lavise_service.companion.in_flight import InFlight
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import ResourceExhausted, Unauthenticated, status_of
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


class Calls(grpc.aio.ServerInterceptor):
    """Names, times, counts and logs every call, and makes every error a google.rpc.Status.

    Args:
        metrics: Where they are counted.
        in_flight: Where they are held while they are worked on. Health and reflection are not:
            who watches health does so until the server ends.
    """

    def __init__(self, metrics: Metrics, in_flight: InFlight) -> None:
        self._metrics = metrics
        self._in_flight = in_flight

    async def intercept_service(
        self, continuation: Continuation, details: Details
    ) -> "Handler | None":
        """See ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(details)
        # Nobody implements it: grpc says so. A made-up name must not become a metric's label.
        if handler is None:
            return handler
        method, sent = _method(details), _metadata(details, HEADER)
        return wrapped(handler, lambda context: self._call(method, sent, context))

    @asynccontextmanager
    async def _call(self, method: str, sent: str | None, context: Context) -> AsyncIterator[None]:
        request_id = request_id_from(sent)
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
            _log.log(
                logging.DEBUG if method.startswith(HEALTH) else logging.INFO,
                "call",
                extra={
                    "door": "grpc",
                    "method": method,
                    "code": outcome.code,
                    "seconds": round(outcome.seconds, 6),
                },
            )


class Callers(grpc.aio.ServerInterceptor):
    """Lets nobody in without a token, or asking too much, but for health.

    Args:
        tokens: Who may ask.
        limits: How much each may.
    """

    def __init__(self, tokens: Tokens, limits: CallerLimits) -> None:
        self._tokens = tokens
        self._limits = limits

    async def intercept_service(
        self, continuation: Continuation, details: Details
    ) -> "Handler | None":
        """See ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(details)
        if handler is None or _method(details).startswith(HEALTH):
            return handler
        try:
            who = self._tokens.check(_metadata(details, "authorization"))
        except Unauthenticated as error:
            return refusal(error)

        @asynccontextmanager
        async def counted(context: Context) -> AsyncIterator[None]:
            # Without tokens, the certificate says who asks; it is known only now.
            caller = (grpc_peer(context) if who == ANONYMOUS else None) or who
            structlog.contextvars.bind_contextvars(caller=caller)
            with self._limits.one(caller):
                yield

        return wrapped(handler, counted)


class Messages(grpc.aio.ServerInterceptor):
    """Reads the messages of those who were let in.

    Args:
        idle_s: Seconds that a caller may send nothing while a message is waited for.
    """

    def __init__(self, *, idle_s: float) -> None:
        self._idle_s = idle_s

    async def intercept_service(
        self, continuation: Continuation, details: Details
    ) -> "Handler | None":
        """See ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(details)
        return None if handler is None else reading(handler, self._idle_s)


class ConcurrencyLimit(grpc.aio.ServerInterceptor):
    """Refuses what is too much at a time.

    Args:
        slots: By the beginning of the method's name, such as ``/lavise.v1.Explainer/``; methods
            that begin otherwise are not limited.
    """

    def __init__(self, slots: Mapping[str, Slots]) -> None:
        self._slots = slots

    async def intercept_service(
        self, continuation: Continuation, details: Details
    ) -> "Handler | None":
        """See ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(details)
        method = _method(details)
        slots = next((s for start, s in self._slots.items() if method.startswith(start)), None)
        if handler is None or slots is None:
            return handler
        try:
            slots.check()
        except ResourceExhausted as error:
            return refusal(error, trusted=True)

        @asynccontextmanager
        async def holding(_: Context) -> AsyncIterator[None]:
            with slots.one():
                yield

        return wrapped(handler, holding)


def _method(details: Details) -> str:
    """The call's method; grpc gives bytes or text."""
    method = cast("str | bytes", details.method)
    return method.decode("latin-1") if isinstance(method, bytes) else method


def _metadata(details: Details, name: str) -> str | None:
    """A text header of the call; None where there is none, or several that contradict."""
    values = {value for key, value in details.invocation_metadata or () if key == name}
    value = values.pop() if len(values) == 1 else None
    return value if isinstance(value, str) else None
