"""A comparison's report for a person at a terminal."""

from collections.abc import Iterator
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lavise.cli.output import shown
from lavise.v1.bias_pb2 import FilterDifference, Finding, Report, WordDifference

_ROWS: Final = 10


def report_view(report: Report) -> RenderableType:
    """Findings and filters, the strongest first.

    Args:
        report: The report.

    Returns:
        A sentence, the caveats, and two tables.
    """
    a, b = report.a, report.b
    title = (
        f"A {shown(a.display_name)} ({a.image_count:,} images), "
        f"B {shown(b.display_name)} ({b.image_count:,} images), layer {shown(report.layer)}"
    )
    parts: list[RenderableType] = [Text(title, style="bold"), Text(_verdict(report))]
    parts += [Text(f"note: {shown(caveat)}", style="yellow") for caveat in report.caveats]
    parts.append(_findings(report))
    if report.filters:
        parts.append(_filters(report))
    return Group(*parts)


def _verdict(report: Report) -> str:
    if not (report.significant_words or report.significant_filters):
        return f"Nothing differs significantly at alpha {report.alpha:g}; the strongest hints are:"
    words = _counted(report.significant_words, "word")
    filters = _counted(report.significant_filters, "filter")
    return f"{words} and {filters} differ significantly at alpha {report.alpha:g}; strongest first:"


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _findings(report: Report) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("more in")
    table.add_column("words", ratio=2)
    table.add_column("mean score A, B", justify="right")
    table.add_column("difference (interval)", justify="right")
    table.add_column("p", justify="right")
    table.add_column("examples", ratio=2)
    table.add_column("filters")
    by_word = {word.word: word for word in report.words}
    for finding in report.findings[:_ROWS]:
        word = by_word[finding.words[0]]
        table.add_row(
            "A" if finding.difference > 0 else "B",
            ", ".join(map(shown, finding.words[:5])),
            f"{word.mean_a:.3f}, {word.mean_b:.3f}",
            f"{word.difference:+.3f} ({word.low:+.3f}, {word.high:+.3f})",
            f"{word.p_value:.3f}{'*' * finding.significant}",
            ", ".join(_examples(finding, word)),
            ", ".join(str(index) for index in finding.filters[:4]),
        )
    return table


def _examples(finding: Finding, word: WordDifference) -> Iterator[str]:
    found = word.examples_a if finding.difference > 0 else word.examples_b
    return (shown(example.source) for example in found[:2])


def _filters(report: Report) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("filter", no_wrap=True)
    table.add_column("rate A, B", justify="right")
    table.add_column("difference (interval)", justify="right")
    table.add_column("AUROC", justify="right")
    table.add_column("q", justify="right")
    table.add_column("words over the probe set", ratio=2)
    table.add_column("verdict")
    for row in report.filters[:_ROWS]:
        rates, difference = _rates(row)
        table.add_row(
            f"{shown(row.layer)}/{row.index}",
            rates,
            difference,
            f"{row.auroc:.3f}",
            f"{row.q_value:.3f}{'*' * row.significant}",
            ", ".join(map(shown, row.catalog_words[:3])),
            row.verdict,
        )
    return table


def _rates(row: FilterDifference) -> tuple[str, str]:
    if not row.HasField("rate_a"):
        return "", ""
    return (
        f"{row.rate_a:.3f}, {row.rate_b:.3f}",
        f"{row.difference:+.3f} ({row.low:+.3f}, {row.high:+.3f})",
    )
