from lavise.report import Wanted, wanted_pictures
from lavise.report.selection import bar_groups, header_examples
from lavise.v1.bias_pb2 import Finding, Report
from tests.lavise.report.sample_report import GROUPS, equal_report, sample_report


def many(report: Report, times: int) -> Report:
    """The report with its findings and filters repeated, all significant."""
    for finding in list(report.findings) * times:
        report.findings.append(finding)
    for one in list(report.filters) * times:
        report.filters.append(one)
    for finding in report.findings:
        finding.significant = True
    for one in report.filters:
        one.significant = True
    return report


def test_wanted_pictures_are_few_and_named_once() -> None:
    wanted = wanted_pictures(many(sample_report(), 20))
    assert len(wanted) == len(set(wanted)) <= 8 * 3 * 2 + 8 * 4 * 2
    assert len({one.filter for one in wanted} - {None}) == 8
    assert wanted[0] == Wanted("a", 0, None)
    assert Wanted("b", 5, 843) in wanted


def test_what_is_not_significant_has_a_card_only_where_nothing_else_has() -> None:
    assert len({one.filter for one in wanted_pictures(sample_report())} - {None}) == 6
    wanted = wanted_pictures(equal_report())
    assert {one.filter for one in wanted} == {843, 844, 845}


def test_the_header_shows_what_is_wanted_anyway() -> None:
    report = sample_report()
    wanted = set(wanted_pictures(report))
    shown = {side: [one.index for one in header_examples(report, side)] for side in ("a", "b")}
    assert shown == {"a": [0, 20, 1, 21], "b": [15, 35, 16, 36]}
    assert all(Wanted(side, i, None) in wanted for side in ("a", "b") for i in shown[side])


def test_a_side_that_has_more_of_nothing_shows_what_it_has() -> None:
    report = sample_report()
    for finding in report.findings:
        finding.difference = abs(finding.difference)
    assert [one.index for one in header_examples(report, "b")] == [5, 15, 25, 35]


def test_bars_are_grouped_by_finding() -> None:
    groups = list(bar_groups(sample_report(more_words=50)))
    assert [group.finding for group in groups] == [1, 2, 3, 4, None]
    assert [word.word for word in groups[2].words] == list(GROUPS[2][0][:4])
    assert groups[2].left_out == 3
    assert [word.word for word in groups[-1].words][:3] == ["umbrella", "parasol", "kettle"]
    assert len(groups[-1].words) == 8


def test_words_that_the_report_leaves_out_are_left_out() -> None:
    report = Report(findings=[Finding(words=["ghost"], significant=True), Finding()])
    assert list(bar_groups(report)) == []
    assert wanted_pictures(report) == []
