"""Lints the contract with buf, by the rules of buf.yaml.

buf resolves imports inside its workspace or from its registry. The contract imports
google/rpc/status.proto, which the installed googleapis-common-protos brings: a temporary
workspace holds both, and no registry is asked.

    python scripts/lint_proto.py
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import google.rpc

ROOT = Path(__file__).parents[1]
BUF = Path(sys.executable).parent / "buf"
COMMON = Path(next(iter(google.rpc.__path__))).parents[1]


def lint(proto: Path) -> int:
    """Lints the package lavise.v1.

    Args:
        proto: The folder that holds ``lavise/v1``.

    Returns:
        buf's exit status: 0 where nothing was found. What was found goes to standard output.
    """
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        shutil.copy(ROOT / "buf.yaml", workspace)
        shutil.copytree(proto, workspace / "proto")
        rpc = workspace / "proto" / "google" / "rpc"
        rpc.mkdir(parents=True)
        for file in (COMMON / "google" / "rpc").glob("*.proto"):
            shutil.copy(file, rpc)
        command = [str(BUF), "lint", "--path", "proto/lavise/v1"]
        return subprocess.run(command, cwd=workspace, check=False).returncode


if __name__ == "__main__":
    sys.exit(lint(ROOT / "proto"))
