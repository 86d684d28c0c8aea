"""Fuzzes the edges where bytes come in, with atheris: ``make fuzz``, ``make fuzz RUNS=1000000``.

The targets and their seeds are in tests/fuzz. What was found goes to build/fuzz/TARGET, the numbers
to build/fuzz/report.json. A crash, an error that is not raised on purpose, or 20 s on one input
ends it with what libFuzzer said.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from scripts.own_environment import own_environment, run

ROOT: Final = Path(__file__).resolve().parent.parent
OUT: Final = ROOT / "build" / "fuzz"
PACKAGES: Final = ["atheris==3.0.0"]
TARGETS: Final = ("image", "bundle", "request")
OPTIONS: Final = ("-seed=1", "-max_len=65536", "-timeout=20", "-rss_limit_mb=3000")
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - each run writes a file or two
_COVERED: Final = re.compile(
    r"^#(\d+)\s+(INITED|DONE)\s+cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE
)


def fuzz(target: str, runs: int, python: Path) -> dict[str, Any]:
    """Fuzzes one target; returns the numbers of it."""
    folder = OUT / target
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    # The packages are those of this environment; only atheris comes from its own.
    places = [ROOT, ROOT / "service", ROOT / "handlers", *map(Path, sys.path[1:])]
    path = os.pathsep.join(map(str, places))
    options = (*OPTIONS, f"-runs={runs}", f"-artifact_prefix={folder}/")
    harness = ROOT / "tests" / "fuzz" / "harness.py"
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        done = subprocess.run(
            [python, harness, target, OUT, *options, corpus, folder / "seeds"],
            env=os.environ | {"PYTHONPATH": path, "TMPDIR": scratch},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            check=False,
        )
    found = {word: (int(n), *map(int, rest)) for n, word, *rest in _COVERED.findall(done.stderr)}
    if done.returncode or "DONE" not in found:
        raise SystemExit(f"{target}: {done.stderr[-4000:]}\nthe input lies in {folder}")
    (n, lines, features, inputs), began = found["DONE"], found["INITED"]
    return {
        "runs": n,
        "seconds": round(time.monotonic() - start),
        "seeds": len(list((folder / "seeds").iterdir())),
        "edges": [began[1], lines],
        "features": [began[2], features],
        "inputs": inputs,
    }


def main() -> None:
    """Fuzzes every target."""
    parser = argparse.ArgumentParser(description="Fuzz the edges where bytes come in.")
    parser.add_argument("--runs", type=int, default=100_000, help="of each target")
    parser.add_argument("--only", choices=TARGETS, help="one target; the report keeps the others")
    asked = parser.parse_args()
    python = own_environment(ROOT / "build" / "fuzz-tools", PACKAGES) / "python"
    run(sys.executable, "-m", "tests.fuzz.write_seeds", OUT)
    kept = OUT / "report.json"
    report = json.loads(kept.read_text("utf-8")) if asked.only and kept.is_file() else {}
    for target in (asked.only,) if asked.only else TARGETS:
        report[target] = fuzz(target, asked.runs, python)
        print(target, json.dumps(report[target]))
    kept.write_text(json.dumps(report, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
