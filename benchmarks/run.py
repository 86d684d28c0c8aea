"""Runs the benchmarks, prints them as a table and writes build/bench.json.

    python benchmarks/run.py                    every row
    python benchmarks/run.py --only NAME        one; the others in the file stay
    python benchmarks/run.py --quality          how good the words are: build/bench-quality.json
    python benchmarks/run.py --docs             no run: both files' tables go into the docs

A module of rows lists them as ``ROWS``: name to a function that measures and returns them.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import (
    bias,
    catalog,
    companion,
    explain,
    published_loop,
    quality,
    teach,
    torchserve,
    word_quality,
    word_sources,
)
from benchmarks.harness import BUILD, ROOT, machine, read_report, write_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.harness import Bench, Row

MODULES: Final = (
    explain,
    published_loop,
    catalog,
    torchserve,
    quality,
    bias,
    companion,
    teach,
)
BENCHES: Final[dict[str, Bench]] = {
    name: bench for module in MODULES for name, bench in module.ROWS.items()
}
REPORT: Final = BUILD / "bench.json"
QUALITY: Final[dict[str, Bench]] = word_quality.ROWS | word_sources.ROWS
QUALITY_REPORT: Final = BUILD / "bench-quality.json"
DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; see the module."""
    parser = argparse.ArgumentParser(description="Measure LaViSE against its baselines.")
    parser.add_argument(
        "--only", metavar="NAME", choices=[*BENCHES, *QUALITY], help=", ".join([*BENCHES, *QUALITY])
    )
    parser.add_argument("--quality", action="store_true", help="the rows of bench-quality.json")
    parser.add_argument(
        "--docs", action="store_true", help="put the tables of what was measured into the docs"
    )
    asked = parser.parse_args(arguments)
    if asked.docs:
        text = DOCUMENT.read_text(encoding="utf-8")
        for place, file in (("table", REPORT), ("quality", QUALITY_REPORT)):
            if file.is_file():
                text = with_table(text, *read_report(file), place=place)
        DOCUMENT.write_text(text, encoding="utf-8")
        return
    console = Console(width=max(Console().width, 140))
    found = machine()
    quality = asked.quality or asked.only in QUALITY
    benches, report = (QUALITY, QUALITY_REPORT) if quality else (BENCHES, REPORT)
    measured: list[str] = []
    for name in [asked.only] if asked.only else list(benches):
        console.print(f"measuring {name} ...", style="dim")
        rows = list(benches[name]())
        measured += [row.name for row in rows]
        write_report(report, rows, found)  # after each: a later one that fails loses nothing
    rows = [row for row in read_report(report)[0] if row.name in measured]
    console.print(_table(rows, found))
    console.print(f"{sum(row.ok for row in rows)} of {len(rows)} rows reach their bar; {report}")


def _table(rows: Iterable[Row], machine_found: Mapping[str, Any]) -> Table:
    table = Table(title=machine_line(machine_found), show_lines=True)
    for heading in ("row", "value", "bar", "spread", "", "against"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        mark = "[green]ok[/]" if row.ok else "[red]missed[/]"
        table.add_row(row.name, *_cells(row), mark, row.baseline)
    return table


def _cells(row: Row) -> tuple[str, str, str]:
    low, high = row.spread
    return f"{row.value:,g} {row.unit}", f"{row.sign} {row.bar:,g}", f"{low:,g} to {high:,g}"


def machine_line(found: Mapping[str, Any]) -> str:
    """The machine in a sentence's length."""
    gpu = f", {found['gpu']}" if found["gpu"] else ""
    return (
        f"{found['cpu']}, {found['cores']} cores, load {found['load']} at the start{gpu}; "
        f"ONNX Runtime {found['onnxruntime']}, {found['provider']}; {found['system']}"
    )


def with_table(
    text: str, rows: Sequence[Row], machine_found: Mapping[str, Any], *, place: str = "table"
) -> str:
    """Puts the rows between the marks of a Markdown document.

    Args:
        text: The document, with both marks in it.
        rows: From read_report().
        machine_found: Likewise.
        place: What the marks are called.

    Returns:
        The document with the new table.
    """
    begin, end = f"<!-- {place}: begin -->", f"<!-- {place}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    lines = [f"Measured on: {machine_line(machine_found)}.", ""]
    lines += [
        "| row | value | bar | least to greatest round | | against |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        value, bar, spread = _cells(row)
        mark = "reached" if row.ok else "**missed**"
        lines.append(f"| {row.name} | {value} | {bar} | {spread} | {mark} | {row.baseline} |")
    table = "\n".join(lines)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


if __name__ == "__main__":
    main()
