"""bandit over what is installed and what runs in pods, and the SBOM: ``make security``.

build/sbom.json (CycloneDX) lists every package of the environment with its exact version and
licence. The tools have an environment of their own, so that they are not in the list themselves.
That nothing is a pickle is tested: tests/test_no_pickle.py. ``make fuzz`` is apart, it takes long.
"""

import json
import sys
from pathlib import Path

from scripts.own_environment import own_environment, run

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "security-tools"
SBOM = ROOT / "build" / "sbom.json"
PACKAGES = ["bandit==1.9.4", "cyclonedx-bom==7.5.0"]
CODE = ["lavise", "service", "handlers", "docker/helm/lavise/files"]
# Without them nothing is served: were one missing, the list would be of something else.
MUST_LIST = {"cryptography", "grpcio", "numpy", "onnxruntime", "pillow", "protobuf", "torchserve"}


def write_sbom(tools: Path) -> int:
    """Writes the list; returns how many packages it names."""
    # Its own validation takes twenty times as long as the list.
    command = ("environment", "--no-validate", "--output-format", "JSON", "--pyproject")
    run(tools / "cyclonedx-py", *command, ROOT / "pyproject.toml", "-o", SBOM, sys.executable)
    found = json.loads(SBOM.read_text(encoding="utf-8"))["components"]
    names = {one["name"].lower().replace("onnxruntime-gpu", "onnxruntime") for one in found}
    if missing := MUST_LIST - names:
        raise SystemExit(f"{SBOM} lacks {', '.join(sorted(missing))}")
    if unversioned := [one["name"] for one in found if not one.get("version")]:
        raise SystemExit(f"{SBOM} has no version of {', '.join(unversioned)}")
    return len(found)


def main() -> None:
    """Checks, and writes the list."""
    tools = own_environment(TOOLS, PACKAGES)
    paths = [ROOT / name for name in CODE]
    run(tools / "bandit", "--quiet", "--recursive", *paths, "--configfile", ROOT / "pyproject.toml")
    print(f"bandit: clean ({', '.join(CODE)})")
    print(f"wrote {SBOM.relative_to(ROOT)}: {write_sbom(tools)} packages")


if __name__ == "__main__":
    main()
