"""``POST /v1/explain``, ``GET /v1/filters`` and ``GET /v1/model``: the Explainer over HTTP."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from lavise.errors import LaviseError
from lavise_service.companion.assembly import Companion
from lavise_service.companion.explainer_door import own_field
from lavise_service.companion.http.contract import answers, explain_body_schema
from lavise_service.companion.http.explain_body import JSON, ExplainBody, read_explain_body

_Index = Annotated[int, Field(ge=0, lt=2**31)]


def explain_routes(companion: Companion) -> APIRouter:
    """The routes that ask TorchServe."""
    routes = APIRouter(tags=["Explainer"])
    upstream, slots = companion.upstream, companion.explains

    @routes.post(
        "/v1/explain",
        summary="Words of the requested filters on each image",
        openapi_extra={"requestBody": explain_body_schema()},
        responses=answers("ExplainResponse", 400, 413, 415),
    )
    async def explain(request: Request) -> Response:
        with slots.one():
            body = await read_explain_body(
                request, max_image_bytes=companion.settings.max_image_bytes
            )
            try:
                answer = await upstream.explain_raw(body.images, body.options)
            except LaviseError as error:
                error.field = own_field(error.field, body.fields)
                raise
        return Response(_with_sources(answer, body), media_type=JSON)

    @routes.get(
        "/v1/filters",
        summary="What the catalog says of filters, page by page",
        responses=answers("DescribeFiltersResponse", 400),
    )
    async def filters(
        model: Annotated[str, Query(max_length=200)] = "",
        layer: Annotated[str, Query(max_length=200)] = "",
        indices: Annotated[list[_Index] | None, Query(max_length=1000)] = None,
        page_size: Annotated[int, Query(alias="pageSize", ge=0, le=1000)] = 0,
        page_token: Annotated[str, Query(alias="pageToken", max_length=200)] = "",
    ) -> Response:
        asked = {
            "model": model,
            "layer": layer,
            "indices": indices or [],
            "pageSize": page_size,
            "pageToken": page_token,
        }
        with slots.one():
            answer = await upstream.describe(asked)
        return Response(orjson.dumps(answer), media_type=JSON)

    @routes.get(
        "/v1/model",
        summary="What is loaded",
        responses=answers("GetModelResponse", 400),
    )
    async def model(model: Annotated[str, Query(max_length=200)] = "") -> Response:
        with slots.one():
            answer = await upstream.model({"model": model})
        return Response(orjson.dumps(answer), media_type=JSON)

    return routes


def _with_sources(answer: bytes, body: ExplainBody) -> bytes:
    """The answer, its images called as the caller calls them."""
    if not any(body.sources):
        return answer  # nothing to change: the text passes as it came
    parsed: dict[str, Any] = orjson.loads(answer)
    for image, source in zip(parsed["images"], body.sources, strict=True):
        image["source"] = source or image["source"]
    return orjson.dumps(parsed)
