"""What the companion's doors say when something is wrong: one table for gRPC and for HTTP.

LaviseError              the library's own classes: see lavise.errors
├── NotFound             no such image set, comparison, filter page, or path
├── AlreadyExists        the name is taken
├── NotReady             the thing is there, but not in a state for this (FAILED_PRECONDITION)
├── Unauthenticated      no token, a wrong one, or an expired one
├── PermissionDenied     known, and not allowed: a URI outside the allow-list
├── ResourceExhausted    too many calls at once, or no room; says when to try again
├── Unavailable          TorchServe is not there just now; says when to try again
├── DeadlineExceeded     the answer did not come in the time that the caller gave
├── RequestTimeout       the caller did not send its request in time
├── MethodNotAllowed     the path takes another HTTP method (an InputError)
├── TooLarge             more bytes than the door takes (an InputError)
└── UnsupportedMediaType a body of a kind that the door does not read (an InputError)

A door never decides what an error is worth: it asks ``code_of``, ``status_of`` or
``problem_of``. What was not raised on purpose is INTERNAL, without a word of what it was.
Sources: https://google.aip.dev/193 for the details, RFC 9457 for problem+json.
"""

from typing import Any, Final, Literal, TypeAlias, get_args

from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lavise.errors import BundleError, EnvironmentProblem, InputError, LaviseError
from lavise.messages import error_status

DOMAIN: Final = "lavise"
Limit: TypeAlias = Literal["concurrency", "rate", "store"]
# Bytes. The message travels three times: in grpc-message (percent-encoded), and in the details.
_LONGEST_MESSAGE: Final = 1000


class NotFound(LaviseError):  # noqa: N818 - the names of google.rpc.Code
    """Nothing has this name."""


class AlreadyExists(LaviseError):  # noqa: N818
    """The name is taken."""


class NotReady(LaviseError):  # noqa: N818
    """What was named is not in a state for this; changing that state helps, sending again not."""


class Unauthenticated(LaviseError):  # noqa: N818
    """The call carries no token, a wrong one, or an expired one."""


class PermissionDenied(LaviseError):  # noqa: N818
    """The caller is known, and may not do this."""


class Unavailable(LaviseError):  # noqa: N818
    """What the answer needs is not there just now; the same call may succeed later.

    Args:
        message: What is missing.
        field: What the error is about.
        retry_after_s: Seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, field: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, field=field)
        self.retry_after_s = retry_after_s


class ResourceExhausted(Unavailable):
    """A limit is reached: calls at once, or room in the store; trying again later may help.

    Args:
        message: Which limit, and what is accepted.
        field: What the error is about.
        retry_after_s: Seconds after which trying again makes sense.
        limit: What metrics call it.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_after_s: float = 1.0,
        limit: Limit = "concurrency",
    ) -> None:
        super().__init__(message, field=field, retry_after_s=retry_after_s)
        self.limit = limit


class DeadlineExceeded(LaviseError):  # noqa: N818
    """The time that the caller gave is over."""


class RequestTimeout(LaviseError):  # noqa: N818
    """The caller did not send its request in time."""


class MethodNotAllowed(InputError):  # noqa: N818
    """The path is there, and takes another HTTP method.

    Args:
        message: What was sent.
        field: What the error is about.
        allow: The methods that it takes, as the header ``Allow`` lists them.
    """

    def __init__(self, message: str, *, field: str = "", allow: str = "") -> None:
        super().__init__(message, field=field)
        self.allow = allow


class TooLarge(InputError):  # noqa: N818
    """The request has more bytes than the door takes."""


class UnsupportedMediaType(InputError):  # noqa: N818
    """The body is of a kind that the door does not read."""


# The first row that an error is an instance of: google.rpc code, HTTP status, title.
_TABLE: Final = (
    (TooLarge, code_pb2.INVALID_ARGUMENT, 413, "The request is too large"),
    (MethodNotAllowed, code_pb2.UNIMPLEMENTED, 405, "Another method is wanted here"),
    (UnsupportedMediaType, code_pb2.INVALID_ARGUMENT, 415, "This kind of body is not read here"),
    (InputError, code_pb2.INVALID_ARGUMENT, 400, "The request is not valid"),
    (NotFound, code_pb2.NOT_FOUND, 404, "Not found"),
    (AlreadyExists, code_pb2.ALREADY_EXISTS, 409, "The name is taken"),
    (NotReady, code_pb2.FAILED_PRECONDITION, 409, "Not ready for this"),
    (BundleError, code_pb2.FAILED_PRECONDITION, 409, "The bundle does not allow this"),
    (Unauthenticated, code_pb2.UNAUTHENTICATED, 401, "A valid token is needed"),
    (PermissionDenied, code_pb2.PERMISSION_DENIED, 403, "Not allowed"),
    (ResourceExhausted, code_pb2.RESOURCE_EXHAUSTED, 429, "A limit is reached"),
    (Unavailable, code_pb2.UNAVAILABLE, 503, "Not available at the moment"),
    (EnvironmentProblem, code_pb2.UNAVAILABLE, 503, "Not available at the moment"),
    (DeadlineExceeded, code_pb2.DEADLINE_EXCEEDED, 504, "The time is over"),
    (RequestTimeout, code_pb2.DEADLINE_EXCEEDED, 408, "The request came too slowly"),
)
_INTERNAL: Final = (Exception, code_pb2.INTERNAL, 500, "Internal error")
# What metrics call those who are turned away by a rule of the door, and by none of the method.
_REFUSALS: Final = (
    (Unauthenticated, "unauthenticated"),
    (PermissionDenied, "permission"),
    (TooLarge, "size"),
    (RequestTimeout, "slow"),
)
REFUSALS: Final = (*(reason for _, reason in _REFUSALS), *get_args(Limit))
"""Every reason that ``refusal_of`` gives."""


def code_of(error: BaseException) -> int:
    """The google.rpc code of an error; its numbers are those of ``grpc.StatusCode``."""
    return int(_row(error)[1])


def http_status_of(error: BaseException) -> int:
    """The HTTP status of an error."""
    return _row(error)[2]


def refusal_of(error: BaseException) -> str | None:
    """Why a call was turned away, one of ``REFUSALS``; None where it was not."""
    if isinstance(error, ResourceExhausted):
        return error.limit
    return next((reason for kind, reason in _REFUSALS if isinstance(error, kind)), None)


def retry_after_s(error: BaseException) -> float | None:
    """Seconds after which trying again makes sense; None where it does not."""
    if isinstance(error, Unavailable):
        return error.retry_after_s
    return 1.0 if isinstance(error, EnvironmentProblem) else None


def status_of(error: Exception) -> status_pb2.Status:
    """The google.rpc.Status of an error, for gRPC and for errors inside answers.

    Args:
        error: Any; what is no LaviseError tells nothing of itself.

    Returns:
        Code and message; a BadRequest detail where the error is about a field, an ErrorInfo with
        the name of the class, and a RetryInfo where trying again makes sense.
    """
    status = error_status(_shortened(error))
    status.code = code_of(error)
    info = error_details_pb2.ErrorInfo(reason=_reason(error), domain=DOMAIN)
    status.details.add().Pack(info)
    wait = retry_after_s(error)
    if wait is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(wait * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def problem_of(error: Exception, request_id: str) -> dict[str, Any]:
    """The problem+json body of an error (RFC 9457).

    Args:
        error: Any; what is no LaviseError tells nothing of itself.
        request_id: What the log calls the request.

    Returns:
        What orjson can write; ``code`` and ``reason`` are what gRPC would say.
    """
    _, code, http_status, title = _row(error)
    status = error_status(_shortened(error))
    problem: dict[str, Any] = {
        "type": f"urn:lavise:problem:{_reason(error).lower().replace('_', '-')}",
        "title": title,
        "status": http_status,
        "detail": status.message,
        "instance": f"urn:lavise:request:{request_id}",
        "code": code_pb2.Code.Name(code),
        "reason": _reason(error),
        "requestId": request_id,
    }
    bad = error_details_pb2.BadRequest()
    if status.details and status.details[0].Unpack(bad):
        problem["fieldViolations"] = [
            {"field": each.field, "description": each.description} for each in bad.field_violations
        ]
    wait = retry_after_s(error)
    if wait is not None:
        problem["retryAfterSeconds"] = wait
    return problem


def _row(error: BaseException) -> tuple[type[Exception], int, int, str]:
    return next((row for row in _TABLE if isinstance(error, row[0])), _INTERNAL)


def _shortened(error: Exception) -> Exception:
    """An error whose texts fit into gRPC's trailers (8 KiB in all), whatever the caller wrote."""
    if not isinstance(error, LaviseError):
        return error
    return LaviseError(_cut(error.message, _LONGEST_MESSAGE), field=_cut(error.field, 200))


def _cut(text: str, longest: int) -> str:
    """A text without its middle where its UTF-8 has more bytes than ``longest``."""
    data = text.encode("utf-8", "replace")
    if len(data) <= longest:
        return data.decode()
    head, tail = data[: longest * 2 // 3], data[-longest // 4 :]
    return f"{head.decode('utf-8', 'ignore')} ... {tail.decode('utf-8', 'ignore')}"


def _reason(error: BaseException) -> str:
    """The class's name as ErrorInfo spells reasons: NOT_FOUND, IMAGE_ERROR."""
    if not isinstance(error, LaviseError):
        return "INTERNAL"
    name = type(error).__name__
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper()
