"""How the load reaches two companions: each in turn, without any retry of its own.

gRPC does so by its round_robin policy. HTTP has no such thing: here a call goes to the next address
where one does not accept the connection, as any balancer would have it; an answer, whatever it is,
counts.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any, Final, Self

import grpc
import httpx
from google.rpc import error_details_pb2, status_pb2

from lavise.client import AsyncClient
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise.v1.explain_pb2_grpc import ExplainerStub
from reliability.servers import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

# httpcore looks for this package in vain at every call, which takes the load half a millisecond.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # None: it is not to be had
METADATA: Final = (("authorization", f"Bearer {TOKEN}"),)
UNARY_S: Final = 30.0
STREAM_S: Final = 90.0
_POOLS: Final = 16
_DETAILS: Final = "grpc-status-details-bin"
_OPTIONS: Final = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


class Clients:
    """The connections, as an asynchronous context manager.

    Args:
        grpc_places: HOST:PORT of each companion.
        http_places: Likewise.

    Attributes:
        explainer: The gRPC stub that says each error once.
        bias: Likewise.
        retrying: lavise.client.
        http_places: HOST:PORT of the HTTP doors.
    """

    def __init__(self, grpc_places: Sequence[str], http_places: Sequence[str]) -> None:
        target = f"ipv4:{','.join(grpc_places)}"
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self.explainer = _stub(ExplainerStub, self._channel)
        self.bias = _stub(BiasComparisonStub, self._channel)
        self.retrying = AsyncClient(target, token=TOKEN)
        # Many more may be on their way during the burst than httpx allows by itself. A pool looks
        # at all of its connections for each call: 500 in one took the load 4 s of CPU, and every
        # latency with it; in many it is 1.5 s.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=8)
        self._http = [
            httpx.AsyncClient(
                base_url=f"http://{place}",
                headers=dict(METADATA),
                trust_env=False,
                timeout=UNARY_S,
                limits=limits,
            )
            for _ in range(_POOLS)
            for place in http_places
        ]
        self.http_places = list(http_places)
        self._turn = itertools.count()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for http in self._http:
            await http.aclose()
        await self.retrying.close()
        await self._channel.close()

    async def http(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx takes many
        """Asks one companion, or the next where nobody accepts the connection."""
        start = next(self._turn)
        for n in range(len(self.http_places)):
            http = self._http[(start + n) % len(self._http)]
            try:
                return await http.request(method, path, **more)
            except httpx.ConnectError:
                if n == len(self.http_places) - 1:
                    raise
        raise AssertionError


def outcome(problem: Exception) -> tuple[str, bool]:
    """What an error is called, and whether it says when to come again."""
    if isinstance(problem, grpc.aio.AioRpcError):
        return problem.code().name, _has_hint(problem)
    return type(problem).__name__, False


def http_outcome(answer: httpx.Response) -> tuple[str, bool]:
    """The same of an answer over HTTP that is an error."""
    return str(answer.status_code), float(answer.headers.get("retry-after", 0)) > 0


def _has_hint(problem: grpc.aio.AioRpcError) -> bool:
    for key, value in problem.trailing_metadata() or ():
        if key == _DETAILS:
            details = status_pb2.Status.FromString(value).details
            return any(one.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for one in details)
    return False


def _stub(kind: Callable[[Any], Any], channel: Any) -> Any:  # noqa: ANN401 - generated, untyped
    return kind(channel)
