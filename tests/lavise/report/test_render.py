import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import lavise.report
from lavise.errors import ImageError
from lavise.report import render_report, wanted_pictures
from lavise.v1.bias_pb2 import Report
from tests.lavise.report.sample_pictures import sample_pictures
from tests.lavise.report.sample_report import equal_report, sample_report

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}</style>"


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is None:  # no style sheet
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def shown(report: Report) -> Page:
    pictures, heatmaps = sample_pictures(wanted_pictures(report))
    return Page(render_report(report, pictures, heatmaps))


def test_the_headline_says_what_was_found() -> None:
    text = shown(sample_report()).text
    assert "More lantern, lamp and candle in Night shift than in Day shift" in text
    assert "The other way round, bicycle stands out most." in text
    assert "15 words and 6 filters of the layer features differ significantly." in text
    assert "200 images; 3 more could not be read" in text


def test_the_headline_says_that_nothing_was_found() -> None:
    text = shown(equal_report()).text
    assert "Nothing differs significantly between Night shift and Day shift" in text
    assert "None: no image of A looks the same" in text
    report = equal_report()
    report.significant_filters = 1
    assert "but 1 filter does" in shown(report).text


def test_every_number_stands_in_the_tables() -> None:
    report = sample_report(more_words=178)
    assert len(report.words) == 200
    text = shown(report).text
    assert all(word.word in text for word in report.words)
    assert "200 words" in text
    assert "9 filters" in text
    for part in (report.bundle_digest, "night/kitchen_014.jpg", *report.caveats):
        assert part in text


def test_nothing_can_be_loaded_or_run() -> None:
    page = shown(sample_report())
    [policy] = [one["content"] for one in page.named("meta") if one.get("http-equiv") is not None]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not page.named("script")
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))


def test_what_others_wrote_stays_text() -> None:
    report = sample_report()
    report.layer = report.bundle_digest = HOSTILE
    report.caveats.append(HOSTILE)
    report.duplicates[0].source_a = HOSTILE
    for set_ in (report.a, report.b):
        set_.name = set_.display_name = HOSTILE
    for word in report.words:
        word.word += HOSTILE
        for example in (*word.examples_a, *word.examples_b):
            example.source = HOSTILE
    for finding in report.findings:
        finding.words[:] = [word + HOSTILE for word in finding.words]
    for one in report.filters:
        one.catalog_words[:] = [HOSTILE]
        one.layer = HOSTILE
        one.verdict = HOSTILE
        for example in (*one.examples_a, *one.examples_b):
            example.source = HOSTILE
    page, plain = shown(report), shown(sample_report())
    assert HOSTILE in page.text
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in plain.elements}
    assert len(page.named("img")) == len(plain.named("img"))
    assert not [one for one in page.named("img") if "onerror" in one]
    short = sample_report()
    short.a.display_name = '<b>"bold"</b>'
    assert 'in <b>"bold"</b> than in' in shown(short).text


def test_without_pictures_names_stand_in() -> None:
    page = Page(render_report(sample_report()))
    assert not page.named("img")
    assert "frame_00005.jpg" in page.text
    assert page.text.count('"thumbnails": true') == 1
    assert "Neither set keeps" in page.text


def test_one_missing_picture_says_whose() -> None:
    report = sample_report()
    pictures, heatmaps = sample_pictures(wanted_pictures(report))
    whole = Page(render_report(report, pictures, heatmaps))
    assert '"thumbnails"' not in whole.text
    del pictures["b", 5]
    page = Page(render_report(report, pictures, heatmaps))
    assert "Set B does not keep" in page.text
    assert len(page.named("img")) < len(whole.named("img"))


def test_without_a_catalog_there_are_no_rates() -> None:
    report = sample_report(catalog=False)
    text = shown(report).text
    assert "Without a catalog" in text
    assert "QualifiedA 26 %" not in text
    assert "QualifiedA 26 %" in shown(sample_report()).text


def test_a_filter_without_meaning_has_no_word_for_a_title() -> None:
    text = shown(sample_report()).text
    assert "Filter 846 uninterpretable; its nearest word is mushroom" in text


def test_an_empty_report_is_a_page() -> None:
    assert "The report holds no words." in shown(Report()).text


def test_numbers_that_are_none_are_dashes() -> None:
    report = sample_report()
    for word in report.words:
        word.low, word.high, word.difference = float("-inf"), float("inf"), float("nan")
    for one in report.filters:
        one.auroc = one.rate_a = one.low = float("nan")
        one.examples_a[0].value = float("nan")
    html = render_report(report, *sample_pictures(wanted_pictures(report)))
    assert not re.search(r'="[^"]*\b(nan|inf)\b', html)


def test_a_damaged_picture_or_map_is_named() -> None:
    report = sample_report()
    with pytest.raises(ImageError, match="image 5 of set B"):
        render_report(report, {("b", 5): b"?"})
    pictures, heatmaps = sample_pictures(wanted_pictures(report))
    heatmaps["b", 5, 843] = np.zeros(3)
    with pytest.raises(ImageError, match="filter 843 on image 5 of set B"):
        render_report(report, pictures, heatmaps)


def test_headings_go_down_step_by_step() -> None:
    levels = [int(tag[1]) for tag, _ in shown(sample_report()).elements if re.match(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: int) -> None:
    style = (Path(lavise.report.__file__).parent / "page.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", style.split(":root {")[1 + scheme]))
    pairs = [(ink, behind) for ink in ("ink", "quiet", "a", "b") for behind in ("paper", "raised")]
    for ink, behind in [*pairs, ("on-colour", "a"), ("on-colour", "b")]:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[behind])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, behind)
