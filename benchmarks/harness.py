"""What every benchmark stands on: rows, paired rounds, the machine, build/bench.json.

A number that compares two things is measured in rounds: in each round baseline and candidate are
called in turn, and the round's number is made of their medians in that round. What the machine
does besides then slows both alike. The row's value is the median over the rounds; the least and
the greatest round are its spread.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import orjson

from lavise.runtime import import_onnxruntime, resolve_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

ROUNDS: Final = 9
"""At least 7, so that the median shrugs off three disturbed rounds."""

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build"


@dataclass(frozen=True)
class Row:
    """One line of the table, and one object of build/bench.json.

    Attributes:
        name: What was measured.
        value: The median over the rounds.
        bar: What it must reach.
        unit: Of value, bar and spread.
        ok: Whether it does.
        spread: Its least and its greatest round.
        baseline: What it was compared with, in words.
    """

    name: str
    value: float
    bar: float
    unit: str
    ok: bool
    spread: tuple[float, float]
    baseline: str

    @property
    def sign(self) -> Literal["≤", "≥"]:
        """Which way the bar is to be read."""
        return "≤" if (self.value <= self.bar) == self.ok else "≥"


Bench: TypeAlias = "Callable[[], Iterable[Row]]"
"""Measures one row, or some that come of the same work. A module lists its own as ROWS."""


def at_most(name: str, values: Sequence[float], *, bar: float, unit: str, baseline: str) -> Row:
    """A row whose value must not be above its bar.

    Args:
        name: What was measured.
        values: One a round.
        bar: What it must reach.
        unit: Of values and bar.
        baseline: What it was compared with.

    Returns:
        The row.
    """
    value, spread = _summary(values)
    return Row(name, value, bar, unit, value <= bar, spread, baseline)


def at_least(name: str, values: Sequence[float], *, bar: float, unit: str, baseline: str) -> Row:
    """A row whose value must not be below its bar; the arguments are those of at_most()."""
    value, spread = _summary(values)
    return Row(name, value, bar, unit, value >= bar, spread, baseline)


def _summary(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    rounded = [float(f"{value:.4g}") for value in values]
    return float(f"{median(rounded):.4g}"), (min(rounded), max(rounded))


@dataclass(frozen=True)
class Round:
    """Median seconds of a call in one round."""

    baseline: float
    candidate: float


def paired(
    baseline: Callable[[], object],
    candidate: Callable[[], object],
    *,
    rounds: int = ROUNDS,
    calls: int = 1,
    warm_up: int = 1,
) -> list[Round]:
    """Times two things against each other, call by call in turn.

    Args:
        baseline: What is compared with. Where it returns a float, that is its time in seconds
            (something that another process measured).
        candidate: What is measured; likewise.
        rounds: How many numbers come out.
        calls: Of each, in one round.
        warm_up: Calls of each before the first round, not counted.

    Returns:
        The rounds.
    """
    for _ in range(warm_up):
        baseline()
        candidate()
    found = []
    for _ in range(rounds):
        pairs = [(_seconds(baseline), _seconds(candidate)) for _ in range(calls)]
        found.append(Round(median(b for b, _ in pairs), median(c for _, c in pairs)))
    return found


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    answer = call()
    elapsed = time.perf_counter() - start
    return answer if isinstance(answer, float) else elapsed


def machine() -> dict[str, Any]:
    """What the numbers were measured on.

    Returns:
        CPU model, cores that this process may use, the load before the benchmark, ONNX Runtime's
        version and provider, and the GPU's name ("" where there is none).
    """
    runtime = import_onnxruntime()
    cuda = resolve_device("auto") == "cuda"
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "onnxruntime": runtime.__version__,
        "provider": "CUDAExecutionProvider" if cuda else "CPUExecutionProvider",
        "gpu": _gpu_name() if cuda else "",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _gpu_name() -> str:
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_report(path: Path, rows: Iterable[Row], machine_found: Mapping[str, Any]) -> list[Row]:
    """Puts rows into build/bench.json; rows of other names that are there stay there.

    Args:
        path: The file; made where it is missing.
        rows: New ones, which replace those of the same name.
        machine_found: From machine(): what the new rows were measured on.

    Returns:
        All rows of the file, in the order in which they first came.
    """
    merged = {row.name: row for row in read_report(path)[0]}
    merged |= {row.name: row for row in rows}
    report = {"rows": [asdict(row) for row in merged.values()], "machine": dict(machine_found)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    partial.replace(path)
    return list(merged.values())


def read_report(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Reads build/bench.json.

    Args:
        path: The file.

    Returns:
        Its rows and its machine; nothing of either where there is no file.
    """
    if not path.is_file():
        return [], {}
    report = orjson.loads(path.read_bytes())
    rows = [Row(**(row | {"spread": tuple(row["spread"])})) for row in report["rows"]]
    return rows, report["machine"]
