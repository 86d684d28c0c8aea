"""The connection to TorchServe: in clear, or by TLS with certificates that may change meanwhile."""

import asyncio
from typing import Final

import grpc

from lavise_service.companion.tls import ClientTls
from lavise_service.inference_pb2 import PredictionResponse, PredictionsRequest
from lavise_service.wire import CHANNEL_OPTIONS, PREDICTIONS

# A TorchServe that comes back is found within a second, not after gRPC's two minutes.
_OPTIONS: Final = (
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Whatever its name says, it is the time to connect in: a Java that has just begun needs some.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A name that stands for several workers, such as a headless Service: each gets its share. New
    # ones are found where TorchServe closes connections by age, and the name is looked up again.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)


class TorchServeChannel:
    """A channel to one TorchServe; make it inside the event loop.

    Args:
        target: Of its gRPC door, or of what speaks TLS before it; its certificate must be for this
            name.
        tls: Certificates; None to speak in clear. A change of the files makes a new connection,
            while calls on the one before end there.
        last_s: Seconds that calls of an old connection get at most.

    Raises:
        SpecError: A file of the certificates cannot be used.
    """

    def __init__(self, target: str, tls: ClientTls | None = None, *, last_s: float = 60.0) -> None:
        self._target = target
        self._last_s = last_s
        self._credentials = tls.watched() if tls else _in_clear
        self._closing: set[asyncio.Task[None]] = set()
        self._open(self._credentials())

    async def predict(
        self,
        message: PredictionsRequest,
        *,
        timeout: float,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> PredictionResponse:
        """Sends a prediction and returns the answer.

        Args:
            message: What is asked.
            timeout: Seconds.

        Raises:
            grpc.aio.AioRpcError: There is none.
        """
        now = self._credentials()
        if now is not self._opened_with:
            closing = asyncio.create_task(self._channel.close(self._last_s))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._open(now)
        answer: PredictionResponse = await self._predictions(message, timeout=timeout)
        return answer

    async def close(self) -> None:
        """Closes the connection, and with it what still runs."""
        for closing in self._closing:
            closing.cancel()
        await self._channel.close()

    def _open(self, credentials: grpc.ChannelCredentials | None) -> None:
        self._opened_with = credentials
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(self._target, credentials, options=_OPTIONS)
        self._predictions = self._channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )


def _in_clear() -> None:
    """The credentials of a channel that has none."""
