"""``/healthz``, ``/readyz`` and ``/metrics``: for those who run the companion."""

import orjson
from fastapi import APIRouter, Response

from lavise_service.companion.assembly import Companion
from lavise_service.companion.http.explain_body import JSON
from lavise_service.companion.metrics import CONTENT_TYPE


def operation_routes(companion: Companion) -> APIRouter:
    """The routes of operation."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz", summary="Whether the process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @routes.get(
        "/readyz",
        summary="Whether a real prediction works",
        responses={503: {"description": "It does not; reason says why"}},
    )
    async def readyz() -> Response:
        reason = companion.readiness.reason
        status = {"status": "not ready", "reason": reason} if reason else {"status": "ready"}
        return Response(orjson.dumps(status), 503 if reason else 200, media_type=JSON)

    @routes.get("/metrics", summary="For Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(companion.metrics.exposition(), headers={"content-type": CONTENT_TYPE})

    return routes
