"""TorchServe, as the companion asks it: over grpc.aio, with deadlines, once more after a crash.

A prediction changes nothing, so one that fell with its worker is sent again, once: an image that
kills workers then kills two, three at most, and not all. The new worker loads its bundle for 4 to 6
seconds, and what is sent meanwhile waits in TorchServe's queue. What the caller got wrong is never
sent again.
TorchServe forgets requests that it was just putting into a batch as the worker died, and never
answers: of those without an answer for long, two at a time are sent once more beside the first,
which may be late only.
Requests of many images give way to those of callers (turns.py).
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

import grpc
import orjson

from lavise.errors import LaviseError
from lavise_service.companion.asked_again import asked_again
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import DeadlineExceeded, TooLarge, Unavailable
from lavise_service.companion.tls import ClientTls
from lavise_service.companion.torchserve_channel import TorchServeChannel
from lavise_service.companion.turns import Turns
from lavise_service.inference_pb2 import PredictionsRequest
from lavise_service.torchserve.config import MAX_MESSAGE_BYTES
from lavise_service.wire import (
    Json,
    checked,
    entries,
    too_large,
    unknown_model,
)

_log = logging.getLogger(__name__)

WORKER_RESTART_S: Final = 5.0
"""Seconds until a worker that died answers again."""
_WAIT_S: Final = (0.05, 0.4)
_LONG_S: Final = 10.0
"""Longer than requests wait for a new worker."""
_AGAIN_AT_ONCE: Final = 2
"""A queue that is long for other reasons must not grow by it."""
_ERROR: Final = b'{"error":'
_TOO_LATE: Final = "the answer did not come in the time given for it"
_by_lot: Final = secrets.SystemRandom()


class _WorkerTrouble(Unavailable):
    """TorchServe or its worker failed; the caller is not to blame, and trying again may help."""


class Upstream:
    """The way to one TorchServe; make it inside the event loop.

    Args:
        target: Of its gRPC door, such as ``127.0.0.1:7070``.
        model: The name that the model is served under.
        timeout_s: How long an answer may take where the caller gives no less.
        metrics: Where retries and failures are counted.
        tls: Certificates of the way there; None to speak in clear.

    Raises:
        SpecError: A file of the certificates cannot be used.
    """

    def __init__(
        self,
        target: str,
        *,
        model: str = "lavise",
        timeout_s: float = 60.0,
        metrics: Metrics | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        self._target = target
        self._model = model
        self._timeout_s = timeout_s
        self._metrics = metrics or Metrics()
        self._channel = TorchServeChannel(target, tls, last_s=timeout_s)
        self._turns = Turns()
        self._asked_again = 0
        self.last_success: float | None = None
        """When a prediction on an image last succeeded, by ``time.monotonic``."""

    async def explain(
        self,
        images: Sequence[bytes],
        request: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - gRPC's own deadline
        in_turn: bool = False,
    ) -> Json:
        """Explains encoded images; returns ExplainResponse in JSON form.

        Args:
            images: Encoded; empty where the request carries them in base64.
            request: ExplainRequest in JSON form.
            timeout: Seconds that the caller gives.
            in_turn: Gives way to others; the wait is of the caller's time.

        Raises:
            InputError: The request is wrong.
            Unavailable: TorchServe or its worker failed; says when to try again.
            DeadlineExceeded: The caller's time is over.
        """
        if not in_turn:
            return _parsed(await self.explain_raw(images, request, timeout=timeout))
        answer = await self._in_turn("explain", entries(images, request), timeout)
        self.last_success = monotonic()
        return _parsed(answer)

    async def explain_raw(
        self,
        images: Sequence[bytes],
        request: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> bytes:
        """Like ``explain``; returns the answer as the JSON text that came."""
        answer = await self._ask("explain", entries(images, request), timeout)
        self.last_success = monotonic()
        return answer

    async def profile(
        self,
        images: Sequence[bytes],
        request: Mapping[str, Any],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> Json:
        """Profiles encoded images, giving way to others; returns ProfileResponse in JSON form.

        Args:
            images: Encoded. Without any, the answer has the words and the catalog's words only.
            request: ProfileRequest in JSON form.
            timeout: Seconds that the caller gives.

        Raises:
            LaviseError: As ``explain`` does.
        """
        parts = entries(images, {"profile": dict(request)})
        ask = self._in_turn if images else self._ask
        answer = _parsed(await ask("profile", parts, timeout))
        if images:
            self.last_success = monotonic()
        return answer

    async def describe(
        self,
        request: Mapping[str, Any],
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> Json:
        """Looks filters up in the catalog: DescribeFiltersRequest to DescribeFiltersResponse.

        Raises:
            LaviseError: As ``explain`` does.
        """
        return _parsed(
            await self._ask("describe", entries((), {"describeFilters": dict(request)}), timeout)
        )

    async def model(
        self,
        request: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> Json:
        """Says what is loaded: GetModelRequest to GetModelResponse.

        Raises:
            LaviseError: As ``explain`` does.
        """
        return _parsed(
            await self._ask("model", entries((), {"getModel": dict(request or {})}), timeout)
        )

    async def close(self) -> None:
        """Closes the channel, and with it what still runs."""
        await self._channel.close()

    async def _ask(
        self,
        call: str,
        parts: dict[str, bytes],
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> bytes:
        """Sends one prediction that somebody waits for; returns the JSON text."""
        with self._turns.at_once():
            return await self._sent(call, parts, timeout)

    async def _in_turn(
        self,
        call: str,
        parts: dict[str, bytes],
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> bytes:
        """Sends one prediction that gives way to others; returns the JSON text."""
        ends = None if timeout is None else monotonic() + timeout
        try:
            async with asyncio.timeout(timeout), self._turns.in_turn():
                return await self._sent(call, parts, ends and ends - monotonic())
        except TimeoutError as problem:
            raise DeadlineExceeded(_TOO_LATE) from problem

    async def _sent(
        self,
        call: str,
        parts: dict[str, bytes],
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own deadline
    ) -> bytes:
        """Sends one prediction, and again where no answer comes; returns the JSON text."""
        message = PredictionsRequest(model_name=self._model, input=parts)
        if message.ByteSize() > MAX_MESSAGE_BYTES:
            raise TooLarge(too_large().message)  # TorchServe would cancel it, and say nothing
        ends = monotonic() + (self._timeout_s if timeout is None else timeout)
        return await asked_again(
            partial(self._tried, call, message, ends),
            partial(self._again, call, message, ends),
            after_s=_LONG_S,
            is_answer=lambda problem: not isinstance(problem, Unavailable | DeadlineExceeded),
        )

    async def _again(self, call: str, message: PredictionsRequest, ends: float) -> bytes:
        """Sends a prediction beside one that has no answer, if there are few of these."""
        if self._asked_again >= _AGAIN_AT_ONCE:
            raise Unavailable("others are asked again already")
        self._metrics.failures.labels("no_answer").inc()
        self._asked_again += 1
        try:
            return await self._once(call, message, ends)
        finally:
            self._asked_again -= 1

    async def _tried(self, call: str, message: PredictionsRequest, ends: float) -> bytes:
        """Sends a prediction, once more after a crash; returns the JSON text."""
        try:
            return await self._once(call, message, ends)
        except _WorkerTrouble:
            self._metrics.retries.inc()
            await asyncio.sleep(_by_lot.uniform(*_WAIT_S))
            return await self._once(call, message, ends)

    async def _once(self, call: str, message: PredictionsRequest, ends: float) -> bytes:
        """Sends a prediction; returns the JSON text, or raises what it stands for."""
        left = ends - monotonic()
        try:
            with self._metrics.torchserve_seconds.labels(call).time():
                answer = await self._channel.predict(
                    message, timeout=max(0.0, min(left, self._timeout_s))
                )
        except grpc.aio.AioRpcError as problem:
            raise self._meaning(problem, caller_is_late=left < self._timeout_s) from problem
        text: bytes = answer.prediction
        if text.startswith(_ERROR):
            _parsed(text)
        if not (text.startswith(b"{") and text.endswith(b"}")):
            self._metrics.failures.labels("not_json").inc()
            raise _WorkerTrouble("TorchServe answered with something that is not JSON")
        return text

    def _meaning(self, problem: grpc.aio.AioRpcError, *, caller_is_late: bool) -> LaviseError:
        code, details = problem.code(), problem.details()
        self._metrics.failures.labels(code.name).inc()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            if caller_is_late:
                return DeadlineExceeded(_TOO_LATE)
            return Unavailable(
                f"TorchServe did not answer within {self._timeout_s:g} s",
                retry_after_s=WORKER_RESTART_S,
            )
        _log.warning(
            "TorchServe failed",
            extra={"code": code.name, "details": details, "target": self._target},
        )
        if unknown_model(details):
            return Unavailable(
                f"TorchServe does not serve the model {self._model!r} (yet)",
                retry_after_s=WORKER_RESTART_S,
            )
        return _WorkerTrouble(
            "the worker that explains is not there just now; it comes back by itself",
            retry_after_s=WORKER_RESTART_S,
        )


def _parsed(text: bytes) -> Json:
    """Returns an answer's JSON object.

    Raises:
        Unavailable: It is none.
        LaviseError: What it carries instead of an answer.
    """
    try:
        answer = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise Unavailable("TorchServe answered with something that is not JSON") from problem
    return checked(answer)
