"""Whether the companion is of use, proved by a real prediction.

A port that is open says nothing: the worker behind it may be dead. So an image goes all the way
through TorchServe every few seconds. Where callers' own images went through meanwhile, that
counts, and nothing extra is sent.
"""

import asyncio
import io
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Final

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio
from PIL import Image

from lavise.errors import LaviseError
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.upstream import Upstream

SERVICES: Final = ("", "lavise.v1.Explainer", "lavise.v1.BiasComparison")
STARTING: Final = "no prediction has been made yet"
DRAINING: Final = "the server is shutting down"
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

_log = logging.getLogger(__name__)


class Readiness:
    """Knows whether predictions work, and tells grpc.health.v1 and Prometheus.

    Args:
        upstream: TorchServe.
        metrics: Where ``ready`` is shown.
        services: The names that grpc.health.v1 knows; the empty one is the whole server.
        every_s: Seconds between proofs while all is well; a second while it is not.
        timeout_s: What a proof may take. A busy worker lets it wait; a dead one fails it sooner.
    """

    def __init__(
        self,
        upstream: Upstream,
        metrics: Metrics,
        *,
        services: Sequence[str] = SERVICES,
        every_s: float = 3.0,
        timeout_s: float = 10.0,
    ) -> None:
        self._upstream = upstream
        self._metrics = metrics
        self._services = services
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._image = _grey()
        self.servicer = aio.HealthServicer()
        self.reason = STARTING
        """Why it is not ready; empty when it is."""

    async def watch(self) -> None:
        """Proves it again and again, until cancelled."""
        await self._tell(STARTING)
        while True:
            reason = await self._proof()
            if reason != self.reason:
                await self._tell(reason)
            await asyncio.sleep(1.0 if reason else self._every_s)

    async def drain(self) -> None:
        """Says no from now on, whatever proofs say."""
        await self._tell(DRAINING)
        await self.servicer.enter_graceful_shutdown()

    async def _proof(self) -> str:
        """Returns why predictions do not work; nothing where they do."""
        start = monotonic()
        if self._succeeded_since(start - self._every_s):
            return ""
        try:
            await self._upstream.explain(
                [self._image], {"mostActive": 1, "topK": 1}, timeout=self._timeout_s
            )
        except LaviseError as error:
            # Callers' own images may have gone through while the proof waited in the queue.
            return "" if self._succeeded_since(start) else error.message
        except Exception:  # noqa: BLE001 - one that fails must not end the proving
            _log.exception("the proof of readiness failed in an unforeseen way")
            return "internal error"
        return ""

    def _succeeded_since(self, time: float) -> bool:
        last = self._upstream.last_success
        return last is not None and last >= time

    async def _tell(self, reason: str) -> None:
        if self.reason == DRAINING:
            return
        self.reason = reason
        self._metrics.ready.set(not reason)
        _log.info("ready" if not reason else "not ready", extra={"reason": reason})
        for service in self._services:
            await self.servicer.set(service, _NOT_SERVING if reason else _SERVING)


def _grey() -> bytes:
    """A small grey image, encoded."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()
