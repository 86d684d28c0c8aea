"""The peak memory of this process."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """In MB; not getrusage, whose ru_maxrss counts what the parent held when it forked."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
