"""What check_images.py has done inside a container, by the image's own Python: prints JSON.

``confinement`` says who process 1 is and what it may; ``kill-workers`` kills TorchServe's worker
processes; ``allocate`` takes 256 MiB.
"""

import json
import os
import signal
import sys
from pathlib import Path

_STATUS = ("Uid", "CapBnd", "NoNewPrivs", "Seccomp")
_FOLDERS = ("/", "/etc", "/opt/lavise", "/var/tmp", "/models", "/store", "/tmp")  # noqa: S108
# Of the second and the first version of control groups: the limit and the most that was taken.
_MEMORY = (("memory.max", "memory.peak"), ("memory.limit_in_bytes", "memory.max_usage_in_bytes"))


def confinement() -> dict[str, object]:
    """Returns what process 1 is and may, where it can write, and its memory."""
    lines = Path("/proc/1/status").read_text(encoding="ascii").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return {
        "status": {key: status[key].split()[0] for key in _STATUS},
        "command": Path("/proc/1/exe").readlink().name,
        "writable": [folder for folder in _FOLDERS if _is_writable(Path(folder))],
        "memory": _memory(),
    }


def kill_workers() -> int:
    """Kills TorchServe's worker processes; returns how many."""
    workers = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"model_service_worker" in path.read_bytes()
    ]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    return len(workers)


def _is_writable(folder: Path) -> bool:
    probe = folder / ".probe"
    try:
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _memory() -> list[int]:
    """Returns the limit and the peak in bytes; nothing where no control group says."""
    for names in _MEMORY:
        for folder in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")):
            files = [folder / name for name in names]
            if all(file.is_file() for file in files):
                return [int(file.read_text(encoding="ascii")) for file in files]
    return []


if __name__ == "__main__":
    match sys.argv[1]:
        case "confinement":
            print(json.dumps(confinement()))
        case "kill-workers":
            print(json.dumps(kill_workers()))
        case "allocate":
            print(json.dumps(len(bytearray(2**28))))
