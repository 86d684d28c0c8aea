"""The HTTP application: routes, layers around them, and the OpenAPI page."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline

from lavise_service.companion.assembly import Companion
from lavise_service.companion.http.calls import Calls
from lavise_service.companion.http.comparisons import comparison_routes
from lavise_service.companion.http.contract import components, service_messages
from lavise_service.companion.http.errors import handle_errors
from lavise_service.companion.http.explain import explain_routes
from lavise_service.companion.http.image_sets import PATH as UPLOADS
from lavise_service.companion.http.image_sets import image_set_routes
from lavise_service.companion.http.layers import BoundedBodies, Callers
from lavise_service.companion.http.operations import operation_routes

_DESCRIPTION: Final = (
    "Tells, in words, what the filters of a vision network have learned, and how two sets of "
    "images differ. The same messages as gRPC's lavise.v1, as JSON."
)
_TOKEN: Final = {"type": "http", "scheme": "bearer"}


def http_app(companion: Companion) -> FastAPI:
    """Builds the application.

    Args:
        companion: What it asks.
    """
    settings = companion.settings
    app = FastAPIOffline(
        redoc_url=None,
        title="LaViSE",
        description=_DESCRIPTION,
        version="1",
        redirect_slashes=False,
        # The page must not ask a server elsewhere whether its schema is valid.
        swagger_ui_parameters={"validatorUrl": None},
    )
    for routes in (explain_routes, image_set_routes, comparison_routes, operation_routes):
        app.include_router(routes(companion))
    handle_errors(app, companion.metrics)
    _document(app, components(service_messages()))
    # The last one added is the outermost.
    app.add_middleware(
        BoundedBodies,
        max_bytes=settings.max_request_bytes,
        larger={UPLOADS: settings.max_archive_bytes},
        idle_s=settings.max_upload_idle_s,
    )
    app.add_middleware(Callers, tokens=companion.tokens, limits=companion.caller_limits)
    app.add_middleware(Calls, companion=companion)
    return app


def _document(app: FastAPI, schemas: dict[str, Any]) -> None:
    """Makes the OpenAPI page name the messages of the contract."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            made["components"] = {"schemas": schemas, "securitySchemes": {"token": _TOKEN}}
            # With a token or, where none are configured, without.
            made["security"] = [{"token": []}, {}]
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)  # FastAPI's own form; ours is 400
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way
