"""bandit over what is installed and what runs in pods, and the SBOM: ``make security``.

build/sbom.json (CycloneDX) lists every package of the environment with its exact version and
licence. The tools have an environment of their own, so that they are not in the list themselves.
That nothing is a pickle is tested: tests/test_no_pickle.py. ``make fuzz`` is apart, it takes long.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "security-tools"
SBOM = ROOT / "build" / "sbom.json"
PACKAGES = ["bandit==1.9.4", "cyclonedx-bom==7.5.0"]
CODE = ["lavise", "service", "handlers", "docker/helm/lavise/files"]
# Without them nothing is served: were one missing, the list would be of something else.
MUST_LIST = {"cryptography", "grpcio", "numpy", "onnxruntime", "pillow", "protobuf", "torchserve"}


def run(*command: str | Path) -> None:
    """Runs a command, or ends with what it said where it failed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def make_tools(folder: Path, packages: list[str]) -> Path:
    """Makes an environment of its own for some packages, where it is not there yet.

    Returns:
        The folder of its programs.
    """
    wanted = "\n".join(packages)
    done = folder / "packages.txt"
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (folder / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*pip, *packages)
        done.write_text(wanted, encoding="utf-8")
    return folder / "bin"


def write_sbom(tools: Path) -> int:
    """Writes the list; returns how many packages it names."""
    # Its own validation takes twenty times as long as the list.
    command = ("environment", "--no-validate", "--output-format", "JSON", "--pyproject")
    run(tools / "cyclonedx-py", *command, "pyproject.toml", "-o", SBOM, sys.executable)
    found = json.loads(SBOM.read_text(encoding="utf-8"))["components"]
    names = {one["name"].lower().replace("onnxruntime-gpu", "onnxruntime") for one in found}
    if missing := MUST_LIST - names:
        raise SystemExit(f"{SBOM} lacks {', '.join(sorted(missing))}")
    if unversioned := [one["name"] for one in found if not one.get("version")]:
        raise SystemExit(f"{SBOM} has no version of {', '.join(unversioned)}")
    return len(found)


def main() -> None:
    """Checks, and writes the list."""
    tools = make_tools(TOOLS, PACKAGES)
    run(tools / "bandit", "--quiet", "--recursive", *CODE, "--configfile", "pyproject.toml")
    print(f"bandit: clean ({', '.join(CODE)})")
    print(f"wrote {SBOM.relative_to(ROOT)}: {write_sbom(tools)} packages")


if __name__ == "__main__":
    main()
