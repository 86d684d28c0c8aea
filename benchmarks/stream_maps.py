"""Streams synthetic feature maps through LayerStatistics and prints its own peak memory in MB.

python -m benchmarks.stream_maps 10000
"""

from __future__ import annotations

import sys
from typing import Final

import numpy as np

from benchmarks.peak import peak_mb
from lavise.catalog import LayerStatistics
from lavise.manifest import LayerEntry

_CHANNELS, _SIDE, _BATCH = 64, 4, 64
_POOL: Final = 16
"""Batches that are drawn; they come again, scaled anew, since drawing costs more than counting."""


def main(n_maps: int) -> None:
    """Streams ``n_maps`` feature maps."""
    layer = LayerEntry(name="synthetic", channels=_CHANNELS, height=_SIDE, width=_SIDE)
    statistics = LayerStatistics(layer)
    rng = np.random.default_rng(0)
    pool = rng.normal(size=(_POOL, _BATCH, _CHANNELS, _SIDE, _SIDE)).astype(np.float32)
    for start in range(0, n_maps, _BATCH):
        batch = pool[rng.integers(_POOL)] * rng.uniform(0.1, 10, (_BATCH, 1, 1, 1))
        statistics.update(batch[: n_maps - start].astype(np.float32))
    assert statistics.images == n_maps
    assert np.isfinite(statistics.thresholds()).all()
    print(peak_mb())


if __name__ == "__main__":
    main(int(sys.argv[1]))
