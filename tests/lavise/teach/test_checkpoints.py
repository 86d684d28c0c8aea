"""A training that was killed goes on to the very mapper that it would have become."""

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lavise.cnn import TargetCnn
from lavise.errors import EnvironmentProblem
from lavise.progress import T
from lavise.teach.checkpoints import Checkpoint
from lavise.teach.fitting import Running
from lavise.teach.plan import Plan
from lavise.teach.teaching import teach
from lavise.teach.training import CONCEPTS_RECIPE, REGRESSION_RECIPE
from tests.full_disk import no_file_over
from tests.training_process import ARRAYS, PATIENT, train

ROOT = Path(__file__).parents[3]


def test_killed_at_random_moments(tmp_path: Path) -> None:
    expected = train(PATIENT)
    rng = np.random.default_rng(0)
    killed = 0
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.training_process", str(tmp_path)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            try:
                assert process.wait(rng.uniform(0.05, 0.5) if killed < 3 else 60) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
    assert killed >= 2
    found = np.load(tmp_path / "mapper.npz")
    for name in ARRAYS:
        np.testing.assert_array_equal(found[name], getattr(expected, name))


def test_one_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    """And leaves the mapper as it is."""
    told: list[str] = []
    epochs: list[int | None] = []

    def track(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        assert description == "mapper"
        epochs.append(total)
        return items

    kept = replace(PATIENT, checkpoint=Checkpoint(tmp_path / "mark.pt"), say=told.append)
    first = train(kept)
    again = train(replace(kept, track=track))
    assert epochs == [0]
    assert any("the training is done" in line for line in told)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))


class Interrupted:
    """A Track that is interrupted after some epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def __call__(
        self, items: Iterable[T], description: str, total: int | None = None
    ) -> Iterable[T]:
        """Interrupts the mapper, not the features."""
        del total
        for done, item in enumerate(items):
            if description == "mapper" and done == self.epochs:
                raise KeyboardInterrupt
            yield item


@pytest.fixture
def plan(tiny_pictures: Path, tiny_words: Path, stem: str, body: str) -> Plan:
    return Plan(
        datasets=(f"folder:{tiny_pictures}", "own-classes"),
        layers=(stem, body),
        words=f"file:{tiny_words}",
        vocabulary="all",
        recipe=replace(CONCEPTS_RECIPE, epochs=8),
    )


def test_a_teaching_of_several_layers_goes_on(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    """Also one whose first layer was done. What it leaves is removed with the bundle written."""
    expected = teach(open_cnn(), plan, tmp_path / "expected", log=tmp_path / "expected.csv")
    cache, out, log = tmp_path / "cache", tmp_path / "bundle", tmp_path / "log.csv"
    told: list[str] = []
    for epochs in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            teach(
                open_cnn(),
                plan,
                out,
                cache=cache,
                log=log,
                track=Interrupted(epochs),
                say=told.append,
            )
        assert not out.exists()
    assert len(list(cache.glob("training-*.pt"))) == 2
    bundle = teach(open_cnn(), plan, out, cache=cache, log=log, say=told.append)
    assert bundle.digest == expected.digest
    assert not list(cache.glob("training-*.pt"))
    assert [line.partition(":")[0] for line in told if "training" in line] == [
        "going on with epoch 4, step 1",  # the first layer, broken off after three epochs
        "the training is done",
        "going on with epoch 7, step 1",  # the second, broken off after six
    ]
    lines = [line.rpartition(",")[0] for line in log.read_text().splitlines()]
    assert lines == [
        line.rpartition(",")[0] for line in (tmp_path / "expected.csv").read_text().splitlines()
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"patience": 9},
        {"recipe": replace(CONCEPTS_RECIPE, epochs=9)},
        {"recipe": replace(CONCEPTS_RECIPE, epochs=8, dropout=0.2)},
        {"form": "regression", "recipe": replace(REGRESSION_RECIPE, epochs=8)},
    ],
)
def test_another_training_starts_anew(
    changes: dict[str, object], plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    one_layer = replace(plan, layers=plan.layers[:1])
    with pytest.raises(KeyboardInterrupt):
        teach(open_cnn(), one_layer, tmp_path / "a", cache=tmp_path, track=Interrupted(2))
    told: list[str] = []
    other = replace(one_layer, **changes)  # type: ignore[arg-type]
    teach(open_cnn(), other, tmp_path / "b", cache=tmp_path, say=told.append)
    assert not [line for line in told if line.startswith("going on")]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:500])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def a_list(file: Path) -> None:
    torch.save([1], file)


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)

    def __reduce__(self) -> tuple[Callable[[str, str], object], tuple[str, str]]:
        return open, (self.file, "w")


def bomb(file: Path) -> None:
    file.write_bytes(pickle.dumps({"mlp": Bomb(file.with_name("exploded"))}))


def saved_bomb(file: Path) -> None:
    torch.save({"mlp": Bomb(file.with_name("exploded"))}, file)


@pytest.mark.parametrize("harm", [cut, empty, a_list, bomb, saved_bomb])
def test_a_checkpoint_that_is_none(harm: Callable[[Path], None], tmp_path: Path) -> None:
    mark = Checkpoint(tmp_path / "mark.pt")
    mark.save({"mlp": {"W": torch.ones(200, 3)}, "epoch": 3})
    found = mark.load()
    assert found is not None
    assert found["epoch"] == 3
    harm(mark.file)
    assert mark.load() is None
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_keeps_the_last_one(tmp_path: Path) -> None:
    mark = Checkpoint(tmp_path / "folder" / "mark.pt")
    mark.save({"epoch": 1})
    with no_file_over(2000), pytest.raises(EnvironmentProblem, match="could not be written") as e:
        mark.save({"epoch": 2, "x": torch.ones(10_000)})
    assert e.value.field == "cache"
    assert mark.load() == {"epoch": 1}
    assert [file.name for file in mark.file.parent.iterdir()] == ["mark.pt"]


def test_it_is_due_after_a_while(tmp_path: Path) -> None:
    mark = Checkpoint(tmp_path / "mark.pt", every_s=0.05)
    assert not mark.due()
    time.sleep(0.06)
    assert mark.due()
    mark.save({})
    assert not mark.due()


def test_running_plainly_keeps_nothing() -> None:
    assert Running().checkpoint is None
