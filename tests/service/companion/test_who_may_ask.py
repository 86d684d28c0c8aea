"""No door opens without a valid token: every gRPC method, every HTTP route, but for health."""

import re
from collections.abc import Iterator
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from lavise.v1 import bias_pb2, explain_pb2
from tests.false_torchserve import FalseTorchServe
from tests.running_companion import Running, detail, running_companion, told

GOOD: Final = "g" * 32
EXPIRED: Final = "e" * 32
REFUSED: Final = {
    "missing": {},
    "wrong": {"authorization": f"Bearer {'w' * 32}"},
    "expired": {"authorization": f"Bearer {EXPIRED}"},
    "almost right": {"authorization": f"Bearer {GOOD[:-1]}"},
    "in another scheme": {"authorization": f"Basic {GOOD}"},
    "in another header": {"x-authorization": f"Bearer {GOOD}"},
}
METHODS: Final = [
    method
    for file in (explain_pb2, bias_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
OPEN: Final = {"/healthz", "/readyz"}


@pytest.fixture(scope="module")
def companion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"ann {GOOD}\nbob {EXPIRED} 2020-01-01\n")
    tokens.chmod(0o600)
    with (
        FalseTorchServe() as server,
        running_companion(server.target, tokens_file=tokens) as running,
    ):
        yield running


def refusal(
    companion: Running, method: MethodDescriptor, headers: dict[str, str]
) -> grpc.RpcError | None:
    """How a call ends whose one message sets nothing; None where it is answered."""
    kinds = ("stream" if s else "unary" for s in (method.client_streaming, method.server_streaming))
    make = getattr(companion.channel, "_".join(kinds))
    path = f"/{method.containing_service.full_name}/{method.name}"
    asked: Any = iter([b""]) if method.client_streaming else b""
    try:
        answer = make(path)(asked, metadata=tuple(headers.items()), timeout=20)
        if method.server_streaming:
            list(answer)
    except grpc.RpcError as problem:
        return problem
    return None


@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_grpc_without_a_valid_token(companion: Running, method: MethodDescriptor, how: str) -> None:
    refused = refusal(companion, method, REFUSED[how])
    assert refused is not None
    status = told(refused)
    assert status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]
    assert status.message.startswith("a valid token is needed")
    assert detail(status, error_details_pb2.ErrorInfo).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_grpc_with_a_token(companion: Running, method: MethodDescriptor) -> None:
    refused = refusal(companion, method, {"authorization": f"Bearer {GOOD}"})
    if refused is not None:
        assert told(refused).code != grpc.StatusCode.UNAUTHENTICATED.value[0]


def test_grpc_health_is_open(companion: Running) -> None:
    stub: Any = health_pb2_grpc.HealthStub(companion.channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status
    watched = stub.Watch(health_pb2.HealthCheckRequest())
    assert next(watched).status
    watched.cancel()


@pytest.fixture(scope="module")
def routes(companion: Running) -> list[tuple[str, str]]:
    """Method and path of everything that HTTP answers."""
    given = {"authorization": f"Bearer {GOOD}"}
    page = companion.http.get("/docs", headers=given)
    schema = companion.http.get("/openapi.json", headers=given).json()
    listed = [
        (method.upper(), re.sub(r"\{\w+\}", "x", path))
        for path, operations in schema["paths"].items()
        for method in operations
    ]
    assets = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
    assert len(listed) > 10
    assert assets
    others = ["/docs", "/openapi.json", "/nothing", *assets]
    return [*listed, *(("GET", path) for path in others)]


@pytest.mark.parametrize("how", REFUSED)
def test_http_without_a_valid_token(
    companion: Running, routes: list[tuple[str, str]], how: str
) -> None:
    for method, path in routes:
        answer = companion.http.request(method, path, headers=REFUSED[how])
        if path in OPEN:
            assert answer.status_code in {200, 503}
        else:
            assert (method, path, answer.status_code) == (method, path, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["detail"].startswith("a valid token is needed")


def test_http_with_a_token(companion: Running, routes: list[tuple[str, str]]) -> None:
    for method, path in routes:
        headers = {"authorization": f"Bearer {GOOD}"}
        answer = companion.http.request(method, path, headers=headers)
        assert answer.status_code != 401
