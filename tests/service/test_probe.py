"""What the images' HEALTHCHECK asks, and whom it believes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
import trustme

from lavise_service import probe
from tests.false_torchserve import FalseTorchServe, failing, well
from tests.running_companion import running_doors, settings_for


@contextmanager
def management(states: dict[str, list[str]]) -> Iterator[int]:
    """TorchServe's management door, with models whose workers are in these states."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = self.path.removeprefix("/models/")
            workers = [{"status": state} for state in states.get(model, [])]
            self.send_response(200 if model in states else 404)
            self.end_headers()
            self.wfile.write(json.dumps([{"modelName": model, "workers": workers}]).encode())

        def log_message(self, *_: object) -> None:
            """Not into the tests' output."""

    with HTTPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def wait_until_of_use(variables: dict[str, str]) -> None:
    """Asks again until the companion has seen a prediction work."""
    deadline = time.monotonic() + 20
    while reason := probe.companion(variables):
        assert time.monotonic() < deadline, reason
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        ({"a": ["READY"], "b": ["UNLOADING", "READY"]}, ""),
        ({"a": ["READY"], "b": ["LOADING"]}, "no worker is ready: b"),
        ({"a": [], "b": ["READY"]}, "no worker is ready: a"),
        ({"b": ["READY"]}, "no worker is ready: a"),  # of the store, but not loaded
    ],
)
def test_a_worker_is_of_use_when_every_model_is_ready(
    tmp_path: Path, states: dict[str, list[str]], reason: str
) -> None:
    for name in ("a.mar", "b.mar"):
        (tmp_path / name).touch()
    with management(states) as port:
        assert probe.worker({"LAVISE_MODEL_STORE": str(tmp_path)}, port=port) == reason


def test_an_empty_store_is_of_no_use(tmp_path: Path) -> None:
    assert "holds no .mar file" in probe.worker({"LAVISE_MODEL_STORE": str(tmp_path)}, port=1)


def test_a_program_says_so_by_its_exit_status() -> None:
    command = [sys.executable, "-I", "-m", "lavise_service.probe", "companion"]
    variables = {"LAVISE_HTTP_LISTEN": "0.0.0.0:1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_a_companion_is_of_use_when_predictions_work() -> None:
    broken = failing(grpc.StatusCode.INTERNAL)
    with FalseTorchServe(broken) as server, running_doors(settings_for(server.target)) as doors:
        variables = {"LAVISE_HTTP_LISTEN": str(doors.http)}
        assert probe.companion(variables).startswith("/readyz: 503")
        server.behave = well
        wait_until_of_use(variables)


def test_a_companion_that_wants_certificates_gets_one(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    cert = ca.issue_cert("localhost")
    cert.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.crt"))
    cert.private_key_pem.write_to_path(str(tmp_path / "tls.key"))
    settings = {
        "tls_cert": tmp_path / "tls.crt",
        "tls_key": tmp_path / "tls.key",
        "tls_client_ca": tmp_path / "ca.crt",
    }
    with (
        FalseTorchServe() as server,
        running_doors(settings_for(server.target, **settings)) as doors,
    ):
        variables = {
            "LAVISE_HTTP_LISTEN": str(doors.http),
            "LAVISE_TLS_CERT": str(settings["tls_cert"]),
        }
        with pytest.raises(OSError, match="closed"):
            probe.companion(variables)
        variables["LAVISE_TLS_CLIENT_CA"] = str(settings["tls_client_ca"])
        assert "set LAVISE_PROBE_CERTIFICATE" in probe.companion(variables)
        wait_until_of_use(variables | {"LAVISE_PROBE_CERTIFICATE": str(tmp_path)})
