"""What TorchServe is told: its ports, its config.properties, its command line."""

import contextlib
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from lavise.errors import EnvironmentProblem
from lavise_service.torchserve.java import Java

HOST = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only what a container is told to open to its network
# One limit each way, for a request and for each answer. 20 MiB of image are 27 MiB of base64.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

# The JVM waits on sockets and copies bytes: the simple collector and the first compiler tier
# leave the cores to the worker, and start faster.
_JVM_FLAGS = ("-Xms64m", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

# From Java 24 on, what Netty does at its start needs leave, or is warned of at length.
_JVM_FLAGS_24 = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow")


@dataclass(frozen=True)
class Ports:
    """TorchServe's five loopback ports; its usual ones by default."""

    rest: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc: int = 7070
    grpc_management: int = 7071

    @classmethod
    def free(cls) -> Self:
        """Returns five ports that nothing listens on."""
        names = [field.name for field in fields(cls)]
        with contextlib.ExitStack() as stack:
            # All are held until all are known, so that no number is given twice.
            sockets = [stack.enter_context(socket.socket()) for _ in names]
            for each in sockets:
                each.bind((HOST, 0))
            numbers = [each.getsockname()[1] for each in sockets]
        return cls(**dict(zip(names, numbers, strict=True)))

    def check(self) -> None:
        """Finds a taken port before Java meets it.

        Raises:
            EnvironmentProblem: If something listens on one of the ports, or it is not allowed.
        """
        for field in fields(self):
            port = getattr(self, field.name)
            with socket.socket() as probe:
                # As servers do: a port whose last connections are still closing is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except (OSError, OverflowError) as problem:
                    reason = getattr(problem, "strerror", None) or problem
                    raise EnvironmentProblem(
                        f"port {port} of {HOST} ({field.name}) cannot be used: {reason}. "
                        "Stop what listens there, or choose another port",
                        field=field.name,
                    ) from problem


def torchserve_home() -> Path:
    """Returns the directory that holds the package ``ts`` of TorchServe.

    Raises:
        EnvironmentProblem: If TorchServe is not installed.
    """
    spec = importlib.util.find_spec("ts")
    for place in (spec and spec.submodule_search_locations) or ():
        if (Path(place) / "frontend" / "model-server.jar").is_file():
            return Path(place).parent
    raise EnvironmentProblem(
        "TorchServe is not installed. Install it with: pip install 'lavise[serve]'", field="ts"
    )


def write_config(
    run_dir: Path,
    model_store: Path,
    models: Sequence[str],
    ports: Ports,
    *,
    exposed: Collection[str] = (),
) -> Path:
    """Writes what TorchServe reads at its start into ``run_dir``; returns config.properties.

    Args:
        run_dir: Where TorchServe works.
        model_store: The directory of the ``.mar`` files.
        models: Which to load, by name.
        ports: Where it listens.
        exposed: The doors that others than this machine reach, as ``Ports`` names them.
    """
    hosts = {field.name: EVERYWHERE if field.name in exposed else HOST for field in fields(Ports)}
    here = Path(__file__).parent
    for name in ("log4j2.xml", "metrics.yaml"):
        shutil.copyfile(here / name, run_dir / name)
    settings = {
        "model_store": model_store,
        "load_models": ",".join(f"{name}={name}.mar" for name in models),
        "inference_address": f"http://{hosts['rest']}:{ports.rest}",
        "management_address": f"http://{hosts['management']}:{ports.management}",
        "metrics_address": f"http://{hosts['metrics']}:{ports.metrics}",
        "grpc_inference_address": hosts["grpc"],
        "grpc_inference_port": ports.grpc,
        # A caller that connects anew looks the name up again, and finds new replicas.
        "grpc_inference_max_connection_age_ms": 30_000,
        "grpc_management_address": hosts["grpc_management"],
        "grpc_management_port": ports.grpc_management,
        # Nobody but this machine reaches it, and a token lives no longer than an hour.
        "disable_token_authorization": "true",
        "enable_model_api": "false",
        # KServe's door, on the port of gRPC: see handlers/lavise_open_inference.py.
        "ts_open_inference_protocol": "true",
        "allowed_urls": f"{model_store.as_uri()}/.*",
        "max_request_size": MAX_MESSAGE_BYTES,
        "max_response_size": MAX_MESSAGE_BYTES,
        # The handler parses JSON itself: faster, and its errors say what is wrong.
        "decode_input_request": "false",
        "metrics_mode": "prometheus",
        "metrics_config": run_dir / "metrics.yaml",
        # They start a Python process every minute to say what every node exporter knows.
        "disable_system_metrics": "true",
        "default_workers_per_model": 1,
        "number_of_netty_threads": 2,
        "netty_client_threads": 1,
    }
    path = run_dir / "config.properties"
    lines = [f"{key}={_escape(str(value))}\n" for key, value in settings.items()]
    path.write_text("".join(lines), encoding="ascii")
    return path


def java_command(java: Java, config: Path) -> list[str]:
    """Returns the command that is TorchServe, without the Python launcher around it."""
    home = torchserve_home()
    run_dir = config.parent
    return [
        str(java.path),
        *_JVM_FLAGS,
        *(_JVM_FLAGS_24 if java.version >= 24 else ()),
        f"-Dmodel_server_home={home}",
        f"-Dlog4j2.configurationFile={(run_dir / 'log4j2.xml').as_uri()}",
        f"-Djava.io.tmpdir={run_dir}",
        "-cp",
        str(home / "ts" / "frontend" / "*"),
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(config),
        "-ncs",
    ]


def environment(run_dir: Path) -> dict[str, str]:
    """Returns the environment of Java and, through it, of the workers."""
    # Variables named TS_... override the configuration file.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TS_")}
    places = dict.fromkeys(("TEMP", "TMPDIR", "LOG_LOCATION", "METRICS_LOCATION"), str(run_dir))
    # An answer above TorchServe's limit kills the worker: the handler must know it.
    return kept | places | {"LAVISE_MAX_RESPONSE_BYTES": str(MAX_MESSAGE_BYTES)}


def _escape(value: str) -> str:
    """Returns a value as java.util.Properties reads it: Latin-1 and backslash escapes."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))
    return "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)
