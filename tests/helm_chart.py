"""The Helm chart, rendered under its values files."""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CHART = ROOT / "docker" / "helm" / "lavise"
BIN = Path(sys.executable).parent
VALUES = tuple(sorted(path.stem for path in CHART.glob("ci/*.yaml")))
Manifest = dict[str, Any]

needs_helm = pytest.mark.skipif(
    not (BIN / "helm").is_file(), reason="scripts/install_helm.py, which make runs, installs helm"
)


def helm(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Runs helm."""
    return subprocess.run([BIN / "helm", *arguments], capture_output=True, text=True, check=False)


@functools.cache
def rendered(values: str, *options: str) -> list[Manifest]:
    """Returns the manifests under a values file; do not change them."""
    file = CHART / "ci" / f"{values}.yaml"
    template = ("template", "lavise", CHART, "--namespace", "here", "--values", file)
    done = helm(*template, *options)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(values: str, kind: str) -> dict[str, Manifest]:
    """Returns the manifests of a kind, by name without the release's."""
    found = [one for one in rendered(values) if one["kind"] == kind]
    return {one["metadata"]["name"].removeprefix("lavise-"): one for one in found}


def pod(values: str, part: str) -> Manifest:
    """Returns the pod of the companion's or the worker's Deployment."""
    spec: Manifest = of_kind(values, "Deployment")[part]["spec"]["template"]["spec"]
    return spec


def environment(container: Manifest) -> dict[str, str]:
    """Returns a container's variables."""
    return {one["name"]: one["value"] for one in container.get("env", [])}
