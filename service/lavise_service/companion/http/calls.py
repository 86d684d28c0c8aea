"""What every HTTP request passes through first: request id, log, metrics, errors.

It is plain ASGI, around the application and its other layers, so that what they refuse is named,
counted and answered like everything else.
"""

import asyncio
import logging
from contextlib import nullcontext, suppress
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lavise.errors import LaviseError
from lavise_service.companion.assembly import Companion
from lavise_service.companion.http.errors import problem_response
from lavise_service.companion.in_flight import Stage
from lavise_service.companion.request_id import HEADER, request_id_from

# What probes and Prometheus ask every few seconds.
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REST_S: Final = 1.0

_log = logging.getLogger(__name__)


class Calls:
    """Names, times, counts and logs every request, and answers every error with problem+json.

    Args:
        app: What is inside.
        companion: For its metrics, and to hear when it ends.
    """

    def __init__(self, app: ASGIApp, companion: Companion) -> None:
        self._app = app
        self._companion = companion

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        request_id = request_id_from(Headers(scope=scope).get(HEADER))
        scope["lavise.request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0
        body = _Body(receive)

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                headers["x-content-type-options"] = "nosniff"
                if self._companion.in_flight.stage > Stage.OPEN:
                    headers["connection"] = "close"
                    await body.passed_over()
            await send(message)

        with self._companion.metrics.call("http") as outcome:
            quiet = scope["path"] in _QUIET
            try:
                with nullcontext() if quiet else self._companion.in_flight.one():
                    await self._app(scope, body.receive, send_named)
            except ClientDisconnect:
                status = status or 499  # nobody is there to be answered
            except Exception as error:
                if not isinstance(error, LaviseError):
                    _log.exception("a request failed")
                self._companion.metrics.refused(error)
                if status:
                    raise  # too late for another answer: the connection is closed
                await problem_response(error, request_id)(scope, receive, send_named)
            finally:
                outcome.method, outcome.code = _method(scope), str(status or 500)
        _log.log(
            logging.DEBUG if quiet else logging.INFO,
            "call",
            extra={
                "door": "http",
                "method": outcome.method,
                "code": outcome.code,
                "seconds": round(outcome.seconds, 6),
            },
        )


class _Body:
    """The body of a request, which may be refused before it is read.

    A connection that is closed while bytes are unread is reset, and the answer goes with it: the
    caller would never hear when to come again (RFC 9112, 9.6).
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._complete = not message.get("more_body", False)
        return message

    async def passed_over(self) -> None:
        """Reads what is left of it, for a moment."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_REST_S):
                while not self._complete:
                    await self.receive()


def _method(scope: Scope) -> str:
    """What metrics call a request: its route, of which there are few, and not its path."""
    method = scope["method"] if scope["method"] in _METHODS else "OTHER"
    path = getattr(scope.get("route"), "path", None)
    return f"{method} {path}" if path else "unmatched"
