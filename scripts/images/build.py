"""Builds the images with buildah.

From the base that the Dockerfiles pin; where the registry of images cannot be reached, from a
stand-in that mmdebstrap makes of the same packages (Debian's minimal base without documentation),
so that everything but the base itself is what will be shipped.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "build" / "images"
STAND_IN = "localhost/lavise-base"
PARTS = ("worker", "companion")
_BASE = "ARG BASE="
# As Debian's own slim images leave them out.
_LEFT_OUT = ("doc", "groff", "info", "lintian", "locale", "man")


def said(*command: str | Path, **environment: str) -> str:
    """Returns what a command said; ends the program where it failed."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
    return done.stdout.strip()


def pinned_base() -> str:
    """Returns the base that the Dockerfiles name."""
    lines = dockerfile(PARTS[0]).read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith(_BASE)).removeprefix(_BASE)


def dockerfile(part: str) -> Path:
    """Returns the Dockerfile of a part."""
    return ROOT / "docker" / f"{part}.Dockerfile"


def base() -> str:
    """Returns what the images are built from: the pinned base, or the stand-in."""
    pinned = pinned_base()
    pull = ("timeout", "120", "buildah", "pull", "--quiet", pinned)
    if subprocess.run(pull, capture_output=True, check=False).returncode == 0:
        return pinned
    if not said("buildah", "images", "--quiet", "--filter", f"reference={STAND_IN}"):
        _make_stand_in()
    return STAND_IN


def build(part: str, from_base: str, *, tag: str, runtime: str = "cpu") -> str:
    """Builds an image and returns its name.

    Args:
        part: ``worker`` or ``companion``.
        from_base: From ``base``.
        tag: What follows the colon of the name.
        runtime: Of the worker: ``cpu`` or ``cuda``.
    """
    name = f"localhost/lavise-{part}:{tag}"
    arguments = (
        [] if from_base == pinned_base() else ["--pull-never", "--build-arg", f"BASE={from_base}"]
    )
    if part == "worker":
        arguments += ["--build-arg", f"RUNTIME={runtime}"]
    print(f"    building {name} (minutes) ...", flush=True)
    said(
        *("buildah", "bud", "--layers", "--format", "docker", *arguments, *_certificates()),
        *("--file", dockerfile(part), "--tag", name, ROOT),
        # No namespaces of its own: it builds inside containers and other sandboxes too.
        BUILDAH_ISOLATION="chroot",
    )
    return name


def _make_stand_in() -> None:
    if not shutil.which("mmdebstrap"):
        raise SystemExit(
            f"{pinned_base()} cannot be pulled, and mmdebstrap, which makes one in its place, is "
            "not there. Debian has it by this name"
        )
    print(f"    making {STAND_IN} (a minute or two) ...", flush=True)
    OUT.mkdir(parents=True, exist_ok=True)
    tar = OUT / "base.tar"
    left_out = (f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT)
    said(
        *("mmdebstrap", "--variant=minbase", "--include=usr-is-merged", *left_out),
        "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
        *("bookworm", tar),
    )
    said("podman", "import", tar, STAND_IN)
    tar.unlink()


def _certificates() -> list[str]:
    """Lets pip inside the build trust whom pip outside trusts, where that is set up by a file.

    They are mounts: all that stays of them in the image are two empty files.
    """
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.cert"],
        capture_output=True,
        text=True,
        check=False,
    )
    file = answer.stdout.strip() or os.environ.get("PIP_CERT", "")
    if not file:
        return []
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "pip.conf").write_text("[global]\ncert = /run/pip-ca.crt\n", encoding="ascii")
    mounts = ((file, "/run/pip-ca.crt"), (OUT / "pip.conf", "/etc/pip.conf"))
    return [f"--volume={source}:{target}:ro" for source, target in mounts]
