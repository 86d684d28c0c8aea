"""The Dockerfiles and compose.yaml, without building anything: scripts/check_images.py does."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lavise_service.companion import lifecycle
from lavise_service.companion.settings import Settings
from lavise_service.worker import DOORS
from tests.helm_chart import ROOT

DOCKER = ROOT / "docker"
PARTS = ("worker", "companion")
EXTRAS = ("companion", "cpu", "cuda", "gpu", "worker")
OURS = re.compile(r"lavise-(worker|companion):[\d.]+")
PINNED = re.compile(r"\S+:\S+@sha256:[0-9a-f]{64}")


def lines(part: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and their arguments, continued lines joined."""
    text = (DOCKER / f"{part}.Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in text.splitlines() if line.strip()]


def of(part: str, instruction: str) -> list[str]:
    return [argument for name, argument in lines(part) if name == instruction]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    )["services"]
    return found


@pytest.mark.parametrize("part", PARTS)
def test_hadolint_has_nothing_to_say(part: str) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    command = [str(hadolint), str(DOCKER / f"{part}.Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_both_start_from_one_pinned_base() -> None:
    bases = {of(part, "ARG")[0].removeprefix("BASE=") for part in PARTS}
    assert len(bases) == 1
    assert PINNED.fullmatch(bases.pop())
    for part in PARTS:
        stages = [argument.split()[0] for argument in of(part, "FROM")]
        assert stages == ["${BASE}", "base", "base"]


@pytest.mark.parametrize("part", PARTS)
def test_the_user_is_nobody_and_the_programs_are_there(part: str) -> None:
    assert of(part, "USER") == ["10001:10001"]
    [health] = of(part, "HEALTHCHECK")
    asked = json.loads(health.partition("CMD ")[2])
    assert asked == ["python", "-I", "-m", "lavise_service.probe", part]
    [entry] = map(json.loads, of(part, "ENTRYPOINT"))
    assert entry[:3] == ["python", "-I", "-m"]
    assert importlib.util.find_spec(entry[3])
    assert importlib.util.find_spec(asked[3])


def test_variables_of_the_images_are_known() -> None:
    names = [
        *(f"LAVISE_{name.upper()}" for name in Settings.model_fields),
        *("LAVISE_MODEL_STORE", "LAVISE_WORKER_OPEN"),
    ]
    for part in PARTS:
        for name, value in re.findall(r"(LAVISE_\w+)=(\S+)", " ".join(of(part, "ENV"))):
            assert name in names
            assert name != "LAVISE_WORKER_OPEN" or set(value.split(",")) < set(DOORS)


def test_all_that_is_installed_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    pins = [
        canonicalize_name(line.partition("==")[0])
        for file in (ROOT / "constraints.txt", DOCKER / "worker" / "cuda-constraints.txt")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "==" in line
    ]
    asked = [*project["dependencies"], *(one for key in EXTRAS for one in extras[key])]
    names = {canonicalize_name(Requirement(text).name) for text in asked} - {"lavise"}
    assert names <= set(pins), names.difference(pins)


def test_the_build_sees_what_it_needs_and_no_more() -> None:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    let_in = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    for path in build["build"]["targets"]["wheel"]["only-include"]:
        assert any(path == one or path.startswith(f"{one}/") for one in let_in), path
    copied = [word for part in PARTS for line in of(part, "COPY") for word in line.split()[:-1]]
    for path in copied:
        if path != "." and not path.startswith(("--", "/")):
            assert any(path == one or path.startswith(f"{one}/") for one in let_in), path
            assert (ROOT / path).exists()
    assert "*" in patterns


def test_torchserve_is_content_with_what_stands_in_for_torch() -> None:
    """The worker's program in TorchServe, and the answer that it encodes, with no torch at hand."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import ts.model_service_worker, torch
from ts.protocol.otf_message_handler import create_predict_response
assert torch.__file__.startswith(sys.argv[1])
assert b"words" in create_predict_response([b"words"], {0: "id"}, "OK", 200)
"""
    command = [sys.executable, "-I", "-c", code, str(DOCKER / "worker")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_images_of_compose_are_ours_or_pinned(services: dict[str, dict[str, Any]]) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, service in services.items():
        image = service["image"]
        if OURS.fullmatch(image):
            assert image.endswith(f":{version['version']}")
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        else:
            assert PINNED.fullmatch(image), name


def test_compose_publishes_on_loopback_alone(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert services["worker"]["networks"] == ["inside"]
    assert "ports" not in services["worker"]


def test_compose_confines_every_container(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert service["pids_limit"]


def test_compose_mounts_what_is_there(services: dict[str, dict[str, Any]]) -> None:
    for service in services.values():
        for volume in service["volumes"]:
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume).split(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source


def test_compose_gives_the_companion_time_to_drain(services: dict[str, dict[str, Any]]) -> None:
    grace = float(services["companion"]["stop_grace_period"].removesuffix("s"))
    assert grace > lifecycle.LINGER_S + lifecycle.DRAIN_S + 5
    # The worker drops what it works on: who asks it stops first.
    assert services["companion"]["depends_on"] == ["worker"]
    known = {f"LAVISE_{name.upper()}" for name in Settings.model_fields}
    assert set(services["companion"]["environment"]) <= known


def test_scrapes_and_companion_find_the_services_by_name(
    services: dict[str, dict[str, Any]],
) -> None:
    config = yaml.safe_load((DOCKER / "monitoring" / "prometheus.yml").read_text(encoding="utf-8"))
    targets = [
        target
        for job in config["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    hosts = {target.split(":")[0] for target in targets} - {"localhost"}
    assert hosts == {"companion", "worker"}
    worker = services["companion"]["environment"]["LAVISE_TORCHSERVE"]
    assert worker.split(":")[0] in services
