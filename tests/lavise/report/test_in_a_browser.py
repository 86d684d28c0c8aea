import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lavise.report import render_report, wanted_pictures
from lavise.v1.bias_pb2 import Report
from tests.lavise.report.sample_pictures import sample_pictures
from tests.lavise.report.sample_report import equal_report, sample_report

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")

LONG = "unbreakable" * 40
RIGHT_TO_LEFT = "صور الليل \N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"
HOSTILE = '"><script>window.ran = 1</script><img src=https://example.org/x onerror="window.ran=1">'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def named_by(report: Report, name: str) -> Report:
    """The report with one name wherever a name stands."""
    for side in (report.a, report.b):
        side.name = side.display_name = name
    examples = [each for one in report.words for each in (*one.examples_a, *one.examples_b)]
    examples += [each for one in report.filters for each in (*one.examples_a, *one.examples_b)]
    for example in examples:
        example.source = f"{name}/{name}"
    for pair in report.duplicates:
        pair.source_a = pair.source_b = name
    for word in report.words:
        word.word += f" {name}"
    for finding in report.findings:
        finding.words[:] = [f"{word} {name}" for word in finding.words]
    for one in report.filters:
        one.layer = name
        one.catalog_words[:] = [name] * 3
    report.layer = report.bundle_digest = name
    report.caveats.append(name)
    return report


REPORTS = {
    "usual": sample_report(),
    "many words": sample_report(more_words=178),
    "nothing": equal_report(),
    "no catalog": sample_report(catalog=False),
    "empty": Report(),
    "long": named_by(sample_report(), LONG),
    "right to left": named_by(sample_report(), RIGHT_TO_LEFT),
    "hostile": named_by(sample_report(), HOSTILE),
}


def visit(
    browser: Browser, folder: Path, html: str, *, width: int = 1280, scheme: str = "light"
) -> tuple[Page, list[str]]:
    """Opens a page; also what it said on the console and asked of anyone."""
    file = folder / "report.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url == file.as_uri() or asked.url.startswith("data:")
            else complaints.append(asked.url)
        ),
    )
    page.goto(file.as_uri())
    for fold in page.locator("summary").all():
        if fold.locator("xpath=..").get_attribute("open") is None:
            fold.click()
    return page, complaints


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("pictured", [True, False], ids=["pictures", "names"])
@pytest.mark.parametrize("name", REPORTS)
def test_the_page_is_quiet_and_fits(
    browser: Browser, tmp_path: Path, name: str, *, pictured: bool, width: int
) -> None:
    report = REPORTS[name]
    pictures, heatmaps = sample_pictures(wanted_pictures(report) if pictured else ())
    html = render_report(report, pictures, heatmaps)
    page, complaints = visit(browser, tmp_path, html, width=width)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.ran") is None
    images = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
    assert all(images)
    assert bool(images) == bool(pictures)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_significant_words_are_seen_with_bars_to_their_side(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    page, _ = visit(browser, tmp_path, render_report(sample_report()), scheme=scheme)
    rows = page.locator(".bars tr.solid")
    assert rows.count() == 4 + 3 + 4 + 1
    for word, right in (("lantern", True), ("bicycle", False)):
        row = rows.filter(has=page.get_by_role("rowheader", name=word, exact=True))
        assert row.is_visible()
        zero, fill = (row.locator(part).bounding_box() for part in (".bar .zero", ".bar .fill"))
        assert zero is not None
        assert fill is not None
        assert fill["width"] > 40
        assert (fill["x"] + fill["width"] / 2 > zero["x"]) == right
    colours = page.evaluate(
        "['.badge.a', '.badge.b', 'body'].map(one =>"
        " getComputedStyle(document.querySelector(one)).backgroundColor)"
    )
    assert len(set(colours)) == 3
    assert (sum(map(int, colours[2][4:-1].split(","))) < 200) == (scheme == "dark")
    page.close()


def test_heat_maps_lie_over_their_pictures_and_can_be_taken_off(
    browser: Browser, tmp_path: Path
) -> None:
    report = sample_report()
    html = render_report(report, *sample_pictures(wanted_pictures(report)))
    page, _ = visit(browser, tmp_path, html)
    page.emulate_media(reduced_motion="reduce")  # no fading
    heat = page.locator(".heat")
    assert heat.count() == 6 * 4 * 2
    picture = heat.first.locator("xpath=..").locator("img").first
    assert heat.first.bounding_box() == picture.bounding_box()
    assert heat.first.evaluate("one => getComputedStyle(one).opacity") == "1"
    page.get_by_label("Heat maps").uncheck()
    assert heat.first.evaluate("one => getComputedStyle(one).opacity") == "0"
    page.close()


def test_a_filter_that_agrees_is_one_click_away(browser: Browser, tmp_path: Path) -> None:
    page, _ = visit(browser, tmp_path, render_report(sample_report()))
    page.get_by_role("link", name="843").click()
    assert page.url.endswith("#filter-843")
    assert page.locator("#filter-843").is_visible()
    page.close()
