import itertools
import json
from pathlib import Path

import pytest

from benchmarks import harness, run
from benchmarks.harness import ROUNDS, Row, at_least, at_most, machine, paired, read_report

KEYS = ["name", "value", "bar", "unit", "ok", "spread", "baseline"]


def row(name: str, value: float = 1.0) -> Row:
    return at_most(name, [value], bar=2.0, unit="x", baseline="nothing")


def test_value_is_the_median_and_spread_its_extremes() -> None:
    found = at_most("r", [1.0, 9.0, 2.0], bar=2.0, unit="x", baseline="b")
    assert (found.value, found.spread, found.ok, found.sign) == (2.0, (1.0, 9.0), True, "≤")


@pytest.mark.parametrize(("value", "most", "least"), [(1.0, True, False), (3.0, False, True)])
def test_bars_can_be_read_either_way(value: float, *, most: bool, least: bool) -> None:
    below = at_most("r", [value], bar=2.0, unit="x", baseline="b")
    above = at_least("r", [value], bar=2.0, unit="x", baseline="b")
    assert (below.ok, above.ok) == (most, least)
    assert (below.sign, above.sign) == ("≤", "≥")


def test_rounds_take_turns_and_leave_the_warm_up_out() -> None:
    called: list[str] = []
    seconds = itertools.count(1)

    def one(name: str) -> float:
        called.append(name)
        return float(next(seconds))

    rounds = paired(lambda: one("b"), lambda: one("c"), rounds=2, calls=3, warm_up=1)

    assert called == ["b", "c"] * 7
    # After the warm-up (1, 2) come 3 to 8 and 9 to 14, in turn.
    assert [(r.baseline, r.candidate) for r in rounds] == [(5.0, 6.0), (11.0, 12.0)]


def test_a_call_that_gives_no_time_is_timed() -> None:
    rounds = paired(lambda: None, lambda: None)
    assert len(rounds) == ROUNDS >= 7
    assert all(0 < r.baseline < 1 for r in rounds)


def test_report_has_the_promised_form(tmp_path: Path) -> None:
    path = tmp_path / "build" / "bench.json"
    harness.write_report(path, [row("a", 1.23456789)], machine())

    report = json.loads(path.read_text())

    assert list(report) == ["rows", "machine"]
    [only] = report["rows"]
    assert list(only) == KEYS
    assert only == {
        "name": "a",
        "value": 1.235,
        "bar": 2.0,
        "unit": "x",
        "ok": True,
        "spread": [1.235, 1.235],
        "baseline": "nothing",
    }
    assert {"cpu", "cores", "onnxruntime", "provider", "gpu"} <= report["machine"].keys()
    assert [path] == list(path.parent.iterdir())


def test_other_rows_stay(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    harness.write_report(path, [row("a"), row("b")], {"cpu": "old"})
    merged = harness.write_report(path, [row("c"), row("a", 5.0)], {"cpu": "new"})

    assert merged == [row("a", 5.0), row("b"), row("c")]
    assert read_report(path) == (merged, {"cpu": "new"})


def test_no_report_is_no_rows(tmp_path: Path) -> None:
    assert read_report(tmp_path / "bench.json") == ([], {})


@pytest.fixture
def three_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two benchmarks, one of two rows; build/bench.json lies in a folder of the test."""
    benches = {"one": lambda: [row("one")], "two": lambda: [row("two"), row("two-more", 3.0)]}
    monkeypatch.setattr(run, "BENCHES", benches)
    monkeypatch.setattr(run, "REPORT", tmp_path / "bench.json")
    return tmp_path / "bench.json"


def names(path: Path) -> list[str]:
    return [found.name for found in read_report(path)[0]]


def test_all_benchmarks_run(three_rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.main([])
    assert names(three_rows) == ["one", "two", "two-more"]
    printed = capsys.readouterr().out
    assert "missed" in printed
    assert "2 of 3 rows reach their bar" in printed


def test_only_runs_one_and_keeps_the_rest(
    three_rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness.write_report(three_rows, [row("kept"), row("two", 9.0)], machine())
    run.main(["--only", "two"])
    assert names(three_rows) == ["kept", "two", "two-more"]
    assert read_report(three_rows)[0][1].value == 1.0
    assert "kept" not in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_the_known_ones(
    three_rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "three"])
    assert not three_rows.exists()
    message = capsys.readouterr().err
    assert "three" in message
    assert "two" in message


def test_what_was_measured_survives_a_failure(
    three_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> list[Row]:
        raise RuntimeError("no server")

    monkeypatch.setitem(run.BENCHES, "two", fail)
    with pytest.raises(RuntimeError, match="no server"):
        run.main([])
    assert names(three_rows) == ["one"]


def test_the_document_takes_the_table(
    three_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "benchmarks.md"
    monkeypatch.setattr(run, "DOCUMENT", document)
    monkeypatch.setattr(run, "QUALITY_REPORT", tmp_path / "none.json")
    document.write_text("before\n<!-- table: begin -->old<!-- table: end -->\nafter\n")
    harness.write_report(three_rows, [row("a"), row("b", 3.0)], machine())

    run.main(["--docs"])
    text = document.read_text()
    run.main(["--docs"])

    assert text == document.read_text()
    assert "old" not in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| a | 1 x | ≤ 2 | 1 to 1 | reached | nothing |" in text
    assert "| b | 3 x | ≤ 2 | 3 to 3 | **missed** | nothing |" in text


def test_every_benchmark_has_one_name() -> None:
    assert len(run.BENCHES) == sum(len(module.ROWS) for module in run.MODULES)
