"""The chart's TLS before a worker, run by haproxy on loopback."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

HAPROXY: Final = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
_CONFIG: Final = (
    Path(__file__).parents[1] / "docker" / "helm" / "lavise" / "files" / "worker_tls.cfg"
)

needs_haproxy = pytest.mark.skipif(not HAPROXY, reason="Debian's haproxy is not installed")


@dataclass
class WorkerTls:
    """TLS before a TorchServe.

    Attributes:
        grpc: Where its gRPC is.
        metrics: Where its metrics are.
        process: The master, whose signals reload it.
    """

    grpc: str
    metrics: str
    process: "subprocess.Popen[bytes]"


@contextmanager
def worker_tls(
    folder: Path, *, client: str, grpc_port: int, metrics_port: int
) -> Iterator[WorkerTls]:
    """Runs it until the block ends.

    Args:
        folder: Of its certificates.
        client: The common name that is let in.
        grpc_port: Of TorchServe.
        metrics_port: Likewise.
    """
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ours = [f"127.0.0.1:{one.getsockname()[1]}" for one in free]
    for one in free:
        one.close()
    environment = {
        "LAVISE_TLS": str(folder),
        "LAVISE_TLS_CLIENT": client,
        "LAVISE_TLS_GRPC": ours[0],
        "LAVISE_TLS_METRICS": ours[1],
        "LAVISE_TLS_TO_GRPC": f"127.0.0.1:{grpc_port}",
        "LAVISE_TLS_TO_METRICS": f"127.0.0.1:{metrics_port}",
    }
    process = subprocess.Popen([HAPROXY, "-W", "-db", "-f", _CONFIG], env=environment)
    try:
        _wait(ours, process)
        yield WorkerTls(*ours, process)
    finally:
        process.terminate()
        process.wait(10)


def _wait(addresses: list[str], process: "subprocess.Popen[bytes]") -> None:
    ends = time.monotonic() + 10
    for address in addresses:
        host, port = address.split(":")
        while True:
            assert process.poll() is None, "haproxy ended"
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < ends
                time.sleep(0.02)
