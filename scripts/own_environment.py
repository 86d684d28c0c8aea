"""Environments of their own, for tools whose pins clash with ours or that must not be in a list."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def run(*command: str | Path, text: str | None = None) -> str:
    """Runs a command; returns what it said, or ends with it where it failed."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def own_environment(folder: Path, packages: Sequence[str], bare: Sequence[str] = ()) -> Path:
    """Makes the environment where it is not there yet.

    Args:
        folder: Where it lies.
        packages: With their exact versions.
        bare: More of them, without what they depend on.

    Returns:
        The folder of its programs.
    """
    wanted = "\n".join((*packages, *bare))
    done = folder / "packages.txt"
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        run(sys.executable, "-m", "venv", "--clear", folder)
        install = (folder / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet")
        run(*install, *packages)
        if bare:
            run(*install, "--no-deps", *bare)
        done.write_text(wanted, encoding="utf-8")
    return folder / "bin"
