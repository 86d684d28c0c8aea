"""``lavise teach``: how it is run. What it makes is in tests/lavise/test_cli.py."""

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lavise.bundle import open_bundle
from lavise.catalog import load_mapper
from lavise.mapper import Form
from tests.command_line import LAVISE, lavise

Graph = tuple[Path, list[str]]


@pytest.fixture
def spec(graph: Graph, tiny_pictures: Path, tiny_words: Path, tmp_path: Path) -> list[str]:
    """A teaching, all but where it goes."""
    options = {
        "--cnn": f"onnx:{graph[0]}",
        "--tap": graph[1][1],
        "--dataset": f"folder:{tiny_pictures}",
        "--words": f"file:{tiny_words}",
        "--vocabulary": "all",
        "--cache": str(tmp_path / "cache"),
    }
    return [word for pair in options.items() for word in pair]


@pytest.mark.parametrize(
    ("form", "loss", "epochs"),
    [
        ("concepts", "cross-entropy", 14),
        ("regression", "cosine-cross-entropy", 12),
        ("regression", "hinge", 20),
    ],
)
def test_each_loss_is_taught_by_its_recipe(
    form: Form, loss: str, epochs: int, spec: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    options = ["--mapper", form, "--loss", loss, "--log", log, "--workers", "1"]
    result = lavise("teach", *spec, *options, "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    [entry] = open_bundle(tmp_path / "bundle").manifest.mappers
    assert (entry.form, entry.loss) == (form, loss)
    with log.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    assert {row["layer"] for row in rows} == {entry.layer}


def test_another_run_uses_the_features_again(spec: list[str], tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        result = lavise("teach", *spec, "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        assert ("using the features in" in result.stderr) == (name == "two")
        digests.append(open_bundle(tmp_path / name).digest)
    assert digests[0] == digests[1]


def test_nothing_is_kept_without_a_cache(spec: list[str], tmp_path: Path) -> None:
    without = spec[: spec.index("--cache")]
    for name, options in (("one", without), ("two", spec)):
        assert lavise("teach", *options, "--out", tmp_path / name).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "cache"}
    one, two = (open_bundle(tmp_path / name) for name in ("one", "two"))
    assert one.digest == two.digest
    assert not (one.path / "features").exists()


def test_epochs_and_patience(spec: list[str], tmp_path: Path) -> None:
    """A plateau of recall@5 on six colours comes early."""
    log = tmp_path / "log.csv"
    options: list[str | Path] = ["--epochs", "300", "--patience", "3", "--log", log]
    result = lavise("teach", *spec, *options, "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.stderr
    epochs = len(log.read_text().splitlines()) - 1
    assert 4 <= epochs < 300
    assert f"stopped after epoch {epochs}: none since epoch {epochs - 3}" in result.stderr


@pytest.mark.teach
def test_killed_at_any_moment_it_goes_on(spec: list[str], tmp_path: Path) -> None:
    """While it exports, extracts, trains or writes."""
    # As processes all: this one may have another number of threads, so another order of sums.
    command: list[str | Path] = [LAVISE, "teach", *spec, "--epochs", "600"]
    cached = command.index("--cache")
    undisturbed = [*command[:cached], *command[cached + 2 :], "--out", tmp_path / "expected"]
    subprocess.run(undisturbed, stderr=subprocess.DEVNULL, check=True)
    out, rng = tmp_path / "bundle", np.random.default_rng(0)
    kills = 0
    for attempt in range(10):
        last = attempt >= 4
        with subprocess.Popen([*command, "--out", out], stderr=subprocess.DEVNULL) as process:
            try:
                assert process.wait(120 if last else rng.uniform(3, 9)) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
    assert kills
    found, expected = open_bundle(out), open_bundle(tmp_path / "expected")
    [entry] = found.manifest.mappers
    one, other = (load_mapper(bundle, entry) for bundle in (found, expected))
    np.testing.assert_array_equal(one.W_first, other.W_first)
    assert found.digest == expected.digest
