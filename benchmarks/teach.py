"""Row teach-memory: peak memory of teaching from a million cached regions against ten thousand."""

from __future__ import annotations

import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from benchmarks.harness import BUILD, ROOT, Row, at_most

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.harness import Bench

_FEW, _MANY = 10_000, 1_000_000
_ROUNDS: Final = 7


def memory() -> Iterable[Row]:
    """Peak memory after very many regions against after few."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=BUILD) as folder:
        few = [_peak_mb(f"{folder}/few", _FEW) for _ in range(_ROUNDS)]
        many = _peak_mb(f"{folder}/many", _MANY)  # once: it takes a minute, and a GB of disk
    yield at_most(
        "teach-memory",
        [many / one for one in few],
        bar=1.10,
        unit="x",
        baseline=f"peak memory of a process that teaches one epoch on {_FEW:,} regions of 256 "
        f"channels, cached on disk: {sorted(few)[len(few) // 2]:.0f} MB; on {_MANY:,}: "
        f"{many:.0f} MB",
    )


def _peak_mb(folder: str, regions: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.teach_regions", folder, str(regions)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return float(done.stdout)


ROWS: dict[str, Bench] = {"teach-memory": memory}
