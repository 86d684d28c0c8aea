"""What of a report the page shows: the rest stands in its tables."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lavise.v1.bias_pb2 import Example, FilterDifference, Finding, Report, WordDifference

Side: TypeAlias = Literal["a", "b"]
SIDES: Final[tuple[Side, Side]] = ("a", "b")

MAX_FINDINGS: Final = 8
MAX_FILTERS: Final = 8
IMAGES_PER_FINDING: Final = 3
IMAGES_PER_FILTER: Final = 4
IMAGES_IN_HEADER: Final = 4
_TENDENCY_CARDS: Final = 3
"""Cards where nothing is significant."""
_MAX_GROUPS: Final = 10
_MAX_GROUP_WORDS: Final = 4
_MAX_TENDENCIES: Final = 8


@dataclass(frozen=True)
class Wanted:
    """An image that the page shows.

    Attributes:
        side: ``a`` or ``b``.
        index: The image's index in its set.
        filter: The filter whose heat map lies over it; None for the bare image.
    """

    side: Side
    index: int
    filter: int | None


class Group(NamedTuple):
    """Bars that stand together.

    Attributes:
        finding: Number of the finding from 1; None for words that belong to none.
        words: The words, strongest first.
        left_out: How many words of the finding have no bar.
    """

    finding: int | None
    words: list[WordDifference]
    left_out: int


def wanted_pictures(report: Report) -> list[Wanted]:
    """Says which images the page of a report will show, each once.

    Args:
        report: The comparison.

    Returns:
        At most 8 findings x 3 images x 2 sides without a filter, then at most 8 filters x 4
        images x 2 sides with one: 112.
    """
    by_word = words_by_name(report)
    wanted = [
        Wanted(side, example.index, None)
        for finding in shown_findings(report)
        for side in SIDES
        for example in finding_examples(finding, by_word, side)
    ]
    wanted += [
        Wanted(side, example.index, one.index)
        for one in shown_filters(report)
        for side in SIDES
        for example in filter_examples(one, side)
    ]
    return list(dict.fromkeys(wanted))


def words_by_name(report: Report) -> dict[str, WordDifference]:
    """The word differences by their word."""
    return {one.word: one for one in report.words}


def shown_findings(report: Report) -> Sequence[Finding]:
    """The findings that have a card: the significant ones, and a few where there are none."""
    return report.findings[: _cards(report.findings, MAX_FINDINGS)]


def shown_filters(report: Report) -> Sequence[FilterDifference]:
    """The filters that have a card: the significant ones, and a few where there are none."""
    return report.filters[: _cards(report.filters, MAX_FILTERS)]


def finding_examples(
    finding: Finding, by_word: dict[str, WordDifference], side: Side
) -> Sequence[Example]:
    """The images of a finding's card: those of its first word."""
    word = by_word.get(finding.words[0]) if finding.words else None
    return () if word is None else _examples(word, side)[:IMAGES_PER_FINDING]


def filter_examples(one: FilterDifference, side: Side) -> Sequence[Example]:
    """The images of a filter's card."""
    return _examples(one, side)[:IMAGES_PER_FILTER]


def header_examples(report: Report, side: Side) -> list[Example]:
    """Images that speak for what a side has more of, from different findings where possible.

    All are among those that `wanted_pictures` names.
    """
    by_word = words_by_name(report)
    shown = shown_findings(report)
    leaning = [one for one in shown if (one.difference > 0) == (side == "a")]
    columns = [finding_examples(one, by_word, side) for one in leaning or shown]
    rows = chain.from_iterable(zip_longest(*columns))
    return list({one.index: one for one in rows if one is not None}.values())[:IMAGES_IN_HEADER]


def bar_groups(report: Report) -> Iterator[Group]:
    """The bars: significant findings with their first words, then the strongest other words."""
    by_word = words_by_name(report)
    significant = [finding for finding in report.findings if finding.significant]
    placed = {word for finding in significant for word in finding.words}
    for number, finding in enumerate(significant[:_MAX_GROUPS], start=1):
        words = [by_word[word] for word in finding.words if word in by_word]
        if words:
            shown = words[:_MAX_GROUP_WORDS]
            yield Group(number, shown, len(words) - len(shown))
    rest = [one for one in report.words if one.word not in placed][:_MAX_TENDENCIES]
    if rest:
        yield Group(None, rest, 0)


def _examples(one: WordDifference | FilterDifference, side: Side) -> Sequence[Example]:
    return one.examples_a if side == "a" else one.examples_b


def _cards(differences: Sequence[Finding] | Sequence[FilterDifference], most: int) -> int:
    """How many of the strongest differences have a card."""
    return min(sum(one.significant for one in differences) or _TENDENCY_CARDS, most)
