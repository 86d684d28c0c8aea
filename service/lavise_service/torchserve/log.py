"""Find, in TorchServe's log, the lines that say why it does not serve."""

import re
from collections.abc import Sequence

_LINES_SHOWN = 12
# As log4j2.xml writes them: the time, the level, the logger, a dash, the text.
_PREFIX = re.compile(r"^\S+ +[A-Z]+ +\S+ - ")
_WORKER_DIED = "Backend worker process died."
_SIGNS = (_WORKER_DIED, "Load model failed: ", "Failed to load model: ")


def failure(log: Sequence[str]) -> str | None:
    """Returns why a model could not be loaded, in its worker's words; None while all is well."""
    if not any(sign in line for line in log for sign in _SIGNS):
        return None
    worker = [_PREFIX.sub("", line) for line in log if " MODEL_LOG - " in line]
    return f"a worker could not load its model:\n{_exception(worker) or last_lines(log)}"


def last_lines(log: Sequence[str]) -> str:
    """Returns the end of a log, or that there is none."""
    return "\n".join(log[-_LINES_SHOWN:]) or "(it said nothing)"


def _exception(worker: Sequence[str]) -> str:
    """Returns the message of the first exception that a worker printed, without its frames.

    An exception that ends the worker comes after "process died"; one that TorchServe caught
    comes before it, and what follows only repeats that there was one.
    """
    sections: list[list[str]] = [[]]
    for line in worker:
        if line.startswith(_WORKER_DIED):
            sections.append([])
        sections[-1].append(line)
    for section in sections:
        frames = [number for number, line in enumerate(section) if line.startswith("  File ")]
        if frames:
            # The source of a frame is indented; the exception after the last one is not.
            after = section[frames[-1] + 1 :]
            return "\n".join(line for line in after if not line.startswith(" "))
    return ""
