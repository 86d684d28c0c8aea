"""``lavise evaluate``."""

import shutil
from pathlib import Path

import pytest

from lavise.bundle import open_bundle
from lavise.evaluate.evaluation import EvaluationOptions
from lavise.evaluate.evaluation import evaluate as evaluate_bundle
from lavise.evaluate.report import Evaluation
from lavise.teach.datasets import DemoDataset, FolderDataset
from tests.command_line import lavise, refused


def test_json_is_an_evaluation(tiny_bundle: Path, tiny_pictures: Path) -> None:
    spec = f"folder:{tiny_pictures}"
    result = lavise("evaluate", tiny_bundle, "--dataset", spec, "--seed", "3", "--json")
    assert result.exit_code == 0, result.stderr
    found = Evaluation.model_validate_json(result.stdout)
    assert found == evaluate_bundle(
        open_bundle(tiny_bundle), FolderDataset(tiny_pictures), EvaluationOptions(seed=3)
    )
    assert [layer.layer for layer in found.layers] == ["stem", "body"]
    assert any("was taught on" in note for note in found.notes)


def test_table_and_page(tiny_bundle: Path, tiny_pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "evaluation.html"
    result = lavise(
        "evaluate", tiny_bundle, "--dataset", f"folder:{tiny_pictures}", "--images", "20",
        "--unseen", "0.3", "--html", page,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "20 images, 6 categories (6 seen, 0 unseen)" in result.stdout
    assert "Nothing is unseen" in result.stdout
    assert "words, matched attention" in result.stdout
    assert "AUPRC" in result.stdout
    assert str(page) in result.stderr
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") > 20
    assert "Nothing is unseen" in text


def test_demo_scenes_are_none_that_are_taught(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[tuple[str, int, int]] = []
    fetch = DemoDataset.fetch

    def watched(self: DemoDataset, position: int, size: int) -> object:
        fetched.append((self.split, self.seed, self.n_scenes))
        return fetch(self, position, size)

    monkeypatch.setattr(DemoDataset, "fetch", watched)
    result = lavise(
        "evaluate", tiny_bundle, "--dataset", "demo", "--images", "6", "--seed", "2", "--json"
    )
    # The tiny vocabulary shares few words with the demo's categories, but some.
    assert result.exit_code == 0, result.stderr
    assert set(fetched) == {("held-out", 2, 6)}
    assert not any(
        "was taught on" in note for note in Evaluation.model_validate_json(result.stdout).notes
    )


def test_what_is_refused(tiny_bundle: Path, tiny_pictures: Path, tmp_path: Path) -> None:
    folder = f"folder:{tiny_pictures}"
    refused(lavise("evaluate", tiny_bundle, "--dataset", "nonsense"), "'nonsense'")
    refused(lavise("evaluate", tiny_bundle, "--dataset", "own-classes"), "no annotated image")
    shutil.copytree(tiny_pictures / "snow", tmp_path / "other" / "bolide")
    refused(lavise("evaluate", tiny_bundle, "--dataset", f"folder:{tmp_path / 'other'}"), "bolide")
    for option, value in (("--unseen", "1.5"), ("--images", "0"), ("--thresholds", "mine")):
        result = lavise("evaluate", tiny_bundle, "--dataset", folder, option, value)
        assert result.exit_code == 2
        assert option in result.stderr


def test_a_page_that_cannot_be_written(
    tiny_bundle: Path, tiny_pictures: Path, tmp_path: Path
) -> None:
    page = tmp_path / "none" / "page.html"
    result = lavise(
        "evaluate", tiny_bundle, "--dataset", f"folder:{tiny_pictures}", "--images", "2",
        "--html", page,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "could not be written" in result.stderr
