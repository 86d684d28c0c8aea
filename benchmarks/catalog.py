"""Rows catalog-throughput and catalog-memory: describing filters over many images.

catalog-throughput: lavise.catalog.stream over JPEG files, statistics of every filter included,
against the same files read by the same threads, prepared the same way, in batches of the same
size, through the same session, and thrown away. What follows once per layer, however many images
there were (words and verdicts), is in neither.

catalog-memory: peak memory of a process that streams 1,000,000 synthetic feature maps through
LayerStatistics, against one that streams 10,000.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.harness import ROOT, Row, at_least, at_most, paired
from benchmarks.material import bundle, jpegs
from lavise.catalog import BATCH, LayerStatistics, stream
from lavise.image_set import folder_images
from lavise.prefetch import batched, prefetch
from lavise.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.harness import Bench

_FILES: Final = 2048
"""A small probe set: what a pass costs once (228 MiB of statistics) is 2 % of it."""
_FEW, _MANY = 10_000, 1_000_000
_MEMORY_ROUNDS: Final = 7


def throughput() -> Iterable[Row]:
    """Streaming statistics of every filter against decoding and the CNN alone."""
    cnn = bundle().manifest.cnn
    session = open_session(bundle().path / "cnn.onnx", device="cpu")
    probe = folder_images(jpegs(_FILES)[0].parent, cnn.input_size)
    names = [f"map_{i}" for i in range(len(cnn.layers))]

    def bare() -> None:
        images = prefetch(probe.fetch, range(_FILES), ahead=3 * BATCH)
        for batch in batched(images, BATCH):
            session.run(names, {"images": np.stack(batch)})

    def describe() -> None:
        statistics = [LayerStatistics(layer) for layer in cnn.layers]
        stream(session, probe, statistics)
        for found in statistics:
            assert found.attended.any()  # what it computes late is part of the pass

    rounds = paired(bare, describe, rounds=7)
    rate = _FILES / sorted(r.baseline for r in rounds)[len(rounds) // 2]
    yield at_least(
        "catalog-throughput",
        [r.baseline / r.candidate for r in rounds],
        bar=0.85,
        unit="of the baseline's images/s",
        baseline=f"decode + CNN over the same {_FILES} JPEG files of 640 x 480, same threads and "
        f"batches, no statistics: {rate:.0f} images/s",
    )


def memory() -> Iterable[Row]:
    """Peak memory after very many feature maps against after few."""
    few = [_peak_mb(_FEW) for _ in range(_MEMORY_ROUNDS)]
    many = _peak_mb(_MANY)  # once: it takes a minute, and memory does not depend on the load
    yield at_most(
        "catalog-memory",
        [many / one for one in few],
        bar=1.10,
        unit="x",
        baseline=f"peak memory of a process that streams {_FEW:,} feature maps (64 x 4 x 4): "
        f"{sorted(few)[len(few) // 2]:.1f} MB; with {_MANY:,}: {many:.1f} MB",
    )


def _peak_mb(maps: int) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stream_maps", str(maps)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return float(done.stdout)


ROWS: dict[str, Bench] = {"catalog-throughput": throughput, "catalog-memory": memory}
