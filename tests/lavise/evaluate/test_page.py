import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from lavise.bundle import open_bundle
from lavise.evaluate.evaluation import EvaluationOptions, evaluate
from lavise.evaluate.gallery import MAX_FILTERS, gather, shown_filters
from lavise.evaluate.page import render_page
from lavise.evaluate.report import Evaluation
from lavise.explainer import Explainer
from tests.lavise.evaluate.patches import Patches

CHROMIUM = shutil.which("chromium")
DATASET = Patches(40)
HOSTILE = '"><script>window.ran = 1</script><img src=https://example.org/x onerror="window.ran=1">'
LONG = "unbreakable" * 40


@pytest.fixture(scope="module")
def found(tiny_bundle: Path) -> Evaluation:
    return evaluate(open_bundle(tiny_bundle), DATASET, EvaluationOptions(), device="cpu")


@pytest.fixture(scope="module")
def html(found: Evaluation, tiny_bundle: Path) -> str:
    explainer = Explainer.open(tiny_bundle, device="cpu")
    return render_page(found, *gather(found, DATASET, explainer))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def named(found: Evaluation, name: str) -> Evaluation:
    """The result with one name wherever a name stands."""
    layers = tuple(
        layer.model_copy(
            update={
                "layer": name,
                "per_filter": tuple(
                    one.model_copy(
                        update={
                            "words": (name, name),
                            "label": name,
                            "netdissect": name,
                            "selective": name,
                            "verdict": name,
                            "top_images": tuple(
                                image.model_copy(update={"categories": (name,) * 9})
                                for image in one.top_images
                            ),
                        }
                    )
                    for one in layer.per_filter
                ),
            }
        )
        for layer in found.layers
    )
    measured = found.measured.model_copy(update={"dataset": name})
    update = {"layers": layers, "measured": measured, "model": name, "notes": (name,)}
    return found.model_copy(update={**update, "bundle_digest": name})


def visit(browser: Browser, folder: Path, html: str, width: int) -> tuple[Page, list[str]]:
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
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
    return page, complaints


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_quiet_and_fits(
    browser: Browser, tmp_path: Path, html: str, width: int
) -> None:
    page, complaints = visit(browser, tmp_path, html, width)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    images = page.evaluate("Array.from(document.images, image => image.naturalWidth)")
    assert images
    assert all(images)
    heat = page.locator(".heat").first
    picture = heat.locator("xpath=..").locator("img").first
    assert heat.bounding_box() == picture.bounding_box()
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", [HOSTILE, LONG], ids=["hostile", "long"])
def test_names_from_outside_are_text(
    browser: Browser, tmp_path: Path, found: Evaluation, name: str, width: int
) -> None:
    page, complaints = visit(browser, tmp_path, render_page(named(found, name), {}, {}), width)
    assert complaints == []
    assert page.evaluate("window.ran") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def test_what_the_page_says(html: str, found: Evaluation) -> None:
    row = next(r for r in found.layers[0].recall if r.method == "attention")
    value = row.recall["5"].value
    assert value is not None
    assert f"{value:.3f}" in html
    assert "Nothing" not in html
    assert html.count("<article") == sum(
        len(shown_filters(layer, len(found.layers))) for layer in found.layers
    )
    assert len(html) < 5_000_000


def test_shown_filters_run_from_best_to_worst(found: Evaluation) -> None:
    layer = found.layers[1]
    everyone = [one for one in layer.per_filter if one.top_images]
    shown = shown_filters(layer, 1)
    assert len(shown) == min(MAX_FILTERS, len(everyone))
    auprc = [one.label_scores["auprc"] for one in shown]
    known = [value for value in auprc if value is not None]
    assert known == sorted(known, reverse=True)
    assert known == auprc[: len(known)]
    few = shown_filters(layer, 7)
    assert len(few) == MAX_FILTERS // 7
    assert few[0] == shown[0]
    assert len(shown_filters(layer, 1000)) == 1


def test_without_a_score_recall_decides(found: Evaluation) -> None:
    bare = tuple(
        one.model_copy(update={"label_scores": {}, "netdissect_scores": {}})
        for one in found.layers[1].per_filter
    )
    shown = shown_filters(found.layers[1].model_copy(update={"per_filter": bare}), 1)
    recall = [one.recall_at_5 or 0.0 for one in shown]
    assert recall == sorted(recall, reverse=True)
    assert math.isfinite(recall[0])


def test_a_layer_without_a_live_filter(found: Evaluation) -> None:
    dead = tuple(one.model_copy(update={"top_images": ()}) for one in found.layers[0].per_filter)
    layer = found.layers[0].model_copy(update={"per_filter": dead})
    assert shown_filters(layer, 1) == []
    assert "<article" not in render_page(found.model_copy(update={"layers": (layer,)}), {}, {})
