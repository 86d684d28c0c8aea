"""TorchServe as the one process of a container: ``python -m lavise_service.worker``.

Python finds the models and writes the configuration, and then *becomes* Java: the signals of the
container's keeper reach Java itself, and nothing is left to forget it. Two variables:

- ``LAVISE_MODEL_STORE``: the folder of the ``.mar`` files, all of which are served.
- ``LAVISE_WORKER_OPEN``: the doors that the network reaches, of ``grpc``, ``metrics`` and ``rest``;
  the others, and always those of management, stay on loopback. TorchServe asks nobody for a token:
  whoever opens a door says who reaches it.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from lavise.errors import EnvironmentProblem, LaviseError, SpecError
from lavise_service.torchserve import Ports
from lavise_service.torchserve.config import environment, java_command, write_config
from lavise_service.torchserve.java import find_java

STORE: Final = "LAVISE_MODEL_STORE"
OPEN: Final = "LAVISE_WORKER_OPEN"
DOORS: Final = ("grpc", "metrics", "rest")


def doors(text: str) -> frozenset[str]:
    """Reads which doors are open to the network.

    Args:
        text: Their names, separated by commas or spaces; none where it is empty.

    Raises:
        SpecError: A name is none of ``DOORS``.
    """
    names = frozenset(text.replace(",", " ").split())
    if unknown := sorted(names.difference(DOORS)):
        raise SpecError(
            f"{OPEN} names {unknown[0]!r}; accepted: {', '.join(DOORS)}, separated by commas",
            field=OPEN,
        )
    return names


def models(store: Path) -> list[str]:
    """Returns the names of the models of a store.

    Raises:
        EnvironmentProblem: There is none.
    """
    found = sorted(path.stem for path in store.glob("*.mar"))
    if not found:
        raise EnvironmentProblem(
            f"{store} holds no .mar file. Make one with: lavise archive BUNDLE --export-path DIR; "
            f"then mount DIR at {store}, or set {STORE}",
            field=STORE,
        )
    return found


def run_dir() -> Path:
    """Returns an empty folder for TorchServe to work in, always the same, open to nobody else.

    A container that is started again may find what an earlier start unpacked; it goes.

    Raises:
        EnvironmentProblem: It cannot be made.
    """
    folder = Path(tempfile.gettempdir()) / "lavise-worker"
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
    except OSError as problem:
        raise EnvironmentProblem(
            f"cannot work in {folder}: {problem.strerror or problem}. Mount a tmpfs at /tmp, or "
            "set TMPDIR to a folder that can be written to",
            field="TMPDIR",
        ) from problem
    return folder


def become_torchserve(variables: Mapping[str, str]) -> NoReturn:
    """Turns this process into TorchServe.

    Args:
        variables: The environment.

    Raises:
        LaviseError: There is no Java, no TorchServe or no model, or a variable is not accepted.
    """
    exposed = doors(variables.get(OPEN, ""))
    store = Path(variables.get(STORE) or "model_store").resolve()
    names = models(store)
    java = find_java()
    folder = run_dir()
    config = write_config(folder, store, names, Ports(), exposed=exposed)
    command = java_command(java, config)
    os.chdir(folder)
    os.execve(command[0], command, environment(folder))  # noqa: S606 - the point of it


if __name__ == "__main__":
    try:
        become_torchserve(os.environ)
    except LaviseError as error:
        sys.exit(f"lavise worker: {error}")
