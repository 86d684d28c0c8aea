"""Several processes that teach one mapper, as torchrun starts them; one process is the usual case.

Every process holds the same mapper and draws the same batches. Each computes its share of a
batch's rows; gradients, and the statistics of BatchNorm, are summed over all. So what comes out
does not depend on how many there are, but for the order in which floating-point numbers are
added.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import torch
import torch.distributed.nn.functional as differentiable
from torch import distributed

from lavise.errors import EnvironmentProblem, first_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
_PATIENCE: Final = timedelta(hours=6)
"""How long one process waits for another: a share of the pass over the images can take hours."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a teaching.

    Attributes:
        rank: Of this process, from 0.
        world: How many there are.
        local: Of this process on its machine: which GPU is its own.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n rows."""
        return slice(n * self.rank // self.world, n * (self.rank + 1) // self.world)

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.world > 1:
            distributed.barrier()

    def total(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes; gradients flow back to all."""
        if self.world == 1:
            return x
        summed: torch.Tensor = differentiable.all_reduce(x)  # type: ignore[no-untyped-call]
        return summed

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces every gradient by its sum over all processes, in one exchange."""
        if self.world == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def told(self, value: T) -> T:
        """What the leading process has, in all."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


ALONE: Final = Ranks()


def leads() -> bool:
    """Whether this process is the one that writes and speaks, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(*, cuda: bool) -> Iterator[Ranks]:
    """Joins the processes that torchrun started with this one.

    Args:
        cuda: Whether each has a GPU of its own.

    Yields:
        The processes; this one alone where torchrun has not started it.

    Raises:
        EnvironmentProblem: The others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        if cuda:
            torch.cuda.set_device(local)
        # Plans and paths travel over gloo: NCCL only knows tensors on GPUs.
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise EnvironmentProblem(
            f"the processes of torchrun do not find each other: {first_line(error)}; check "
            "MASTER_ADDR and MASTER_PORT, or start without torchrun"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), local)
    finally:
        distributed.destroy_process_group()


class SharedBatchNorm(torch.nn.BatchNorm1d):
    """BatchNorm over the rows of all processes.

    torch's SyncBatchNorm needs GPUs; this is the same on any device, and torch's own BatchNorm
    where there is one process.
    """

    ranks: Ranks = ALONE

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C) to (B, C); B may differ between processes, and be 0 in some."""
        if self.ranks.world == 1 or not self.training:
            return super().forward(x)
        assert self.running_mean is not None  # noqa: S101 - statistics are tracked by default
        assert self.running_var is not None  # noqa: S101 - likewise
        x = x.float()
        n = self.ranks.total(torch.tensor(float(len(x)), device=x.device))
        mean = self.ranks.total(x.sum(dim=0)) / n
        centred = x - mean
        var = self.ranks.total((centred**2).sum(dim=0)) / n
        with torch.no_grad():
            assert self.momentum is not None  # noqa: S101 - the default
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        return centred / torch.sqrt(var + self.eps) * self.weight + self.bias
