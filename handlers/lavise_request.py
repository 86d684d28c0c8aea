"""What TorchServe hands over for a request, read as what was asked.

A request is one of

* an encoded image as the body;
* the entries of a multipart form or of a gRPC map: ``image``, ``image_2``, ... and ``request``, an
  ExplainRequest as JSON;
* an ExplainRequest as JSON, its images in base64;
* JSON without any image: ``{"describeFilters": DescribeFiltersRequest}`` or
  ``{"getModel": GetModelRequest}``;
* ``{"profile": ProfileRequest}`` as the entry ``request``, with any number of image entries.

Nothing here knows the bundle: whether a layer or a filter exists is checked by the handler.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from lavise.errors import RequestError
from lavise.messages import image_bytes, options_from_request, parse_message
from lavise.options import ExplainOptions
from lavise.v1.explain_pb2 import DescribeFiltersRequest, ExplainRequest, GetModelRequest
from lavise.v1.profile_pb2 import ProfileRequest

MAX_IMAGES = 64
"""Images per request."""
_IMAGE_ENTRY = re.compile(r"image(?:_(\d{1,4}))?")
_LOOKUPS: dict[str, type[DescribeFiltersRequest | GetModelRequest]] = {
    "describeFilters": DescribeFiltersRequest,
    "describe_filters": DescribeFiltersRequest,
    "getModel": GetModelRequest,
    "get_model": GetModelRequest,
}


@dataclass(frozen=True)
class Ask:
    """Images to explain.

    Attributes:
        encoded: The images as they came.
        fields: What errors call each of them.
        sources: What the answer calls each of them.
        options: For all of them.
        model: The model that the request names; empty where it names none.
        profile: Set where their numbers are wanted instead of words.
    """

    encoded: list[bytes | bytearray]
    fields: list[str]
    sources: list[str]
    options: ExplainOptions
    model: str
    profile: ProfileRequest | None = None


@dataclass(frozen=True)
class Lookup:
    """A request that needs no image."""

    message: DescribeFiltersRequest | GetModelRequest


def read_request(row: Mapping[str, Any], content_type: str) -> Ask | Lookup:
    """Reads one request of a batch.

    Args:
        row: The entries by name, as bytes or parsed by TorchServe; a body is the entry ``body``.
        content_type: Of the body; empty where it is not known.

    Returns:
        What was asked, still to be checked against the bundle.

    Raises:
        RequestError: If the request is malformed; ``field`` names the part.
    """
    images, body = _entries(row, content_type)
    for key in body.keys() & _LOOKUPS.keys():
        if images or len(body) > 1:
            raise RequestError(f"{key} stands alone: no image, no other option", field=key)
        return Lookup(parse_message(body[key], _LOOKUPS[key]()))
    names = [name for name, _ in images]
    if "profile" in body:
        return _profile(images, names, body)
    if not images:
        images = _inline_images(body)
        names = ["image", *(f"image_{number}" for number in range(2, len(images) + 1))]
    elif body.get("images"):
        raise RequestError(
            "images come either as entries or inside the request, not both", field="request.images"
        )
    if not 1 <= len(images) <= MAX_IMAGES:
        raise RequestError(
            f"the request has {len(images)} images; accepted: 1 to {MAX_IMAGES}", field="images"
        )
    request = parse_message(body, ExplainRequest())
    fields, encoded = map(list, zip(*images, strict=True))
    given = [image.source for image in request.images] or [""] * len(images)
    return Ask(
        encoded=encoded,
        fields=fields,
        sources=[source or name for source, name in zip(given, names, strict=True)],
        options=options_from_request(request),
        model=request.model,
    )


def _profile(
    images: list[tuple[str, bytes | bytearray]], names: list[str], body: dict[str, Any]
) -> Ask:
    """Reads a request for numbers; without an image it asks for the words alone."""
    if len(body) > 1:
        raise RequestError("profile stands alone in the request: no other option", field="profile")
    request = parse_message(body["profile"], ProfileRequest())
    if len(images) > MAX_IMAGES or not (images or request.with_words):
        raise RequestError(
            f"the request has {len(images)} images; accepted: 1 to {MAX_IMAGES}, or none together "
            "with withWords",
            field="images",
        )
    return Ask(
        encoded=[content for _, content in images],
        fields=names,
        sources=names,
        options=ExplainOptions(layer=request.layer),
        model=request.model,
        profile=request,
    )


def _entries(
    row: Mapping[str, Any], content_type: str
) -> tuple[list[tuple[str, bytes | bytearray]], dict[str, Any]]:
    """Splits a request into its encoded images, by field, and the parsed rest."""
    if set(row) == {"body"}:
        body = row["body"]
        if isinstance(body, dict):
            return [], body
        start = bytes(body[:64]) if isinstance(body, bytes | bytearray) else b"{"
        if content_type.startswith("application/json") or start.lstrip()[:1] == b"{":
            return [], _json_object(body)
        return [("image", body)], {}
    unknown = [name for name in row if name != "request" and not _IMAGE_ENTRY.fullmatch(name)]
    if unknown:
        raise RequestError(
            f"unknown entry {unknown[0]!r}; accepted: image, image_2, ... and request. An image "
            "alone goes as the body: curl -T IMAGE, or a Content-Type such as image/jpeg",
            field="entries",
        )
    names = sorted(row.keys() - {"request"}, key=lambda name: (len(name), name))
    for name in names:
        if not isinstance(row[name], bytes | bytearray):
            raise RequestError(f"entry {name!r} is text; accepted: an image file", field=name)
    return [(name, row[name]) for name in names], _json_object(row.get("request", b"{}"))


def _json_object(data: Any) -> dict[str, Any]:  # noqa: ANN401 - what TorchServe made of it
    """Returns a request's JSON object."""
    if isinstance(data, dict):
        return data
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        raise RequestError(f"request is no JSON: {problem}", field="request") from problem
    if not isinstance(parsed, dict):
        raise RequestError("request is JSON, but no object", field="request")
    return parsed


def _inline_images(body: dict[str, Any]) -> list[tuple[str, bytes | bytearray]]:
    """Takes the images' content out of a JSON request, by field."""
    images = body.get("images")
    found: list[tuple[str, bytes | bytearray]] = []
    for number, image in enumerate(images if isinstance(images, list) else ()):
        field = f"images[{number}].content"
        content = image.pop("content", None) if isinstance(image, dict) else None
        if not isinstance(content, str):
            raise RequestError(f"{field} is missing; accepted: the image in base64", field=field)
        found.append((field, image_bytes(content)))
    return found
