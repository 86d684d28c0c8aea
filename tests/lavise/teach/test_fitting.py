"""How a training is run: when it stops, what it writes down, in which numbers it computes."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lavise.errors import EnvironmentProblem
from lavise.mapper import MapperWeights
from lavise.teach.fitting import Running
from lavise.teach.training import CONCEPTS_RECIPE, Examples, train_concepts
from lavise.teach.training_log import COLUMNS, TrainingLog
from tests.oracle import unit_rows

K, C = 6, 10
RECIPE = replace(CONCEPTS_RECIPE, epochs=12, batch=32)


def toy() -> tuple[Examples, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(K, C))
    concept = rng.integers(0, K, 320)
    x = (centres[concept] + rng.normal(size=(320, C))).astype(np.float32)
    E = unit_rows(rng.normal(size=(K, 8))).astype(np.float32)
    return Examples(x, concept), centres.astype(np.float32), E


def train(running: Running) -> MapperWeights:
    examples, _, E = toy()
    names = tuple(str(i) for i in range(K))
    return train_concepts(examples, E, names, None, seed=0, recipe=RECIPE, running=running)


class Judge:
    """Gives these judgements, and keeps the mappers that it was shown."""

    def __init__(self, *recalls: float) -> None:
        self.recalls = list(recalls)
        self.shown: list[MapperWeights] = []

    def __call__(self, weights: MapperWeights) -> float:
        self.shown.append(weights)
        return self.recalls[len(self.shown) - 1]


@pytest.mark.parametrize(
    ("recalls", "patience", "epochs", "best"),
    [
        ((0.1, 0.5, 0.4, 0.5, 0.9), 2, 4, 2),  # as good is not better
        ((0.1, 0.5, 0.4, 0.6, 0.5, 0.5), 2, 6, 4),
        ((0.3, 0.2), 1, 2, 1),
        (tuple(np.linspace(0, 1, 12)), 3, 12, 12),
        ((0.0, 0.0, 0.0), 2, 3, 1),
    ],
)
def test_it_stops_when_nothing_gets_better(
    recalls: tuple[float, ...], patience: int, epochs: int, best: int
) -> None:
    """At the mapper of the best epoch."""
    judge, told = Judge(*recalls), list[str]()
    mapper = train(Running(judge=judge, patience=patience, say=told.append))
    assert len(judge.shown) == epochs
    for name in ("W_first", "b_first", "W_second", "b_second"):
        found = getattr(mapper, name)
        np.testing.assert_array_equal(found, getattr(judge.shown[best - 1], name))
    assert [f"stopped after epoch {epochs}" in line for line in told] == [True] * (epochs < 12)


def test_without_patience_it_goes_on_to_the_end(tmp_path: Path) -> None:
    """And a judge changes nothing."""
    judge = Judge(*np.linspace(1, 0, 12))
    watched = train(Running(judge=judge, log=TrainingLog(tmp_path / "log.csv", "x")))
    assert len(judge.shown) == 12
    np.testing.assert_array_equal(watched.W_first, train(Running()).W_first)


def test_nobody_is_asked_where_nobody_wants_to_know() -> None:
    judge = Judge()
    train(Running(judge=judge))
    assert judge.shown == []


def test_patience_without_anything_held_out() -> None:
    whole = train(Running(patience=1))
    np.testing.assert_array_equal(whole.W_first, train(Running()).W_first)


def test_the_course_of_a_training(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    train(Running(judge=Judge(*[0.25] * 12), log=TrainingLog(file, "layer4")))
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 13)]
    assert [row["step"] for row in rows[:2]] == ["16", "32"]  # 320 examples in batches of 20
    losses = [float(row["loss"]) for row in rows]
    assert losses[0] > 1.2  # log K is 1.8
    assert 0 < losses[-1] < 0.5
    rates = [float(row["learning_rate"]) for row in rows]
    assert max(rates) == pytest.approx(1e-3, rel=0.1)
    assert rates[-1] < 1e-5
    assert {row["held_out_recall@5"] for row in rows} == {"0.2500"}
    assert {row["layer"] for row in rows} == {"layer4"}
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)


def test_layers_share_a_log(tmp_path: Path) -> None:
    """A layer that is taught again has its lines once; other layers keep theirs."""
    file = tmp_path / "log.csv"
    for layer in ("a", "b,c"):
        log = TrainingLog(file, layer)
        log.begin(0)
        for epoch in (1, 2, 3):
            log.add(epoch, 10 * epoch, 1.0, 0.1, None, 2.0)
    TrainingLog(file, "b,c").begin(1)
    with file.open(newline="") as stream:
        rows = [row[:2] for row in csv.reader(stream)]
    assert rows == [["layer", "epoch"], ["a", "1"], ["a", "2"], ["a", "3"], ["b,c", "1"]]


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.touch()
    TrainingLog(file, "x").begin(0)
    assert file.read_text().splitlines() == [",".join(COLUMNS)]


@pytest.mark.parametrize(
    "data",
    [
        b"my,own,numbers\n1,2,3\n",
        b"\xff\xfe\x00",
        b"a" * 200_000,
        ",".join(COLUMNS).encode() + b"\nx,first,1,1,1,1,1\n",
        ",".join(COLUMNS).encode() + b"\nx,1\n",
    ],
)
def test_a_file_that_is_something_else_is_kept(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(data)
    with pytest.raises(EnvironmentProblem, match=r"log\.csv.*name another file") as caught:
        TrainingLog(file, "x").begin(0)
    assert caught.value.field == "log"
    assert file.read_bytes() == data


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "no" / "log.csv"):
        with pytest.raises(EnvironmentProblem, match="could not be written") as caught:
            TrainingLog(file, "x").begin(0)
        assert caught.value.field == "log"


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_teaches_the_same_on_a_cpu(precision: torch.dtype) -> None:
    _, centres, E = toy()
    mapper = train(Running(precision=precision))
    assert (mapper(centres) @ E.T).argmax(axis=1).tolist() == list(range(K))
    assert (mapper.W_first != train(Running()).W_first).any()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_a_gpu_teaches_the_same(precision: torch.dtype | None) -> None:
    _, centres, E = toy()
    there = Running(device=torch.device("cuda", 0), precision=precision)
    mapper = train(there)
    assert (mapper(centres) @ E.T).argmax(axis=1).tolist() == list(range(K))
    if precision is None:
        np.testing.assert_allclose(mapper(centres), train(Running())(centres), atol=0.02)
