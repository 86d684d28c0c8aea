"""Layers between ``Calls`` and the application: who may ask, and how much may be sent how slowly.

They are plain ASGI, so that a refused body is not read, and a bounded one is not held twice.
"""

from collections.abc import Mapping
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lavise_service.companion.caller_limits import CallerLimits
from lavise_service.companion.http_server import PEER
from lavise_service.companion.pace import Pace
from lavise_service.companion.problems import TooLarge
from lavise_service.companion.tokens import ANONYMOUS, Tokens

OPEN: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token."""


class Callers:
    """Lets nobody in without a token, or asking too much, but for health.

    Args:
        app: What is inside.
        tokens: Who may ask.
        limits: How much each may.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, limits: CallerLimits) -> None:
        self._app = app
        self._tokens = tokens
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification.

        Raises:
            Unauthenticated: No token, a wrong or an expired one.
            ResourceExhausted: The caller asks too much.
        """
        if scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).getlist("authorization")
        caller = self._tokens.check(sent[0] if len(sent) == 1 else None)
        if caller == ANONYMOUS:
            caller = scope["state"].get(PEER) or caller
        structlog.contextvars.bind_contextvars(caller=caller)
        with self._limits.one(caller):
            await self._app(scope, receive, send)


class BoundedBodies:
    """Bounds the bytes of a body and how slowly they may come, while they come.

    Args:
        app: What is inside.
        max_bytes: Of a body.
        larger: Other bounds by path.
        idle_s: Seconds that a body may stand still.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, larger: Mapping[str, int], idle_s: float
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._larger = larger
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification.

        Raises:
            TooLarge: The body has, or says it has, too many bytes.
            RequestTimeout: It stands still, or comes too slowly.
        """
        limit = self._larger.get(scope["path"], self._max_bytes)
        declared = Headers(scope=scope).get("content-length", "")
        # A server has read the number already; one that lies is the server's to find out.
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        body = _Body(receive, limit, self._idle_s)
        await self._app(scope, body.receive, send)


class _Body:
    """One body on its way in."""

    def __init__(self, receive: Receive, limit: int, idle_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._pace = Pace(idle_s)
        self._bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:  # what comes now is only that the caller goes away
            return await self._receive()
        message = await self._pace.wait_for(self._receive())
        came = len(message.get("body", b""))
        self._pace.came(came)
        self._bytes += came
        self._complete = not message.get("more_body", False)
        if self._bytes > self._limit:
            raise _too_large(self._limit)
        return message


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is too large; accepted: up to {limit:,} bytes")
