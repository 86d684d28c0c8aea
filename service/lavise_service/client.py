"""Ask TorchServe through its own doors, REST and gRPC.

Both doors answer with the JSON form of the ``lavise.v1`` messages, returned here as a dict, and
say what was wrong in the same way: ``{"error": {google.rpc.Status}}``, raised here as the
LaviseError that the handler meant.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import httpx
import orjson

from lavise.errors import EnvironmentProblem, LaviseError, RequestError
from lavise_service.inference_pb2 import PredictionResponse, PredictionsRequest
from lavise_service.torchserve.config import MAX_MESSAGE_BYTES
from lavise_service.wire import (
    CHANNEL_OPTIONS,
    PREDICTIONS,
    Json,
    checked,
    entries,
    too_large,
    unknown_model,
)

__all__ = ["GrpcClient", "Json", "RestClient"]

_JSON = {"content-type": "application/json"}


class RestClient:
    """TorchServe's REST doors.

    Args:
        url: The inference address, such as ``http://127.0.0.1:8080``.
        management_url: The management address; only ``model`` needs it.
        model: The name that the model is served under.
        timeout_s: How long an answer may take.
    """

    def __init__(
        self,
        url: str,
        *,
        management_url: str = "http://127.0.0.1:8081",
        model: str = "lavise",
        timeout_s: float = 60.0,
    ) -> None:
        self._predictions = f"{url}/predictions/{model}"
        self._describe = f"{management_url}/models/{model}"
        # Proxies named in the environment have no business between us and TorchServe.
        self._http = httpx.Client(timeout=timeout_s, trust_env=False)

    def explain_image(self, image: bytes) -> Json:
        """Sends one encoded image as the body, with every option left out."""
        headers = {"content-type": "application/octet-stream"}
        return self._post(content=image, headers=headers)

    def explain(self, images: Sequence[bytes], request: Mapping[str, Any] | None = None) -> Json:
        """Sends encoded images and an ExplainRequest as a multipart form.

        Raises:
            LaviseError: What the handler, TorchServe or the network refused; see ``errors``.
        """
        files = {name: (name, data) for name, data in entries(images, request).items()}
        return self._post(files=files)

    def ask(self, request: Mapping[str, Any]) -> Json:
        """Sends a request as JSON: an ExplainRequest whose images are base64, or a look-up.

        A look-up is ``{"describeFilters": DescribeFiltersRequest}`` or
        ``{"getModel": GetModelRequest}``.
        """
        return self._post(content=orjson.dumps(request), headers=_JSON)

    def model(self) -> Json:
        """Returns GetModelResponse from TorchServe's management door (its describe call)."""
        answer = self._send("GET", self._describe, params={"customized": "true"})
        metadata = answer[0].get("customizedMetadata")
        if not isinstance(metadata, dict):
            raise EnvironmentProblem(
                f"TorchServe described the model without the handler's part: {metadata!r}",
                field="torchserve",
            )
        return checked(metadata)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _post(self, **body: Any) -> Json:  # noqa: ANN401 - httpx's own keywords
        answer: Json = self._send("POST", self._predictions, **body)
        return answer

    def _send(self, method: str, url: str, **body: Any) -> Any:  # noqa: ANN401 - any JSON
        try:
            answer = self._http.request(method, url, **body)
        except httpx.TransportError as problem:
            raise EnvironmentProblem(
                f"TorchServe does not answer at {url}: {problem}. Start it with: lavise serve",
                field="torchserve",
            ) from problem
        if answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE and not answer.content:
            raise too_large()
        try:
            payload = orjson.loads(answer.content)
        except orjson.JSONDecodeError as problem:
            raise EnvironmentProblem(
                f"TorchServe answered {answer.status_code} with something that is not JSON",
                field="torchserve",
            ) from problem
        if answer.is_error and isinstance(payload, dict) and "error" not in payload:
            # TorchServe's own form: {"code": 404, "type": "...", "message": "..."}.
            kind = RequestError if answer.is_client_error else EnvironmentProblem
            raise kind(f"TorchServe: {payload.get('message', payload)}", field="torchserve")
        return checked(payload) if isinstance(payload, dict) else payload


class GrpcClient:
    """TorchServe's gRPC door.

    Args:
        target: Such as ``127.0.0.1:7070``.
        model: The name that the model is served under.
        timeout_s: How long an answer may take.
    """

    def __init__(self, target: str, *, model: str = "lavise", timeout_s: float = 60.0) -> None:
        self._target = target
        self._model = model
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        self._predict = self._channel.unary_unary(
            PREDICTIONS,
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )

    def explain(self, images: Sequence[bytes], request: Mapping[str, Any] | None = None) -> Json:
        """Sends encoded images and an ExplainRequest.

        Raises:
            LaviseError: What the handler, TorchServe or the network refused; see ``errors``.
        """
        message = PredictionsRequest(model_name=self._model, input=entries(images, request))
        try:
            answer = self._predict(message, timeout=self._timeout_s)
        except grpc.RpcError as problem:
            raise self._meaning(problem, message) from problem
        return checked(orjson.loads(answer.prediction))

    def ask(self, request: Mapping[str, Any]) -> Json:
        """Sends a request without an image: see ``RestClient.ask``."""
        return self.explain((), request)

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _meaning(self, problem: grpc.RpcError, message: PredictionsRequest) -> LaviseError:
        # TorchServe cancels what is over its limit, and says nothing.
        if message.ByteSize() > MAX_MESSAGE_BYTES:
            return too_large()
        # The exception of a failed unary call is the call itself, which the stubs do not say.
        code = problem.code() if isinstance(problem, grpc.Call) else None
        text = problem.details() if isinstance(problem, grpc.Call) else str(problem)
        told = (text or "").partition("\n")[0]  # the rest names Java classes
        return unknown_model(text) or EnvironmentProblem(
            f"TorchServe does not answer at {self._target}: {code}: {told}. "
            "Start it with: lavise serve",
            field="torchserve",
        )
