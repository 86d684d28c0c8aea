"""Two processes teach what one teaches. They are real ones, started by torchrun, over gloo."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from lavise.bundle import Bundle, open_bundle
from lavise.catalog import load_mapper
from lavise.errors import EnvironmentProblem
from lavise.teach.fitting import Running
from lavise.teach.parallel import ALONE, Ranks, SharedBatchNorm, joined, leads
from lavise.teach.plan import Plan
from tests.rank_process import bundle, norm_step
from tests.training_process import ARRAYS, train

ROOT = Path(__file__).parents[3]


def torchrun(world: int, *arguments: str) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={world}", "-m", "tests.rank_process", *arguments),
        ],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
    )


@pytest.mark.parametrize(("world", "n"), [(2, 7), (3, 2)])
def test_statistics_are_of_all_rows(world: int, n: int, tmp_path: Path) -> None:
    """Forward and backward, also where shares differ, and where a process has no row."""
    torchrun(world, "norm", str(tmp_path), str(n))
    found = [np.load(tmp_path / f"{rank}.npz") for rank in range(world)]
    plain = torch.nn.BatchNorm1d(3)
    with torch.no_grad():
        plain.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
    torch.manual_seed(0)
    x, weight = (5 + 2 * torch.randn(n, 3)).requires_grad_(), torch.randn(n, 3)
    y = plain(x)
    (y * weight).sum().backward()
    assert x.grad is not None
    for name, expected in (("y", y.detach()), ("x_grad", x.grad)):
        parts = np.concatenate([one[name] for one in found])
        np.testing.assert_allclose(parts, expected.numpy(), rtol=1e-4, atol=1e-4)
    for one in found:
        for name, value in (
            ("weight_grad", plain.weight.grad),
            ("bias_grad", plain.bias.grad),
            ("running_mean", plain.running_mean),
            ("running_var", plain.running_var),
        ):
            assert value is not None
            np.testing.assert_allclose(one[name], value.numpy(), rtol=1e-4, atol=1e-4)


def test_one_process_is_torch_itself() -> None:
    """To the last bit."""
    found = norm_step(ALONE, 9)
    plain = torch.nn.BatchNorm1d(3)
    torch.manual_seed(0)
    plain(5 + 2 * torch.randn(9, 3))
    assert plain.running_var is not None
    np.testing.assert_array_equal(found["running_var"], plain.running_var.numpy())


def test_two_processes_train_the_same_mapper(tmp_path: Path) -> None:
    """Dropout, an own part, several windows: all of a training."""
    torchrun(2, "training", str(tmp_path))
    expected = train(Running())
    one, other = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    for name in ARRAYS:
        np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_allclose(one[name], getattr(expected, name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kept", [False, True])
def test_two_processes_teach_the_same_bundle(
    *,
    kept: bool,
    graph: tuple[Path, list[str]],
    tiny_pictures: Path,
    tiny_words: Path,
    tmp_path: Path,
) -> None:
    plan = Plan(
        datasets=(f"folder:{tiny_pictures}", "own-classes", "demo"),
        layers=tuple(graph[1][:2]),
        words=f"file:{tiny_words}",
        vocabulary="all",
        demo_scenes=500,
    )
    plan_text = json.dumps({k: v for k, v in asdict(plan).items() if k != "recipe"})
    cache = str(tmp_path / "cache") if kept else ""
    bundle(str(tmp_path / "one"), str(graph[0]), plan_text, "")
    torchrun(2, "bundle", str(tmp_path / "two"), str(graph[0]), plan_text, cache)
    one, two = open_bundle(tmp_path / "one"), open_bundle(tmp_path / "two")
    assert [entry.concepts for entry in two.manifest.mappers] == [
        entry.concepts for entry in one.manifest.mappers
    ]
    for mine, theirs in zip(mappers(one), mappers(two), strict=True):
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert {p.name for p in tmp_path.iterdir()} - {"cache"} == {"one", "two"}
    if kept:
        assert len(list((tmp_path / "cache").glob("features-*/*.safetensors"))) == 2


def mappers(found: Bundle) -> list[tuple[np.ndarray, ...]]:
    loaded = [load_mapper(found, entry) for entry in found.manifest.mappers]
    return [tuple(getattr(mapper, name) for name in ARRAYS) for mapper in loaded]


@pytest.mark.parametrize("n", [0, 1, 2, 7, 256])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_make_up_the_whole(n: int, world: int) -> None:
    rows = list(range(n))
    shares = [rows[Ranks(rank, world).share(n)] for rank in range(world)]
    assert [row for share in shares for row in share] == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined(cuda=False) as ranks:
        assert ranks == ALONE
        assert ranks.leads
        assert ranks.told("x") == "x"
        ranks.wait()
    assert leads()
    monkeypatch.setenv("RANK", "1")
    assert not leads()


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(EnvironmentProblem, match=r"do not find each other.*MASTER_ADDR"),
        joined(cuda=False),
    ):
        pass


def test_evaluation_needs_nobody_else() -> None:
    """Statistics are then the running ones: a process may do it alone."""
    layer = SharedBatchNorm(2).eval()
    layer.ranks = Ranks(0, 2)
    assert layer(torch.ones(1, 2)).shape == (1, 2)
