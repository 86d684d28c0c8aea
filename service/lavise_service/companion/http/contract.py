"""The messages of lavise.v1 as JSON schemas, for the OpenAPI page: made from the contract itself.

The JSON form is protobuf's (https://protobuf.dev/programming-guides/json/): names in camelCase,
64-bit integers as strings, bytes in base64.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lavise.v1 import bias_pb2, explain_pb2
from lavise_service.companion.http.errors import MEDIA_TYPE

Schema: TypeAlias = dict[str, Any]

PROBLEM: Final = "Problem"
_F: Final = FieldDescriptor
_INT64: Final = {_F.TYPE_INT64, _F.TYPE_UINT64, _F.TYPE_SINT64, _F.TYPE_FIXED64, _F.TYPE_SFIXED64}
_FLOATS: Final = {_F.TYPE_FLOAT, _F.TYPE_DOUBLE}
_PLAIN: Final[dict[int, Schema]] = {
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_ENUM: {"type": "string"},
    _F.TYPE_BYTES: {"type": "string", "format": "byte"},
    **{kind: {"type": "string", "format": "int64"} for kind in _INT64},
    # JSON has no infinity: protobuf writes a text.
    **{kind: {"type": ["number", "string"]} for kind in _FLOATS},
}
_TITLES: Final = {
    400: "The request is not valid",
    403: "Not on the server's list",
    401: "No token, or a wrong or expired one",
    404: "There is no such thing",
    408: "The body came too slowly",
    409: "The name is taken, or the thing is not in a state for this",
    413: "Too many bytes",
    415: "A body of a kind that is not read",
    429: "Too many calls at a time; Retry-After says when to come again",
    500: "Internal error",
    503: "The worker is away; Retry-After says when to come again",
    504: "The time is over",
}
_NO_CONTENT: Final = 204
_ALWAYS: Final = (401, 408, 429, 500, 503, 504)
_PROBLEM: Final[Schema] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string", "description": "The name of the google.rpc code"},
        "reason": {"type": "string"},
        "requestId": {"type": "string"},
        "retryAfterSeconds": {"type": "number"},
        "fieldViolations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
            },
        },
    },
}


def answers(
    message: str, *errors: int, status: int = 200, media_type: str = "application/json"
) -> dict[int | str, dict[str, Any]]:
    """The answers of a route, for FastAPI.

    Args:
        message: The message of a success; empty where its body is none.
        errors: HTTP statuses of the errors that are its own; those of every route are added.
        status: Of a success.
        media_type: Of its body.
    """
    schema = _reference(message) if message else {"type": "string"}
    success: dict[str, Any] = {"description": f"lavise.v1.{message}" if message else "Success"}
    if status != _NO_CONTENT:
        success["content"] = {media_type: {"schema": schema}}
    found: dict[int | str, dict[str, Any]] = {status: success}
    for error in sorted({*errors, *_ALWAYS}):
        found[error] = {
            "description": _TITLES[error],
            "content": {MEDIA_TYPE: {"schema": _reference(PROBLEM)}},
        }
    return found


def body_schema(message: str) -> Schema:
    """The body of a route that takes a message as JSON."""
    return {"required": True, "content": {"application/json": {"schema": _reference(message)}}}


def explain_body_schema() -> Schema:
    """The bodies of ``POST /v1/explain``."""
    image = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": image, "request": {"type": "string", "description": "JSON"}},
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": _reference("ExplainRequest")},
            "application/octet-stream": {"schema": image},
        },
    }


def components(messages: Iterable[Descriptor]) -> dict[str, Schema]:
    """The schemas of messages and of all that they hold, by name, and that of a problem."""
    found: dict[str, Schema] = {PROBLEM: _PROBLEM}
    left = list(messages)
    while left:
        message = left.pop()
        if message.name in found:
            continue
        fields = [field for field in message.fields if not _is_foreign(field)]
        found[message.name] = {
            "type": "object",
            "properties": {field.json_name: _of_field(field) for field in fields},
        }
        left += [f.message_type for f in fields if f.message_type and not _is_map(f)]
    return found


def service_messages() -> list[Descriptor]:
    """What the two services take and answer."""
    services = (
        explain_pb2.DESCRIPTOR.services_by_name["Explainer"],
        bias_pb2.DESCRIPTOR.services_by_name["BiasComparison"],
    )
    return [
        kind
        for service in services
        for method in service.methods
        for kind in (method.input_type, method.output_type)
    ]


def _of_field(field: FieldDescriptor) -> Schema:
    if _is_map(field):
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if field.message_type:
        one = _reference(field.message_type.name)
    else:
        one = _PLAIN.get(field.type, {"type": "integer", "format": "int32"})
    return {"type": "array", "items": one} if field.is_repeated else one


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _is_foreign(field: FieldDescriptor) -> bool:
    """Errors inside answers are google's messages; over HTTP they are problems."""
    return bool(field.message_type and field.message_type.full_name.startswith("google."))


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
