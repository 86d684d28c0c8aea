"""The page and the picture of a run."""

import xml.etree.ElementTree as ET
from pathlib import Path

from reliability.records import Event, Run
from reliability.report import write_report
from tests.reliability.sample_run import PLAN, good_run

SVG = "{http://www.w3.org/2000/svg}"


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = good_run()
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run


def test_the_page_says_what_happened(tmp_path: Path) -> None:
    run = good_run()
    run.kept["wrong"] = ["imageSets/a-v1: other pixels"]
    write_report(run, PLAN, tmp_path)
    page = (tmp_path / "reliability.md").read_text()
    assert "| no wrong answer | yes |" in page
    assert "| no lost accepted upload | **no** |" in page
    assert "1 are wrong: imageSets/a-v1: other pixels" in page
    assert page.count("| worker killed | 8 UNAVAILABLE |") == 9
    assert "| companion 2 | 0 MiB | 0 MiB | +4.0% | 0 MiB | 0 MiB |" in page
    assert "\n\n\n" not in page


def test_the_picture_shows_each_fault(tmp_path: Path) -> None:
    write_report(good_run(), PLAN, tmp_path)
    picture = ET.parse(tmp_path / "reliability.svg")  # noqa: S314 - our own
    texts = [element.text for element in picture.iter(f"{SVG}text")]
    assert texts.count("w") == 9
    assert {"TorchServe killed", "store read-only", "burst of 10 x", "minutes"} <= set(texts)
    assert len(list(picture.iter(f"{SVG}path"))) == 2


def test_a_time_without_answers_is_a_gap(tmp_path: Path) -> None:
    run = good_run()
    run.calls = [call for call in run.calls if not 300 <= call.due < 320]
    run.events = [Event("worker", 60, 60)]
    write_report(run, PLAN, tmp_path)
    picture = ET.parse(tmp_path / "reliability.svg")  # noqa: S314 - our own
    p99 = [path.get("d", "") for path in picture.iter(f"{SVG}path")][1]
    assert p99.count("M") == 2
