"""``/v1/imageSets``: image sets over HTTP, from a form, an archive, or a URI."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request, Response

from lavise.errors import RequestError
from lavise.messages import message_dict
from lavise.v1.bias_pb2 import ImageSet, ImageSetMetadata
from lavise_service.companion.archive_entries import ArchiveLimits
from lavise_service.companion.archives import receive_archive
from lavise_service.companion.assembly import Companion
from lavise_service.companion.http.contract import Schema, answers
from lavise_service.companion.http.explain_body import FORM, JSON
from lavise_service.companion.http.short_body import short_body
from lavise_service.companion.http.upload_form import FileForm
from lavise_service.companion.problems import UnsupportedMediaType

PATH: Final = "/v1/imageSets"
_ARCHIVES: Final = (
    "application/zip",
    "application/x-tar",
    "application/gzip",
    "application/x-gzip",
    "application/x-bzip2",
    "application/x-xz",
    "application/octet-stream",
)
_Text = Query(max_length=1000)
_Page = Annotated[int, Query(alias="pageSize", ge=0, le=1000)]
_Token = Annotated[str, Query(alias="pageToken", max_length=256)]


def image_set_routes(companion: Companion) -> APIRouter:
    """The routes of image sets."""
    routes = APIRouter(tags=["Image sets"])
    sets = companion.image_sets

    @routes.post(
        PATH,
        status_code=201,
        summary="Makes an image set of the files of a form, of an archive, or of a URI",
        openapi_extra={"requestBody": _body_schema()},
        responses=answers("ImageSet", 400, 403, 409, 413, 415, status=201),
    )
    async def create(
        request: Request,
        name: Annotated[str, _Text] = "",
        display_name: Annotated[str, Query(alias="displayName", max_length=1000)] = "",
        layer: Annotated[str, _Text] = "",
        model: Annotated[str, _Text] = "",
        thumbnails: Annotated[bool, Query()] = False,  # noqa: FBT002 - FastAPI calls it by name
    ) -> Response:
        about = ImageSetMetadata(
            name=name,
            display_name=display_name,
            layer=layer,
            model=model,
            thumbnails=thumbnails,
        )
        with companion.uploads.one():
            async with aclosing(_images(request, companion)) as images:
                made = await sets.take_in(about, images)
        return _answer(made, status=201, location=f"/v1/{made.name}")

    @routes.get(
        PATH,
        summary="The image sets, newest first",
        responses=answers("ListImageSetsResponse", 400),
    )
    async def list_sets(page_size: _Page = 0, page_token: _Token = "") -> Response:
        shown, token = await sets.list(page_size, page_token)
        return Response(await asyncio.to_thread(_page_of, shown, token), media_type=JSON)

    @routes.get(
        f"{PATH}/{{set_id}}",
        summary="What is known of an image set",
        responses=answers("ImageSet", 400, 404),
    )
    async def get(set_id: str) -> Response:
        return _answer(await sets.get(f"imageSets/{set_id}"))

    @routes.delete(
        f"{PATH}/{{set_id}}",
        status_code=204,
        summary="Removes everything of an image set",
        responses=answers("", 400, 404, status=204),
    )
    async def delete(set_id: str) -> Response:
        await sets.delete(f"imageSets/{set_id}")
        return Response(status_code=204)

    return routes


async def _images(
    request: Request, companion: Companion
) -> AsyncGenerator[tuple[str, bytes], None]:
    """The images of a request's body, by its kind."""
    settings = companion.settings
    whole = request.headers.get("content-type", "application/octet-stream")
    kind = whole.partition(";")[0].strip().lower()
    if kind == FORM:
        form = FileForm(whole, settings.max_image_bytes)
        async for image in form.files(request.stream()):
            yield image
    elif kind == JSON:
        uri = _uri(await short_body(request))
        async with aclosing(companion.uris.images(uri)) as images:
            async for image in images:
                yield image
    elif kind in _ARCHIVES:
        limits = ArchiveLimits.of(settings)
        async with receive_archive(request.stream(), limits) as archive:
            async for image in archive.images():
                yield image
    else:
        raise UnsupportedMediaType(
            f"a body of type {kind} is not read here; accepted: {FORM} with image files, "
            f"{', '.join(_ARCHIVES)}, or {JSON} with a uri",
            field="content-type",
        )


def _uri(body: bytes) -> str:
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise RequestError(f"body is no JSON: {problem}", field="body") from problem
    if not isinstance(read, dict) or read.keys() != {"uri"} or not isinstance(read["uri"], str):
        raise RequestError('accepted: {"uri": "file:///..."}', field="uri")
    uri: str = read["uri"]
    return uri


def _page_of(shown: Iterable[ImageSet], token: str) -> bytes:
    found = [message_dict(one) for one in shown]
    return orjson.dumps({"imageSets": found, "nextPageToken": token})


def _answer(image_set: ImageSet, *, status: int = 200, location: str = "") -> Response:
    headers = {"location": location} if location else {}
    content = orjson.dumps(message_dict(image_set))
    return Response(content, status_code=status, media_type=JSON, headers=headers)


def _body_schema() -> Schema:
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"image": {"type": "array", "items": file}}}
    uri = {"type": "object", "required": ["uri"], "properties": {"uri": {"type": "string"}}}
    kinds: dict[str, Any] = {FORM: {"schema": form}, JSON: {"schema": uri}}
    return {"required": True, "content": kinds | {kind: {"schema": file} for kind in _ARCHIVES}}
