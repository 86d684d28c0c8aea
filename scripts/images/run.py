"""Runs the images with podman, as a pod would: two hosts joined by one wire, and nothing else.

Each container lives in a network namespace of its own; the two are the ends of a pair of virtual
interfaces, so that nothing leaves them. Root file systems are read-only, no capability is left,
memory and processes are bounded.
"""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.images.build import ROOT, said

ADDRESSES = {"worker": "192.0.2.1", "companion": "192.0.2.2"}
MEMORY_MIB = {"worker": 2048, "companion": 1024}
# runc and cgroupfs also run where there is no systemd; the limits are within anybody's own.
PODMAN = ("podman", "--runtime=runc", "--cgroup-manager=cgroupfs", "--log-level=fatal")
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--pids-limit=512")
HARDENED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)


@dataclass(frozen=True)
class Container:
    """A container of ours.

    Attributes:
        part: ``worker`` or ``companion``.
        name: Podman's.
        namespace: Of its network.
    """

    part: str
    name: str
    namespace: str

    def do(self, action: str) -> Any:  # noqa: ANN401 - JSON
        """Does something in it, as inside.py says, and returns the answer."""
        status, answer = inside("exec", "--interactive", self.name, "python", action=action)
        if status:
            raise SystemExit(f"{self.part}: {action}: {answer}")
        return json.loads(answer)

    def from_its_network(self, *command: str | Path) -> list[str]:
        """Returns a command that runs on this machine, in the container's network."""
        return ["ip", "netns", "exec", self.namespace, *map(str, command)]

    def is_healthy(self) -> bool:
        """Whether the image's own HEALTHCHECK passes now."""
        check = (*PODMAN, "healthcheck", "run", self.name)
        return subprocess.run(check, capture_output=True, check=False).returncode == 0

    def await_health(self, *, healthy: bool = True, timeout_s: float = 90) -> float:
        """Waits until it is (un)healthy; returns the seconds, or ends the program."""
        start = time.monotonic()
        while self.is_healthy() != healthy:
            if time.monotonic() - start > timeout_s:
                raise SystemExit(
                    f"{self.part} is not {'' if healthy else 'un'}healthy\n{self.log()}"
                )
            time.sleep(0.2)
        return time.monotonic() - start

    def start(self) -> None:
        """Starts it again after a stop."""
        said(*PODMAN, "start", self.name)

    def stop(self) -> tuple[float, int]:
        """Sends SIGTERM and waits; returns the seconds and the exit status."""
        start = time.monotonic()
        said(*PODMAN, "stop", "--time", "60", self.name)
        seconds = time.monotonic() - start
        return seconds, int(said(*PODMAN, "inspect", "--format={{.State.ExitCode}}", self.name))

    def log(self) -> str:
        """The last lines of its log."""
        command = (*PODMAN, "logs", "--tail", "20", self.name)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr


@contextlib.contextmanager
def running(
    images: dict[str, str], model_store: Path, store: Path, *, limited: bool
) -> Iterator[dict[str, Container]]:
    """Runs one container of each image, until the block ends.

    Args:
        images: Their names, by part.
        model_store: Holds ``lavise.mar``.
        store: An empty folder for the companion.
        limited: Whether memory is limited.
    """
    with contextlib.ExitStack() as stack:
        spaces = stack.enter_context(_wire())
        found = {
            part: Container(part, f"lavise-check-{part}-{os.getpid()}", spaces[part])
            for part in images
        }
        store.chmod(0o777)
        volumes = {"worker": f"{model_store}:/models:ro", "companion": f"{store}:/store"}
        environment = {
            "worker": [],
            "companion": [
                "--env=LAVISE_TORCHSERVE=worker:7070",
                "--env=LAVISE_ALLOW_ANONYMOUS=true",
            ],
        }
        for part, image in images.items():
            container = found[part]
            stack.callback(_remove, container.name)
            said(
                *(*PODMAN, "run", "--detach", "--name", container.name, *HARDENED, *LIMITS),
                *([f"--memory={MEMORY_MIB[part]}m"] if limited else []),
                f"--network=ns:/run/netns/{container.namespace}",
                "--no-hosts",
                f"--volume={_hosts(store.parent)}:/etc/hosts:ro",
                "--tmpfs=/tmp:rw,size=1g,mode=1777",
                f"--volume={volumes[part]}",
                *environment[part],
                image,
            )
        yield found


def inside(*command: str, action: str) -> tuple[int, str]:
    """Hands inside.py to a container's Python.

    Args:
        command: Podman's, up to the interpreter.
        action: What inside.py is to do.

    Returns:
        The exit status, and what was said.
    """
    with (ROOT / "scripts" / "images" / "inside.py").open("rb") as program:
        done = subprocess.run(
            [*PODMAN, *command, "-I", "-", action],
            stdin=program,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout.strip()


def _hosts(folder: Path) -> Path:
    path = folder / "hosts"
    lines = ["127.0.0.1 localhost", *(f"{address} {part}" for part, address in ADDRESSES.items())]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


@contextlib.contextmanager
def _wire() -> Iterator[dict[str, str]]:
    """Makes the two network namespaces and joins them; yields their names."""
    names = {part: f"lavise-{part}-{os.getpid()}" for part in ADDRESSES}
    ends = {"worker": f"lw{os.getpid()}", "companion": f"lc{os.getpid()}"}
    with contextlib.ExitStack() as stack:
        for name in names.values():
            said("ip", "netns", "add", name)
            stack.callback(said, "ip", "netns", "delete", name)
        # Made inside: this machine's own network never sees it.
        said(
            *("ip", "-n", names["worker"], "link", "add", ends["worker"], "type", "veth"),
            *("peer", "name", ends["companion"], "netns", names["companion"]),
        )
        for part, name in names.items():
            said("ip", "-n", name, "address", "add", f"{ADDRESSES[part]}/24", "dev", ends[part])
            said("ip", "-n", name, "link", "set", ends[part], "up")
            said("ip", "-n", name, "link", "set", "lo", "up")
        yield names


def _remove(name: str) -> None:
    command = (*PODMAN, "rm", "--force", "--time", "1", name)
    subprocess.run(command, capture_output=True, check=False)
