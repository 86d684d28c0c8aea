import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("lavise/v1", "service/lavise_service")


def generated(root: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(root)): file.read_bytes()
        for folder in FOLDERS
        for file in sorted((root / folder).glob("*_pb2*"))
        if file.suffix in {".py", ".pyi"}
    }


def test_generated_code_is_that_of_the_contract(tmp_path: Path) -> None:
    subprocess.run(
        ["/bin/sh", "scripts/generate_proto.sh", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable},
        check=True,
    )
    fresh, kept = generated(tmp_path), generated(ROOT)
    assert fresh.keys() == kept.keys()
    stale = [name for name in fresh if fresh[name] != kept[name]]
    if stale:
        pytest.fail(f"make proto: stale are {', '.join(stale)}")


def test_the_contract_passes_its_linter() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/lint_proto.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
