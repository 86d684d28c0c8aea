"""A server that speaks TorchServe's gRPC and misbehaves as it is told to."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import orjson

from lavise_service.inference_pb2 import PredictionResponse, PredictionsRequest
from lavise_service.wire import PREDICTIONS

Behaviour: TypeAlias = Callable[[dict[str, bytes], Any], bytes]
ANSWER = {"images": [{"source": "image", "predictions": [], "filters": []}], "bundleDigest": "d"}


def well(_: dict[str, bytes], __: Any) -> bytes:
    """Answers as the handler would, for one image."""
    return orjson.dumps(ANSWER)


def failing(code: grpc.StatusCode, details: str = "InternalServerException") -> Behaviour:
    """Fails every call with a code of gRPC."""

    def behave(_: dict[str, bytes], context: Any) -> bytes:
        context.abort(code, details)
        raise AssertionError

    return behave


class FalseTorchServe:
    """The server, as a context manager.

    Args:
        behave: Entries and gRPC context to the answer; may be changed at any time.
        port: Where it listens; a free one where 0.
    """

    def __init__(self, behave: Behaviour = well, *, port: int = 0) -> None:
        self.behave = behave
        self.calls = 0
        self._server = grpc.server(ThreadPoolExecutor(32))
        self._server.add_generic_rpc_handlers((_Service(self),))
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.target = f"127.0.0.1:{self.port}"

    def answer(self, request: PredictionsRequest, context: Any) -> PredictionResponse:
        self.calls += 1
        return PredictionResponse(prediction=self.behave(dict(request.input), context))

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(0).wait()


class _Service(grpc.GenericRpcHandler):
    def __init__(self, server: FalseTorchServe) -> None:
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != PREDICTIONS:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self._server.answer,
            request_deserializer=PredictionsRequest.FromString,
            response_serializer=PredictionResponse.SerializeToString,
        )
