"""An S3 server of the test's own: moto's, on a loopback port, with an empty bucket."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow.fs as pafs

BUCKET: Final = "pictures"
REGION: Final = "us-east-1"
KEYS: Final = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}


@contextmanager
def s3_server() -> Iterator[str]:
    """Starts the server; yields its endpoint, and stops it. Credentials are KEYS."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from moto.server import main; main()"]
    process = subprocess.Popen(
        [*command, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | KEYS,
    )
    try:
        _wait(process, port)
        pafs.S3FileSystem(
            access_key="key",
            secret_key="secret",  # noqa: S106 - moto takes any
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            region=REGION,
            allow_bucket_creation=True,
        ).create_dir(BUCKET)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        assert process.poll() is None, "moto's server ended"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"moto's server does not listen on port {port}")
