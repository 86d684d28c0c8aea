"""``lavise.v1.Explainer`` over gRPC: passed on to TorchServe, within bounds and deadlines."""

import re
from collections.abc import Sequence
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from lavise.errors import ImageError, LaviseError, RequestError
from lavise.v1 import explain_pb2, explain_pb2_grpc
from lavise_service.companion.from_json import message_from
from lavise_service.companion.grpc_handlers import Context
from lavise_service.companion.problems import TooLarge
from lavise_service.companion.upstream import Upstream

MAX_IMAGES: Final = 64
"""Images per request."""
LONGEST_TEXT: Final = 1000
"""Characters of a name, or of a token of a page."""
_MOST_FILTERS: Final = 2**16
_ENTRY: Final = re.compile(r"image(?:_(\d{1,4}))?")


class ExplainerDoor(explain_pb2_grpc.ExplainerServicer):
    """Explain, DescribeFilters and GetModel, with TorchServe's numbers.

    Args:
        upstream: TorchServe.
        max_image_bytes: Of an encoded image.
    """

    def __init__(self, upstream: Upstream, *, max_image_bytes: int) -> None:
        self._upstream = upstream
        self._max_image_bytes = max_image_bytes

    async def Explain(  # noqa: N802 - grpc's name
        self, request: explain_pb2.ExplainRequest, context: Context
    ) -> explain_pb2.ExplainResponse:
        """See explain.proto."""
        # Before a Python object is made for each: a message has room for millions of them.
        check_count(len(request.images))
        check_fields(request, request.filters.indices)
        images = [image.content for image in request.images]
        sources = [image.source for image in request.images]
        fields = [f"images[{number}].content" for number in range(len(images))]
        check_images(images, fields, max_bytes=self._max_image_bytes)
        # Images and options travel apart: bytes need no base64 then.
        del request.images[:]
        try:
            answer = await self._upstream.explain(
                images, json_format.MessageToDict(request), timeout=context.time_remaining()
            )
        except LaviseError as error:
            error.field = own_field(error.field, fields)
            raise
        response = message_from(answer, explain_pb2.ExplainResponse)
        for image, source in zip(response.images, sources, strict=True):
            image.source = source or image.source
        return response

    async def DescribeFilters(  # noqa: N802 - grpc's name
        self, request: explain_pb2.DescribeFiltersRequest, context: Context
    ) -> explain_pb2.DescribeFiltersResponse:
        """See explain.proto."""
        check_fields(request, request.indices)
        answer = await self._upstream.describe(_fields(request), timeout=context.time_remaining())
        return message_from(answer, explain_pb2.DescribeFiltersResponse)

    async def GetModel(  # noqa: N802 - grpc's name
        self, request: explain_pb2.GetModelRequest, context: Context
    ) -> explain_pb2.GetModelResponse:
        """See explain.proto."""
        check_fields(request)
        answer = await self._upstream.model(_fields(request), timeout=context.time_remaining())
        return message_from(answer, explain_pb2.GetModelResponse)


def check_fields(request: Message, indices: Sequence[int] = ()) -> None:
    """Refuses what no request needs, before it costs anything: a message has room for much of it.

    Args:
        request: Its texts are looked at.
        indices: Filters that it names.

    Raises:
        RequestError: A text is too long, or there are too many filters.
    """
    for field, value in request.ListFields():
        if field.type == field.TYPE_STRING and len(value) > LONGEST_TEXT:
            raise RequestError(
                f"{field.name} has {len(value):,} characters; accepted: at most {LONGEST_TEXT:,}",
                field=field.name,
            )
    if len(indices) > _MOST_FILTERS:
        raise RequestError(
            f"{len(indices):,} filters are named; accepted: at most {_MOST_FILTERS:,}, each once",
            field="indices",
        )


def check_count(images: int) -> None:
    """Raises RequestError where there is no image, or there are too many."""
    if not 1 <= images <= MAX_IMAGES:
        raise RequestError(
            f"the request has {images} images; accepted: 1 to {MAX_IMAGES}", field="images"
        )


def check_images(images: Sequence[bytes], fields: Sequence[str], *, max_bytes: int) -> None:
    """Refuses what need not travel to TorchServe to be refused.

    Args:
        images: Encoded.
        fields: What the caller calls each.
        max_bytes: Of each.

    Raises:
        RequestError: There is no image, or there are too many.
        ImageError: One is empty.
        TooLarge: One has too many bytes.
    """
    check_count(len(images))
    for image, field in zip(images, fields, strict=True):
        if not image:
            raise ImageError(f"{field} is empty; accepted: an encoded image", field=field)
        if len(image) > max_bytes:
            raise TooLarge(f"{field} is over the limit of {max_bytes:,} bytes", field=field)


def own_field(entry: str, fields: Sequence[str]) -> str:
    """What the caller calls what an error of TorchServe is about.

    Args:
        entry: The handler's name: ``image`` and ``image_2`` for the first two images.
        fields: What the caller calls each image.
    """
    match = _ENTRY.fullmatch(entry)
    number = int(match[1] or 1) if match else 0
    return fields[number - 1] if 1 <= number <= len(fields) else entry


def _fields(request: Any) -> dict[str, Any]:  # noqa: ANN401 - a message
    """A look-up in JSON form."""
    return dict(json_format.MessageToDict(request))
