"""The programs that the Helm chart brings along, against what they ask in earnest."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
import trustme
import yaml

from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.torchserve import TorchServe
from tests.false_torchserve import FalseTorchServe
from tests.helm_chart import CHART, ROOT
from tests.running_companion import running_doors, settings_for
from tests.s3_server import BUCKET, KEYS, REGION, s3_server

FILES = CHART / "files"


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Runs a script as a pod does."""
    command = [sys.executable, "-I", str(FILES / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority, and folders of certificates as pods have them of Secrets."""
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    for name, authority in (("server", ca), ("probe", ca), ("stranger", other)):
        (tmp_path / name).mkdir()
        cert = authority.issue_cert("lavise-companion")
        chain = b"".join(blob.bytes() for blob in cert.cert_chain_pems)
        (tmp_path / name / "tls.crt").write_bytes(chain)
        cert.private_key_pem.write_to_path(str(tmp_path / name / "tls.key"))
    return tmp_path


def test_the_probe_of_the_companion_gets_past_mtls_and_tells_the_truth(certificates: Path) -> None:
    with FalseTorchServe() as server:
        settings = settings_for(
            server.target,
            tls_cert=certificates / "server" / "tls.crt",
            tls_key=certificates / "server" / "tls.key",
            tls_client_ca=certificates / "ca.crt",
        )
        with running_doors(settings) as doors:

            def probe(path: str, certificate: str = "probe") -> "subprocess.CompletedProcess[str]":
                folder = certificates / certificate
                return run("companion_probe.py", doors.http.port, folder, path)

            assert probe("/healthz").returncode == 0
            assert eventually(lambda: probe("/readyz").returncode == 0)
            server.__exit__(None, None, None)
            assert eventually(lambda: "/readyz: 503" in probe("/readyz").stderr)
            assert probe("/readyz").returncode == 1
            assert probe("/healthz").returncode == 0
            assert probe("/healthz", "stranger").returncode == 1


@pytest.fixture(scope="module")
def torchserve(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    model_store = tmp_path_factory.mktemp("store")
    write_archive(tiny_bundle, model_store, config=WorkerConfig(threads=1))
    with TorchServe(model_store) as running:
        yield running


@pytest.mark.server
def test_the_probe_of_the_worker_knows_a_dead_one(torchserve: TorchServe) -> None:
    port = torchserve.ports.management

    def probe(model: str) -> "subprocess.CompletedProcess[str]":
        return run("worker_probe.py", port, model)

    assert probe("lavise").returncode == 0
    assert probe("birds").returncode == 1
    assert kserve_probe(port) == 0
    os.kill(worker_pid(torchserve), signal.SIGKILL)
    assert eventually(lambda: "no worker of lavise" in probe("lavise").stderr)
    assert kserve_probe(port) == 1
    assert eventually(lambda: probe("lavise").returncode == 0)
    assert kserve_probe(port) == 0


def worker_pid(server: TorchServe) -> int:
    lines = [line for line in server.log if "[PID]" in line]
    return int(lines[-1].partition("[PID]")[2])


def kserve_probe(port: int) -> int:
    """The exit status of the probe that KServe's manifest carries."""
    runtime = yaml.safe_load((ROOT / "docker/kserve/serving-runtime.yaml").read_text("utf-8"))
    [container] = runtime["spec"]["containers"]
    _, *command = container["readinessProbe"]["exec"]["command"]
    command[-1] = command[-1].replace("8081", str(port))
    return subprocess.run([sys.executable, *command], capture_output=True, check=False).returncode


def test_a_model_is_copied_whole_from_an_object_store(tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20)
    credentials = tmp_path / "credentials"
    lines = [f"{name.lower()} = {value}" for name, value in KEYS.items()]
    credentials.write_text("\n".join(["[default]", *lines, ""]), encoding="utf-8")
    with s3_server() as endpoint:
        host = endpoint.removeprefix("http://")
        options = f"region={REGION}&scheme=http&endpoint_override={host}"
        store, _ = pafs.FileSystem.from_uri(f"s3://key:secret@{BUCKET}?{options}")
        with store.open_output_stream(f"{BUCKET}/models/lavise.mar") as stream:
            stream.write(content)
        script, url = str(FILES / "fetch_model.py"), f"s3://{BUCKET}/models?{options}"
        environment = {"AWS_SHARED_CREDENTIALS_FILE": str(credentials), "HOME": str(tmp_path)}

        def fetch(model: str) -> int:
            return subprocess.run(
                [sys.executable, "-I", script, url, model, tmp_path],
                env=environment,
                capture_output=True,
                check=False,
            ).returncode

        assert fetch("lavise") == 0
        assert fetch("birds") == 1
    assert (tmp_path / "lavise.mar").read_bytes() == content
    assert [path.name for path in tmp_path.glob("*.mar")] == ["lavise.mar"]


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether something comes true in time."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if condition():
            return True
        time.sleep(0.1)
    return False
