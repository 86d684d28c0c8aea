"""Every error of the HTTP door as problem+json (RFC 9457)."""

import math

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from lavise.errors import LaviseError, RequestError
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import (
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unauthenticated,
    http_status_of,
    problem_of,
    retry_after_s,
)

MEDIA_TYPE = "application/problem+json"


def problem_response(error: Exception, request_id: str) -> Response:
    """The answer that an error is.

    Args:
        error: Any; what is no LaviseError tells nothing of itself.
        request_id: What the log calls the request.
    """
    headers = {}
    wait = retry_after_s(error)
    if wait is not None:
        headers["retry-after"] = str(math.ceil(wait))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    return Response(
        orjson.dumps(problem_of(error, request_id)),
        http_status_of(error),
        headers,
        media_type=MEDIA_TYPE,
    )


def handle_errors(app: FastAPI, metrics: Metrics) -> None:
    """Makes the framework's own refusals LaviseErrors, so that one place answers them all.

    Args:
        app: Whose errors.
        metrics: Where those who are turned away are counted.
    """

    async def of_framework(request: Request, error: Exception) -> Response:
        meaning = _meaning(request, error)
        metrics.refused(meaning)
        return problem_response(meaning, request.scope["lavise.request_id"])

    for kind in (LaviseError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, of_framework)


def _meaning(request: Request, error: Exception) -> Exception:
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        return RequestError(f"{field}: {first['msg']}", field=field)
    if not isinstance(error, HTTPException):
        return error
    path = request.url.path
    if error.status_code == 404:
        return NotFound(f"nothing is at {path}; /docs lists what there is", field="path")
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(
            f"{path} takes no {request.method}; accepted: {allow}", field="method", allow=allow
        )
    if error.status_code == 413:
        return TooLarge(error.detail)
    return RequestError(error.detail) if error.status_code < 500 else error
