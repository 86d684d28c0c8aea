"""``/v1/comparisons``: comparisons over HTTP, and their pages."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Query, Request, Response

from lavise.messages import message_dict, parse_message
from lavise.v1.bias_pb2 import CompareRequest, Comparison
from lavise_service.companion.assembly import Companion
from lavise_service.companion.http.contract import answers, body_schema
from lavise_service.companion.http.explain_body import JSON
from lavise_service.companion.http.short_body import short_body
from lavise_service.companion.pages import report_page

PATH: Final = "/v1/comparisons"
# The page has a policy of its own, for when it is saved; this one is for whoever frames it.
_PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'none'",
    "cache-control": "private, no-store",
}
_Page = Annotated[int, Query(alias="pageSize", ge=0, le=1000)]
_Token = Annotated[str, Query(alias="pageToken", max_length=256)]


def comparison_routes(companion: Companion) -> APIRouter:
    """The routes of comparisons."""
    routes = APIRouter(tags=["Comparisons"])
    comparisons = companion.comparisons

    @routes.post(
        PATH,
        status_code=202,
        summary="Begins a comparison; GET says how far it is",
        openapi_extra={"requestBody": body_schema("CompareRequest")},
        responses=answers("Comparison", 400, 404, 409, 413, status=202),
    )
    async def create(request: Request) -> Response:
        asked = parse_message(await short_body(request), CompareRequest())
        begun = await comparisons.start(asked)
        return _answer(begun, status=202, location=f"/v1/{begun.name}")

    @routes.get(
        PATH,
        summary="The comparisons without their reports, newest first",
        responses=answers("ListComparisonsResponse", 400),
    )
    async def list_comparisons(page_size: _Page = 0, page_token: _Token = "") -> Response:
        shown, token = await comparisons.list(page_size, page_token)
        return Response(await asyncio.to_thread(_page_of, shown, token), media_type=JSON)

    @routes.get(
        f"{PATH}/{{comparison_id}}",
        summary="A comparison, with its report once it is done",
        responses=answers("Comparison", 400, 404),
    )
    async def get(comparison_id: str) -> Response:
        found = await comparisons.get(f"comparisons/{comparison_id}")
        return await asyncio.to_thread(_answer, found)  # a report takes tens of milliseconds

    @routes.get(
        f"{PATH}/{{comparison_id}}/report.html",
        summary="The report as one page",
        responses=answers("", 400, 404, 409, media_type="text/html"),
    )
    async def page(comparison_id: str) -> Response:
        with companion.pages.one():
            found = await comparisons.get(f"comparisons/{comparison_id}")
            text = await report_page(found, companion.store, companion.upstream)
        return Response(text, media_type="text/html", headers=_PAGE_HEADERS)

    @routes.delete(
        f"{PATH}/{{comparison_id}}",
        status_code=204,
        summary="Removes a comparison; one that is worked on is given up",
        responses=answers("", 400, 404, status=204),
    )
    async def delete(comparison_id: str) -> Response:
        await comparisons.delete(f"comparisons/{comparison_id}")
        return Response(status_code=204)

    return routes


def _page_of(shown: Iterable[Comparison], token: str) -> bytes:
    found = [message_dict(one) for one in shown]
    return orjson.dumps({"comparisons": found, "nextPageToken": token})


def _answer(comparison: Comparison, *, status: int = 200, location: str = "") -> Response:
    headers = {"location": location} if location else {}
    content = orjson.dumps(message_dict(comparison))
    return Response(content, status_code=status, media_type=JSON, headers=headers)
