"""``lavise compare``."""

import shutil
from pathlib import Path

import pytest

from lavise.v1.bias_pb2 import Report
from tests.command_line import lavise, parsed, refused
from tests.tiny_cnn import COLOURS, picture


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of 40 pictures; tomatoes are in A alone."""
    root = tmp_path_factory.mktemp("sets")
    for name, colours in (("A", ("tomato", "snow")), ("B", ("ocean", "snow"))):
        (root / name).mkdir()
        for i in range(40):
            image = picture(COLOURS[colours[i % 2]], 1000 * (name == "B") + i)
            image.save(root / name / f"{i:02}.png")
    (root / "B" / "broken.png").write_bytes(b"no image")
    return root / "A", root / "B"


def test_json_is_a_report(tiny_bundle: Path, folders: tuple[Path, Path]) -> None:
    result = lavise("compare", tiny_bundle, *folders, "--layer", "body", "--json")
    report = parsed(result, Report())
    assert (report.a.image_count, report.b.image_count, report.b.rejected_count) == (40, 40, 1)
    assert (report.a.display_name, report.b.display_name) == ("A", "B")
    assert {word.word for word in report.words[:2]} == {"tomato", "ocean"}
    assert report.findings[0].significant
    assert any("power is low" in caveat for caveat in report.caveats)
    assert "broken.png" in result.stderr
    again = lavise("compare", tiny_bundle, *folders, "--layer", "body", "--json")
    assert again.stdout == result.stdout


def test_table_and_page(tiny_bundle: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = lavise("compare", tiny_bundle, *folders, "--layer", "body", "--html", page)
    assert result.exit_code == 0, result.output
    assert "differ significantly" in result.stdout
    assert "tomato" in result.stdout
    text = page.read_text(encoding="utf-8")
    assert text.lower().startswith("<!doctype html>")
    assert "tomato" in text
    assert text.count("data:image") > 4


def test_bad_input(tiny_bundle: Path, folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = folders
    refused(lavise("compare", tiny_bundle, a, tmp_path), "no image")
    refused(lavise("compare", tiny_bundle, a, b, "--alpha", "7"), "alpha is 7")
    refused(lavise("compare", tiny_bundle, a, b, "--layer", "nose"), "stem, body")
    (tmp_path / "one").mkdir()
    shutil.copy(a / "00.png", tmp_path / "one")
    refused(lavise("compare", tiny_bundle, tmp_path / "one", b), "at least 2")
