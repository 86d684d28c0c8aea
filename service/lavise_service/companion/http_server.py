"""uvicorn, as the companion runs it: inside its loop, without signals of its own.

What uvicorn offers against callers who are slow on purpose: a connection that asks nothing more
is closed after ``timeout_keep_alive``; headers may have 32 KiB; with ``limit_concurrency``
connections, more are answered 503. It has no limit of time for headers: ``PatientNoMore`` adds
one. Bodies are bounded in http/layers.py. A TLS handshake has asyncio's 60 seconds.
"""

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from lavise.errors import EnvironmentProblem
from lavise_service.companion.certificates import subject
from lavise_service.companion.settings import Address
from lavise_service.companion.tls import Tls

PEER: Final = "lavise.peer"
"""Where the state of a connection says whom the client's certificate names."""
_HEADERS_S: Final = 10.0
_HEADER_BYTES: Final = 32 * 1024
_MOST_CONNECTIONS: Final = 2048
_KEEP_ALIVE_S: Final = 30


class PatientNoMore(H11Protocol):
    """HTTP/1.1, where headers must be complete ``_HEADERS_S`` after their connection or byte.

    The same time is all that a body gets which nobody reads any more, because its request was
    answered already.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock, and looks at the client's certificate, which TLS has verified."""
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls else None
        if certificate:
            self.app_state = {**self.app_state, PEER: subject(certificate)}
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Starts the clock at the first byte of a request; stops it after its headers."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            if self._waiting is None:
                self._watch()
        else:
            self._stop_watching()

    def shutdown(self) -> None:
        """Closes the connection once what has arrived on it is read.

        A request that lies unread as its connection closes is reset, and nobody hears why. The
        loop reads between the first call and the second.
        """
        self.loop.call_soon(self.loop.call_soon, super().shutdown)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._stop_watching()
        super().connection_lost(exc)

    def _watch(self) -> None:
        self._waiting = self.loop.call_later(_HEADERS_S, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class HttpServer(uvicorn.Server):
    """uvicorn that leaves signals to the process it lives in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Captures none."""
        yield


def http_server(app: ASGIApp, *, tls: Tls | None) -> HttpServer:
    """Builds the server; it ends once ``should_exit`` is set.

    Args:
        app: What answers.
        tls: Certificates; None to speak in clear.
    """
    config = uvicorn.Config(
        app,
        http=PatientNoMore,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,  # who still works by then had time before
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ssl_context_factory=(lambda *_: tls.ssl_context()) if tls else None,
    )
    config.load()
    return HttpServer(config)


def listen(address: Address) -> socket.socket:
    """Opens the socket, so that its port is known before anything is answered.

    Raises:
        EnvironmentProblem: The address cannot be used.
    """
    # Named as TCP, which socket.create_server leaves open: only then does asyncio send what it has
    # at once, and not 40 ms later with the caller's acknowledgement.
    stream, tcp = socket.SOCK_STREAM, socket.IPPROTO_TCP
    try:
        found = socket.getaddrinfo(*address, type=stream, proto=tcp, flags=socket.AI_PASSIVE)
        family, kind, proto, _, place = found[0]
        opened = socket.socket(family, kind, proto)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(place)
            opened.listen(1024)
        except OSError:
            opened.close()
            raise
    except OSError as problem:
        raise EnvironmentProblem(
            f"HTTP cannot listen on {address}: {problem.strerror}. Stop what listens there, or "
            "set LAVISE_HTTP_LISTEN",
            field="LAVISE_HTTP_LISTEN",
        ) from problem
    return opened
