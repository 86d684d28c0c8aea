"""Numbers and names as the page writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.report.selection import Side
    from lavise.v1.bias_pb2 import Finding, Report

_MINUS: Final = "\N{MINUS SIGN}"
_SPACE: Final = "\N{NO-BREAK SPACE}"
_NONE: Final = "\N{EN DASH}"
_LONGEST_IN_TEXT: Final = 32
_HEADLINE_WORDS: Final = 3


@dataclass(frozen=True)
class Headline:
    """The strongest finding.

    Attributes:
        words: Its first words; empty where no word differs significantly.
        more_in: The side that has more of them.
        opposite: The first word of the strongest significant finding in the other direction.
        total: How many findings are significant.
    """

    words: list[str]
    more_in: Side
    opposite: str
    total: int


def headline(report: Report) -> Headline:
    """Picks what the page says first."""
    significant = [one for one in report.findings if one.significant and one.words]
    if not significant:
        return Headline([], "a", "", 0)
    first = significant[0]
    others = [one for one in significant if _more_in(one) != _more_in(first)]
    return Headline(
        list(first.words[:_HEADLINE_WORDS]),
        _more_in(first),
        others[0].words[0] if others else "",
        len(significant),
    )


def full_names(report: Report) -> dict[Side, str]:
    """What the two sets are called."""
    return {
        "a": report.a.display_name or report.a.name or "Set A",
        "b": report.b.display_name or report.b.name or "Set B",
    }


def short_names(report: Report) -> dict[Side, str]:
    """Names that fit into a sentence: the letters where a name is long or both are the same."""
    names = full_names(report)
    if names["a"] == names["b"] or max(map(len, names.values())) > _LONGEST_IN_TEXT:
        return {"a": "A", "b": "B"}
    return names


def brief(text: str) -> str:
    """A text that a sentence can hold: its beginning where it is long."""
    return text if len(text) <= _LONGEST_IN_TEXT else f"{text[: _LONGEST_IN_TEXT - 1]}…"


def number(value: float, digits: int = 3) -> str:
    """A number with a real minus sign; a dash where there is none."""
    if not math.isfinite(value):
        return _NONE
    text = f"{value:.{digits}f}"
    return text.replace("-", _MINUS) if float(text) else text.lstrip("-")


def signed(value: float, digits: int = 3) -> str:
    """A difference, always with its sign, but for zero."""
    text = number(value, digits)
    return f"+{text}" if math.isfinite(value) and float(f"{value:.{digits}f}") > 0 else text


def digits_for(values: Sequence[float]) -> int:
    """Decimals that show the largest of some values with three figures: 2 to 6."""
    largest = max((abs(one) for one in values if math.isfinite(one)), default=0.0)
    return 3 if largest <= 0 else min(max(2 - math.floor(math.log10(largest)), 2), 6)


def percent(share: float, digits: int = 0) -> str:
    """A share as a percentage."""
    return f"{number(100 * share, digits)}{_SPACE}%" if math.isfinite(share) else _NONE


def level(share: float) -> str:
    """A level such as alpha as a percentage, without needless zeros."""
    return f"{100 * share:.4g}{_SPACE}%"


def p_value(value: float) -> str:
    """A probability: three decimals, and never a plain zero."""
    if not math.isfinite(value):
        return _NONE
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def equals(symbol: str, value: float) -> str:
    """A probability with its symbol, kept on one line: ``p = 0.012``."""
    text = p_value(value)
    text = f"{symbol} {text}" if text.startswith("<") else f"{symbol} = {text}"
    return text.replace(" ", _SPACE)


def count(n: int, one: str, many: str = "") -> str:
    """A number of things: ``1 image``, ``1,200 images``."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def file_name(source: str) -> str:
    """The last part of a path or URI; all of it where it ends in a separator."""
    return source.replace("\\", "/").rsplit("/", 1)[-1] or source


def _more_in(finding: Finding) -> Side:
    return "a" if finding.difference > 0 else "b"
