"""What every error is, at both doors."""

import inspect

import orjson
import pytest
from google.rpc import code_pb2, error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from lavise.errors import BundleError, EnvironmentProblem, ImageError, LaviseError
from lavise_service.companion import problems
from lavise_service.companion.problems import (
    AlreadyExists,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    code_of,
    http_status_of,
    problem_of,
    retry_after_s,
    status_of,
)
from tests.running_companion import detail


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (ImageError("x"), code_pb2.INVALID_ARGUMENT, 400),
        (problems.TooLarge("x"), code_pb2.INVALID_ARGUMENT, 413),
        (problems.UnsupportedMediaType("x"), code_pb2.INVALID_ARGUMENT, 415),
        (problems.MethodNotAllowed("x"), code_pb2.UNIMPLEMENTED, 405),
        (NotFound("x"), code_pb2.NOT_FOUND, 404),
        (AlreadyExists("x"), code_pb2.ALREADY_EXISTS, 409),
        (problems.NotReady("x"), code_pb2.FAILED_PRECONDITION, 409),
        (BundleError("x"), code_pb2.FAILED_PRECONDITION, 409),
        (Unauthenticated("x"), code_pb2.UNAUTHENTICATED, 401),
        (problems.PermissionDenied("x"), code_pb2.PERMISSION_DENIED, 403),
        (ResourceExhausted("x"), code_pb2.RESOURCE_EXHAUSTED, 429),
        (Unavailable("x"), code_pb2.UNAVAILABLE, 503),
        (EnvironmentProblem("x"), code_pb2.UNAVAILABLE, 503),
        (problems.DeadlineExceeded("x"), code_pb2.DEADLINE_EXCEEDED, 504),
        (problems.RequestTimeout("x"), code_pb2.DEADLINE_EXCEEDED, 408),
        (LaviseError("x"), code_pb2.INTERNAL, 500),
        (KeyError("x"), code_pb2.INTERNAL, 500),
    ],
)
def test_every_error_has_one_code_and_one_status(error: Exception, code: int, status: int) -> None:
    assert code_of(error) == status_of(error).code == code
    assert http_status_of(error) == problem_of(error, "r")["status"] == status


def test_no_class_is_forgotten() -> None:
    for name, kind in inspect.getmembers(problems, inspect.isclass):
        if issubclass(kind, LaviseError) and kind.__module__ == problems.__name__:
            assert code_of(kind("x")) != code_pb2.INTERNAL, name
            assert f"── {name} " in (problems.__doc__ or "")


def test_a_status_says_field_reason_and_when_to_come_again() -> None:
    status = status_of(Unavailable("no worker", field="torchserve", retry_after_s=2.5))
    [violation] = detail(status, error_details_pb2.BadRequest).field_violations
    assert (violation.field, violation.description) == ("torchserve", "no worker")
    info = detail(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == ("UNAVAILABLE", "lavise")
    assert detail(status, error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 2500


def test_only_what_passes_is_worth_trying_again() -> None:
    assert retry_after_s(ImageError("x")) is None
    assert retry_after_s(EnvironmentProblem("x")) == 1.0
    assert retry_after_s(ResourceExhausted("x", retry_after_s=3)) == 3


def test_a_problem_is_that_of_rfc_9457() -> None:
    assert problem_of(NotFound("no set 'a'", field="name"), "42") == {
        "type": "urn:lavise:problem:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "no set 'a'",
        "instance": "urn:lavise:request:42",
        "code": "NOT_FOUND",
        "reason": "NOT_FOUND",
        "requestId": "42",
        "fieldViolations": [{"field": "name", "description": "no set 'a'"}],
    }


def test_an_unforeseen_error_tells_nothing_of_itself() -> None:
    error = ValueError("password hunter2")
    assert b"hunter2" not in orjson.dumps(problem_of(error, "r"))
    assert "hunter2" not in str(status_of(error))


@given(st.text(st.characters(), min_size=0, max_size=5000), st.text(st.characters(), max_size=2000))
def test_texts_of_callers_fit_into_trailers(message: str, field: str) -> None:
    error = ImageError(message, field=field)
    status = status_of(error)
    # As it travels: percent-encoded in grpc-message, and in base64 in the details.
    assert 3 * len(status.message.encode()) + 4 * len(status.SerializeToString()) / 3 < 8000
    orjson.dumps(problem_of(error, "r"))
