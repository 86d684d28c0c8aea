"""The three bodies that ``POST /v1/explain`` reads, each into images, their names, and options.

* an encoded image, with a Content-Type such as ``image/jpeg``: every option is left out;
* a form: ``image`` (several times, or ``image_2``, ...) and ``request``, an ExplainRequest as JSON;
* an ExplainRequest as JSON, its images in base64.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from lavise.errors import RequestError
from lavise.messages import image_bytes, parse_message
from lavise.v1.explain_pb2 import ExplainRequest
from lavise_service.companion.explainer_door import MAX_IMAGES, check_images
from lavise_service.companion.problems import UnsupportedMediaType

FORM: Final = "multipart/form-data"
JSON: Final = "application/json"
RAW: Final = "application/octet-stream"
_IMAGE_ENTRY: Final = re.compile(r"image(?:_(\d{1,4}))?")
_REQUEST_BYTES: Final = 2**20
# Values in a JSON body. Base64 has no comma and no bracket, so an honest request has few of them;
# a list of millions of empty lists would take a hundred times its own size in memory.
_MOST_VALUES: Final = 20_000


@dataclass(frozen=True)
class ExplainBody:
    """What was asked.

    Attributes:
        images: Encoded; within bounds.
        sources: What the answer is to call each; empty where the caller says nothing.
        fields: What the caller calls each; errors name it.
        options: ExplainRequest in JSON form, without the images.
    """

    images: list[bytes]
    sources: list[str]
    fields: list[str]
    options: dict[str, Any]


async def read_explain_body(request: Request, *, max_image_bytes: int) -> ExplainBody:
    """Reads a request's body.

    Args:
        request: The request, its body not read yet.
        max_image_bytes: Of an encoded image.

    Raises:
        InputError: It is malformed, or over a bound; ``field`` names the part.
    """
    kind = request.headers.get("content-type", RAW).partition(";")[0].strip().lower()
    if kind == FORM:
        # Values that are no files are held in memory.
        async with request.form(
            max_files=MAX_IMAGES + 1, max_fields=1, max_part_size=_REQUEST_BYTES
        ) as form:
            body = await _of_form(form, max_image_bytes)
    elif kind == JSON:
        body = _of_json(await request.body())
    elif kind == RAW or kind.startswith("image/"):
        body = ExplainBody([await request.body()], [""], ["image"], {})
    else:
        raise UnsupportedMediaType(
            f"a body of type {kind} is not read here; accepted: {FORM}, {JSON}, {RAW}, image/...",
            field="content-type",
        )
    check_images(body.images, body.fields, max_bytes=max_image_bytes)
    # Here and not only in the handler, which reads more than this path is for.
    parse_message(body.options, ExplainRequest())
    return body


async def _of_form(form: FormData, max_image_bytes: int) -> ExplainBody:
    """Reads a form; images go by number, and those of one name by their order."""
    options: dict[str, Any] = {}
    files: list[tuple[int, str, UploadFile]] = []
    for name, value in form.multi_items():
        entry = _IMAGE_ENTRY.fullmatch(name)
        if entry is not None and isinstance(value, UploadFile):
            files.append((int(entry[1] or 1), name, value))
        elif entry is not None:
            raise RequestError(f"{name} is text; accepted: an image file", field=name)
        elif name == "request" and not options:
            text = value if isinstance(value, str) else await value.read(_REQUEST_BYTES)
            options = _object(text, field=name)
        else:
            raise RequestError(
                f"unknown entry {name!r}; accepted: image, image_2, ... and one request",
                field=name,
            )
    if options.get("images"):
        raise RequestError(
            "images come either as files or inside the request, not both", field="request.images"
        )
    files.sort(key=lambda each: each[0])
    return ExplainBody(
        # One byte more than is accepted is enough to refuse it.
        images=[await file.read(max_image_bytes + 1) for *_, file in files],
        sources=[file.filename or "" for *_, file in files],
        fields=[name for _, name, _ in files],
        options=options,
    )


def _of_json(data: bytes) -> ExplainBody:
    """Takes the images out of an ExplainRequest."""
    options = _object(data, field="body")
    given = options.pop("images", None)
    if not isinstance(given, list) or len(given) > MAX_IMAGES:
        raise RequestError(f"images is no list of 1 to {MAX_IMAGES} images", field="images")
    body = ExplainBody([], [], [], options)
    for number, image in enumerate(given):
        field = f"images[{number}]"
        if not isinstance(image, dict) or image.keys() - {"content", "source"}:
            raise RequestError(f"{field}: accepted: content and source", field=field)
        content, source = image.get("content"), image.get("source", "")
        if not isinstance(content, str) or not isinstance(source, str):
            raise RequestError(
                f"{field}: accepted: content, the image in base64, and source, a text", field=field
            )
        try:
            body.images.append(image_bytes(content))
        except RequestError as problem:
            problem.field = f"{field}.content"
            raise
        body.sources.append(source)
        body.fields.append(f"{field}.content")
    return body


def _object(data: str | bytes, *, field: str) -> dict[str, Any]:
    """Reads a JSON object of bounded complexity."""
    if not isinstance(data, str) and sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise RequestError(
            f"{field} holds more than {_MOST_VALUES:,} values, more than any request needs",
            field=field,
        )
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        raise RequestError(f"{field} is no JSON: {problem}", field=field) from problem
    if not isinstance(parsed, dict):
        raise RequestError(f"{field} is JSON, but no object", field=field)
    return parsed
