"""Teaches a mapper on synthetic cached regions and prints its own peak memory in MB.

python -m benchmarks.teach_regions FOLDER REGIONS

The regions are written to FOLDER first, by another process, part by part as a pass over images
would write them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.peak import peak_mb
from lavise.heap import WHILE_TEACHING, bound_heap

_CHANNELS: Final = 256
_CONCEPTS: Final = 80
_PER_PART: Final = 4096


def write(folder: Path, regions: int) -> None:
    """Writes parts of regions, each near the centre of its concept."""
    from lavise.teach.shards import write_shard

    rng = np.random.default_rng(0)
    centres = rng.normal(size=(_CONCEPTS, _CHANNELS)).astype(np.float32)
    noise = rng.normal(size=(2 * _PER_PART, _CHANNELS)).astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, regions, _PER_PART)):
        n = min(_PER_PART, regions - start)
        category = rng.integers(0, _CONCEPTS, n).astype(np.int32)
        shift = int(rng.integers(_PER_PART))
        x = centres[category] + noise[shift : shift + n]
        image = (start + np.arange(n, dtype=np.int32)) // 4
        write_shard(folder, number, {"regions_0": x, "category": category, "image": image})


def teach(folder: Path, regions: int) -> float:
    """Teaches on them as ``lavise teach`` does, one epoch; returns recall@1 on what is held out."""
    bound_heap(large=WHILE_TEACHING)

    import torch

    from lavise.teach.examples import RegionExamples
    from lavise.teach.shards import ShardedRows, find_shard
    from lavise.teach.training import CONCEPTS_RECIPE, train_concepts

    torch.set_num_threads(1)
    shards = [find_shard(folder, number) for number in range(-(-regions // _PER_PART))]
    rows = {
        name: ShardedRows([shard.stored(name) for shard in shards if shard is not None])
        for name in ("regions_0", "category", "image")
    }
    assert len(rows["regions_0"]) == regions, "every part was written"
    category, held_out = rows["category"][:], rows["image"][:] % 10 == 0
    examples = RegionExamples(rows["regions_0"], np.where(held_out, -1, category).astype(np.int32))
    E = np.eye(_CONCEPTS, dtype=np.float32)
    names = tuple(str(i) for i in range(_CONCEPTS))
    recipe = replace(CONCEPTS_RECIPE, epochs=1)
    mapper = train_concepts(examples, E, names, None, seed=0, recipe=recipe)
    some = np.flatnonzero(held_out)[:1000]
    mapped = mapper(rows["regions_0"][some]).argmax(axis=1)
    return float(np.mean(mapped == category[some]))


def main(folder: Path, regions: int) -> None:
    """Writes, teaches, prints."""
    if not folder.exists():
        writer = get_context("spawn").Process(target=write, args=(folder, regions))
        writer.start()
        writer.join()
    recall = teach(folder, regions)
    assert recall > (0.9 if regions > 100_000 else 0.0), recall
    print(peak_mb())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
