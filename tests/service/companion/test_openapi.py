"""schemathesis asks all that the OpenAPI page describes: every answer is one that it describes."""

import io
import re
import time
import zipfile
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi

from lavise.client import Client
from lavise.v1.bias_pb2 import Comparison
from lavise_service.torchserve import TorchServe
from tests.running_companion import Running, running_companion
from tests.uploads import PICTURES

pytestmark = pytest.mark.server
OPERATIONS: Final = (
    *("POST /v1/explain", "GET /v1/filters", "GET /v1/model"),
    *("POST /v1/imageSets", "GET /v1/imageSets"),
    *("GET /v1/imageSets/{set_id}", "DELETE /v1/imageSets/{set_id}"),
    *("POST /v1/comparisons", "GET /v1/comparisons"),
    *("GET /v1/comparisons/{comparison_id}", "DELETE /v1/comparisons/{comparison_id}"),
    "GET /v1/comparisons/{comparison_id}/report.html",
    *("GET /healthz", "GET /readyz", "GET /metrics"),
)
# Any path is one, and some take nothing else: those requests cannot be wrong.
MODES: Final = [
    (label, mode)
    for label in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or not re.search(r"\{|/[a-z]+z$|/metrics", label)
]
CHECKS: Final = [
    checks.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.unsupported_method,
    openapi.negative_data_rejection,
    openapi.missing_required_header,
]
asking = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def companion(shared_torchserve: TorchServe) -> Iterator[Running]:
    with running_companion(shared_torchserve.grpc_target) as running:
        yield running


@pytest.fixture(scope="module")
def api(companion: Running) -> Any:
    return schemathesis.openapi.from_url(f"{companion.url}/openapi.json")


def test_all_operations_are_asked(api: Any) -> None:
    described = [one.ok() for one in api.get_all_operations()]
    assert {one.label for one in described} == set(OPERATIONS)


@pytest.mark.parametrize(("label", "mode"), MODES)
def test_every_answer_is_described(api: Any, label: str, mode: GenerationMode) -> None:
    method, path = label.split()

    @asking
    @given(api[path][method].as_strategy(mode))
    def ask(case: Any) -> None:
        assume(not _is_sent_as_something_else(case))
        case.call_and_validate(checks=CHECKS)

    ask()


def _is_sent_as_something_else(case: Any) -> bool:
    """A list in a form is its items, one entry each: none of them where it is empty."""
    form = case.media_type == "multipart/form-data" and isinstance(case.body, dict)
    return form and any(isinstance(value, list) for value in case.body.values())


def test_every_success_is_described(api: Any, companion: Running) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in PICTURES[:4]:
            archive.writestr(name, content)

    def asked(label: str, **parts: Any) -> Any:
        method, path = label.split()
        answer = api[path][method].Case(**parts).call_and_validate(checks=CHECKS)
        assert answer.status_code in {200, 201, 202, 204}, answer.text
        done.add(label)
        return answer

    done = set[str]()
    raw = "application/octet-stream"
    asked("POST /v1/explain", body=PICTURES[0][1], media_type=raw)
    zipped: Any = {"body": buffer.getvalue(), "media_type": raw}
    options = {"displayName": "A", "thumbnails": "true"}
    a, b = (asked("POST /v1/imageSets", query=options, **zipped).json()["name"] for _ in "ab")
    body = {"imageSetA": a, "imageSetB": b, "permutations": 100, "seed": "5"}
    made = asked("POST /v1/comparisons", body=body, media_type="application/json").json()["name"]
    with Client(str(companion.doors.grpc)) as client:
        deadline = time.monotonic() + 20
        while client.comparison(made).state == Comparison.STATE_RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    there = {"set_id": a.partition("/")[2], "comparison_id": made.partition("/")[2]}
    for label in sorted(OPERATIONS, key=lambda label: label.startswith("DELETE")):
        if not label.startswith("POST"):
            names = re.findall(r"\{(\w+)\}", label)
            asked(label, path_parameters={name: there[name] for name in names})
    assert done == set(OPERATIONS)
