"""The chart's TLS before a worker, run by haproxy on loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

HAPROXY: Final = Path("/usr/sbin/haproxy")
_FILES: Final = Path(__file__).parents[1] / "docker" / "helm" / "lavise" / "files"

needs_haproxy = pytest.mark.skipif(
    not HAPROXY.is_file(), reason="Debian's haproxy is not installed"
)


@dataclass(frozen=True)
class WorkerTls:
    """TLS before a TorchServe.

    Attributes:
        grpc: Where its gRPC is.
        metrics: Where its metrics are.
    """

    grpc: str
    metrics: str


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
    script, config = _FILES / "worker_tls.py", _FILES / "worker_tls.cfg"
    process = subprocess.Popen(
        [sys.executable, "-I", script, config, folder, "0.1"], env=environment
    )
    try:
        _wait(ours, process)
        yield WorkerTls(*ours)
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
