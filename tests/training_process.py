"""Trains a mapper in a process of its own, to be killed: python -m tests.training_process DIR.

A checkpoint is left after every step; the mapper goes to DIR/mapper.npz.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lavise.mapper import MapperWeights
from lavise.teach.batches import BLOCK
from lavise.teach.checkpoints import Checkpoint
from lavise.teach.fitting import Running
from lavise.teach.training import CONCEPTS_RECIPE, Examples, train_concepts

RECIPE = replace(CONCEPTS_RECIPE, epochs=6, batch=64, hidden=32)
PATIENT = Running(window=BLOCK, judge=lambda w: float(w.b_second[0]), patience=5)
"""Three windows an epoch, and the best epoch is kept: all that a checkpoint has to hold."""
ARRAYS = ("W_first", "b_first", "W_second", "b_second")


def train(running: Running) -> MapperWeights:
    """The same training whenever it is called."""
    rng = np.random.default_rng(0)
    concept = rng.integers(0, 10, 3 * BLOCK - 100)
    centres = rng.normal(size=(10, 24))
    x = (centres[concept] + rng.normal(size=(concept.size, 24))).astype(np.float32)
    E = np.eye(10, dtype=np.float32)
    own = (centres[:3].astype(np.float32), np.zeros(3, dtype=np.float32))
    names = tuple(str(i) for i in range(10))
    return train_concepts(
        Examples(x, concept), E, names, own, seed=1, recipe=RECIPE, running=running
    )


def main(folder: Path) -> None:
    """Trains with a checkpoint."""
    torch.set_num_threads(1)
    print("training", flush=True)  # noqa: T201 - what the test waits for
    mapper = train(replace(PATIENT, checkpoint=Checkpoint(folder / "mark.pt", every_s=0)))
    np.savez(folder / "mapper.npz", **{name: getattr(mapper, name) for name in ARRAYS})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
