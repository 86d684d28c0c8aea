"""What the processes of torchrun run in the tests: python -m tests.rank_process WHAT ARGUMENTS."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lavise.cnn import load_cnn
from lavise.teach.fitting import Running
from lavise.teach.parallel import Ranks, SharedBatchNorm, joined
from lavise.teach.plan import Plan
from lavise.teach.teaching import teach
from tests.tiny_cnn import TinyCnn
from tests.training_process import ARRAYS, train


def norm(out: str, rows: str) -> None:
    """One step of a BatchNorm on this process's share of some rows; each writes what it has."""
    with joined(cuda=False) as ranks:
        found = norm_step(ranks, int(rows))
        np.savez(Path(out) / f"{ranks.rank}.npz", **found)  # type: ignore[arg-type]


def norm_step(ranks: Ranks, n: int) -> dict[str, np.ndarray]:
    """Outputs, gradients and running statistics of a BatchNorm."""
    torch.manual_seed(0)
    x, weight = 5 + 2 * torch.randn(n, 3), torch.randn(n, 3)
    layer = SharedBatchNorm(3)
    layer.ranks = ranks
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    own = x[ranks.share(n)].clone().requires_grad_()
    y = layer(own)
    (y * weight[ranks.share(n)]).sum().backward()
    ranks.add_gradients(layer.parameters())
    assert own.grad is not None
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return {
        "y": y.detach().numpy(),
        "x_grad": own.grad.numpy(),
        "weight_grad": layer.weight.grad.numpy(),
        "bias_grad": layer.bias.grad.numpy(),
        "running_mean": layer.running_mean.numpy(),
        "running_var": layer.running_var.numpy(),
    }


def training(out: str) -> None:
    """A whole training; the first process writes its mapper."""
    with joined(cuda=False) as ranks:
        mapper = train(Running(ranks=ranks))
        np.savez(f"{out}/{ranks.rank}.npz", **{name: getattr(mapper, name) for name in ARRAYS})


def bundle(out: str, graph: str, plan: str, cache: str) -> None:
    """Teaches a bundle."""
    options = json.loads(plan)
    for name in ("datasets", "layers"):
        options[name] = tuple(options[name])
    cnn = load_cnn(
        f"onnx:{graph}", class_names=TinyCnn.class_names, mean=TinyCnn.mean, std=TinyCnn.std
    )
    teach(cnn, Plan(**options), Path(out), cache=Path(cache) if cache else None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work: dict[str, Any] = {"norm": norm, "training": training, "bundle": bundle}
    work[sys.argv[1]](*sys.argv[2:])
