"""The loop that fits a mapper's network: batches, optimiser, schedule, and what a kill leaves."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from lavise.progress import Track, silent
from lavise.teach.batches import WINDOW, Batches
from lavise.teach.parallel import ALONE, Ranks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lavise.mapper import MapperWeights
    from lavise.teach.batches import Batch
    from lavise.teach.checkpoints import Checkpoint
    from lavise.teach.examples import Source
    from lavise.teach.mlp import Mlp
    from lavise.teach.recipes import Recipe
    from lavise.teach.training_log import TrainingLog

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Running:
    """How a training is run; none of it decides on what comes out, but for ``patience``.

    Attributes:
        track: Shows progress.
        say: Told what a person should know.
        ranks: The processes that share it.
        device: Where the network is.
        precision: Of products; float32 where None. bfloat16 keeps float32's range; float16 does
            not, so that its gradients are scaled.
        checkpoint: Where it goes on after a kill, and leaves marks for the next.
        log: Has a line for each epoch.
        judge: recall@5 of a mapper on what is held out, where something is.
        patience: Epochs without a better judgement after which it stops, at the best mapper; 0:
            never.
        window: Rows that may be in memory.
    """

    track: Track = silent
    say: Callable[[str], None] = field(default=lambda _: None)
    ranks: Ranks = ALONE
    device: torch.device = _CPU
    precision: torch.dtype | None = None
    checkpoint: Checkpoint | None = None
    log: TrainingLog | None = None
    judge: Callable[[MapperWeights], float] | None = None
    patience: int = 0
    window: int = WINDOW


PLAINLY = Running()


def fit(
    mlp: Mlp,
    loss: Callable[[torch.Tensor, Batch], torch.Tensor],
    fixed: Callable[[torch.Tensor], torch.Tensor],
    made: Callable[[], MapperWeights],
    source: Source,
    recipe: Recipe,
    seed: int,
    running: Running,
) -> None:
    """Fits a network; it ends in eval mode, on the CPU.

    Args:
        mlp: The network, freshly drawn.
        loss: Its output and a batch to the mean loss of the batch.
        fixed: Features to logits that are not learned.
        made: The mapper that the network is now.
        source: Examples; at least two, or nothing is fitted.
        recipe: How.
        seed: Of the order of the examples.
        running: How it is run.

    Raises:
        EnvironmentProblem: A checkpoint or the log cannot be written.
    """
    if len(source) > 1:
        _Fit(mlp, loss, fixed, made, source, recipe, seed, running).run()
    mlp.to(_CPU).eval()


class _Fit:
    def __init__(
        self,
        mlp: Mlp,
        loss: Callable[[torch.Tensor, Batch], torch.Tensor],
        fixed: Callable[[torch.Tensor], torch.Tensor],
        made: Callable[[], MapperWeights],
        source: Source,
        recipe: Recipe,
        seed: int,
        running: Running,
    ) -> None:
        self._mlp, self._loss, self._made, self._running = mlp, loss, made, running
        self._recipe = recipe
        mlp.to(running.device)
        mlp.share(running.ranks)
        self._batches = Batches(
            source, recipe.batch, fixed, running.device, running.window, recipe.shift
        )
        self._optimiser = torch.optim.AdamW(
            mlp.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._schedule = (
            torch.optim.lr_scheduler.OneCycleLR(
                self._optimiser,
                recipe.learning_rate,
                total_steps=recipe.epochs * self._batches.steps,
            )
            if recipe.one_cycle
            else None
        )
        self._scaler = torch.amp.GradScaler(
            running.device.type, enabled=running.precision is torch.float16
        )
        self._generator = torch.Generator().manual_seed(seed)
        self._epoch = 0
        self._step = 0  # within the epoch
        self._order = self._generator.get_state()  # at the beginning of the epoch
        self._losses = torch.zeros((), dtype=torch.float64)
        self._best = float("-inf")
        self._best_epoch = 0
        self._best_state: dict[str, torch.Tensor] = {}
        self._seconds = 0.0
        self._stopped = False

    def run(self) -> None:
        running = self._running
        self._resume()
        if running.log is not None and running.ranks.leads:
            running.log.begin(self._epoch)
        self._mlp.train()
        began = time.monotonic() - self._seconds
        for _ in running.track(self._epochs(), "mapper", self._recipe.epochs - self._epoch):
            self._seconds = time.monotonic() - began
            self._finish_epoch()
            self._save()
        if self._best_state:
            self._mlp.load_state_dict(self._best_state)

    def _epochs(self) -> Iterator[None]:
        while self._epoch < self._recipe.epochs and not self._stopped:
            self._order = self._generator.get_state()
            self._run_epoch()
            yield

    def _run_epoch(self) -> None:
        """The epoch's remaining steps; those that a killed run took only move the order on."""
        skipped, self._step = self._step, 0
        checkpoint = self._running.checkpoint
        for batch in self._batches.epoch(self._generator):
            self._step += 1
            if self._step <= skipped:
                continue
            self._take(batch)
            if checkpoint is not None and checkpoint.due():
                self._save()

    def _take(self, batch: Batch) -> None:
        ranks = self._running.ranks
        own = batch[ranks.share(len(batch))]
        self._optimiser.zero_grad(set_to_none=True)
        with torch.autocast(
            self._running.device.type,
            dtype=self._running.precision,
            enabled=self._running.precision is not None,
        ):
            out = self._mlp(own.x, len(batch))
        # Softmax and cosines in float32, whatever the products were in.
        share = len(own) / len(batch)
        loss = self._loss(out.float(), own) * share if len(own) else out.float().sum()
        self._scaler.scale(loss).backward()
        ranks.add_gradients(self._mlp.parameters())
        self._scaler.step(self._optimiser)
        self._scaler.update()
        if self._schedule is not None:
            self._schedule.step()
        self._losses += loss.detach().double().cpu()

    def _finish_epoch(self) -> None:
        running = self._running
        self._epoch, self._step = self._epoch + 1, 0
        loss = float(running.ranks.total(self._losses)) / self._batches.steps
        self._losses.zero_()
        recall = self._judged()
        if running.log is not None and running.ranks.leads:
            steps = self._epoch * self._batches.steps
            rate = self._optimiser.param_groups[0]["lr"]
            running.log.add(self._epoch, steps, loss, rate, recall, self._seconds)
        if not running.patience or recall is None:
            return
        if recall > self._best:
            self._best, self._best_epoch = recall, self._epoch
            self._best_state = {k: v.detach().clone() for k, v in self._mlp.state_dict().items()}
        elif self._epoch - self._best_epoch >= running.patience:
            self._stopped = True
            running.say(
                f"stopped after epoch {self._epoch}: none since epoch {self._best_epoch} was better"
            )

    def _judged(self) -> float | None:
        running = self._running
        if running.judge is None or not (running.patience or running.log is not None):
            return None
        found = 0.0
        if running.ranks.leads:
            self._mlp.eval()
            found = running.judge(self._made())
            self._mlp.train()
        return running.ranks.told(found)

    def _save(self) -> None:
        checkpoint = self._running.checkpoint
        if checkpoint is None or not self._running.ranks.leads:
            return
        checkpoint.save(
            {
                "mlp": self._mlp.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict() if self._schedule else {},
                "scaler": self._scaler.state_dict(),
                "random": torch.get_rng_state(),
                "order": self._order if self._step else self._generator.get_state(),
                "losses": self._losses,
                "best_state": self._best_state,
                **{name: getattr(self, f"_{name}") for name in _NUMBERS},
            }
        )

    def _resume(self) -> None:
        checkpoint, ranks = self._running.checkpoint, self._running.ranks
        state: dict[str, Any] | None = checkpoint.load() if checkpoint is not None else None
        ranks.wait()  # all have read it before one writes the next
        if state is None:
            return
        self._mlp.load_state_dict(state["mlp"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self._generator.set_state(state["order"])
        if ranks.leads:  # the others' losses are in the leader's sum no more: see _finish_epoch
            self._losses = state["losses"]
        self._best_state = state["best_state"]
        for name in _NUMBERS:
            setattr(self, f"_{name}", state[name])
        assert checkpoint is not None  # noqa: S101 - the state is of it
        done = self._epoch == self._recipe.epochs or self._stopped
        where = f"going on with epoch {self._epoch + 1}, step {self._step + 1}"
        self._running.say(f"{'the training is done' if done else where}: {checkpoint.file}")


_NUMBERS = ("epoch", "step", "best", "best_epoch", "seconds", "stopped")
