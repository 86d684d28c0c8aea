"""What goes to TorchServe's gRPC door and comes back, for every client of it.

The handler answers with the JSON form of the ``lavise.v1`` messages. What was wrong stands in the
answer, ``{"error": {google.rpc.Status}}``, because TorchServe's gRPC drops the status of single
requests; TorchServe's own troubles come as gRPC codes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import grpc
import orjson

from lavise.errors import BundleError, EnvironmentProblem, ImageError, LaviseError, RequestError
from lavise_service.torchserve.config import MAX_MESSAGE_BYTES

Json: TypeAlias = dict[str, Any]

PREDICTIONS: Final = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Proxies named in the environment have no business between us and TorchServe.
    ("grpc.enable_http_proxy", 0),
)


def entries(images: Sequence[bytes], request: Mapping[str, Any] | None) -> dict[str, bytes]:
    """Returns the entries of a multipart form or a gRPC map: image, image_2, ..., request."""
    names = ("image" if number == 1 else f"image_{number}" for number in range(1, len(images) + 1))
    found = dict(zip(names, images, strict=True))
    if request:
        found["request"] = orjson.dumps(request)
    return found


def checked(payload: Json) -> Json:
    """Returns a payload.

    Raises:
        LaviseError: What the payload carries instead of an answer.
    """
    if payload.get("error"):
        raise told_error(payload["error"])
    return payload


def told_error(error: Json) -> LaviseError:
    """Returns what the handler meant by a google.rpc.Status in JSON form."""
    message, code = error.get("message", ""), error.get("code")
    details = error.get("details") or [{}]
    violations = details[0].get("fieldViolations") or [{}]
    field = violations[0].get("field", "")
    # The numbers of google.rpc.Code are those of grpc.StatusCode.
    if code == grpc.StatusCode.INVALID_ARGUMENT.value[0]:
        kind = ImageError if field.startswith("image") else RequestError
        return kind(message, field=field)
    if code == grpc.StatusCode.FAILED_PRECONDITION.value[0]:
        return BundleError(message, field=field)
    if code == grpc.StatusCode.INTERNAL.value[0]:
        return LaviseError(message, field=field)
    return EnvironmentProblem(message, field=field)


def too_large() -> RequestError:
    """Returns the error of a request that TorchServe would not take."""
    return RequestError(
        f"the request is over TorchServe's limit of {MAX_MESSAGE_BYTES:,} bytes: "
        "send fewer or smaller images at a time"
    )


def unknown_model(details: str | None) -> RequestError | None:
    """Returns the error, where TorchServe's words say that it serves no such model."""
    told = (details or "").partition("\n")[0]  # the rest names Java classes
    if told.startswith("Model not found"):
        return RequestError(f"TorchServe: {told}", field="model")
    return None
