"""The gRPC door of the companion: services, interceptors, limits, TLS."""

from dataclasses import dataclass
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lavise.errors import EnvironmentProblem
from lavise.v1 import bias_pb2, bias_pb2_grpc, explain_pb2, explain_pb2_grpc
from lavise_service.companion.assembly import Companion
from lavise_service.companion.bias_door import BiasDoor
from lavise_service.companion.explainer_door import ExplainerDoor
from lavise_service.companion.interceptors import Callers, Calls, Layers
from lavise_service.torchserve.config import MAX_MESSAGE_BYTES

EXPLAINER: Final = explain_pb2.DESCRIPTOR.services_by_name["Explainer"].full_name
BIAS: Final = bias_pb2.DESCRIPTOR.services_by_name["BiasComparison"].full_name
HEALTH: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# A call holds little before its message is read; this many wait for that at a time, at most.
_MOST_CALLS: Final = 4096
_OPTIONS: Final = (
    # A port that is taken is an error, not shared with whoever has it.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_concurrent_streams", 256),
    # Who connects and says nothing, or goes away without a word, is let go.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


@dataclass(frozen=True)
class GrpcDoor:
    """A gRPC server that is not started yet.

    Attributes:
        server: The server.
        port: Where it listens.
    """

    server: grpc.aio.Server
    port: int


def grpc_door(companion: Companion) -> GrpcDoor:
    """Builds the server and binds its port; call it inside the event loop.

    Raises:
        EnvironmentProblem: The address cannot be used.
    """
    settings = companion.settings
    slots = {
        f"/{EXPLAINER}/": companion.explains,
        f"/{BIAS}/UploadImageSet": companion.uploads,
        f"/{BIAS}/ImportImageSet": companion.uploads,
    }
    server = grpc.aio.server(
        interceptors=(
            Layers(
                Calls(companion.metrics, companion.in_flight),
                Callers(companion.tokens, companion.caller_limits),
                slots,
                idle_s=settings.max_upload_idle_s,
            ),
        ),
        options=(*_OPTIONS, ("grpc.max_receive_message_length", int(settings.max_request_bytes))),
        maximum_concurrent_rpcs=_MOST_CALLS,
    )
    explainer = ExplainerDoor(companion.upstream, max_image_bytes=settings.max_image_bytes)
    explain_pb2_grpc.add_ExplainerServicer_to_server(explainer, server)  # type: ignore[no-untyped-call]
    bias = BiasDoor(
        companion.image_sets,
        companion.comparisons,
        companion.uris,
        max_image_bytes=settings.max_image_bytes,
    )
    bias_pb2_grpc.add_BiasComparisonServicer_to_server(bias, server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(companion.readiness.servicer, server)
    reflection.enable_server_reflection((EXPLAINER, BIAS, HEALTH, reflection.SERVICE_NAME), server)
    return GrpcDoor(server, _bind(companion, server))


def _bind(companion: Companion, server: grpc.aio.Server) -> int:
    address = companion.settings.grpc_listen
    try:
        if companion.tls is None:
            return server.add_insecure_port(str(address))
        return server.add_secure_port(str(address), companion.tls.grpc_credentials())
    except RuntimeError as problem:
        raise EnvironmentProblem(
            f"gRPC cannot listen on {address}: {problem}. Stop what listens there, or set "
            "LAVISE_GRPC_LISTEN",
            field="LAVISE_GRPC_LISTEN",
        ) from problem
