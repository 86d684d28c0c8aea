"""``lavise evaluate``: how right a bundle's words are, on annotated images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lavise.cli.arguments import BundleFolder, DeviceName, Json
from lavise.cli.output import answers, notes, print_json, progress, shown
from lavise.errors import EnvironmentProblem, SpecError

if TYPE_CHECKING:
    from lavise.evaluate.report import Estimate, Evaluation, Layer
    from lavise.teach.datasets import Dataset

_DEMO_SCENES: Final = 1000
_NONE: Final = "-"


def evaluate(
    bundle: BundleFolder,
    *,
    dataset: Annotated[
        str,
        typer.Option(
            help="Annotated images, as for teach; demo takes scenes that are never taught.",
            metavar="SPEC",
        ),
    ],
    images: Annotated[
        int | None,
        typer.Option(help="At most that many images, drawn by lot.", min=1, metavar="N"),
    ] = None,
    unseen: Annotated[
        float | None,
        typer.Option(
            help="Share of the categories that teaching was to hold out: only these then count "
            "as unseen, and only where the bundle was not taught on them.",
            min=0.0,
            max=1.0,
            metavar="SHARE",
            show_default="all that were not taught",
        ),
    ] = None,
    thresholds: Annotated[
        Literal["catalog", "dataset"] | None,
        typer.Option(
            help="Where T_f comes from; dataset reads the images twice.",
            show_default="catalog where there is one",
        ),
    ] = None,
    similarities: Annotated[
        Path | None,
        typer.Option(
            help="Table of image-concept similarities by a CLIP of your own (CSV or Parquet: a "
            "column a concept, a row an image), for CLIP-Dissect's labels beside the others.",
            metavar="FILE",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes the run repeatable.", min=0)] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with filters as well.", metavar="FILE")
    ] = None,
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Measures how right the words are: the paper's recall, Network Dissection beside it, and more.

    With --json it prints an evaluation of the form lavise.evaluation.v1.
    """
    from lavise.bundle import open_bundle
    from lavise.evaluate.evaluation import EvaluationOptions
    from lavise.evaluate.evaluation import evaluate as evaluate_bundle

    console = notes()
    opened = open_bundle(bundle)
    annotated = _open(dataset, images, seed)
    options = EvaluationOptions(
        images=images,
        thresholds=thresholds,
        unseen=unseen,
        seed=seed,
        similarities=similarities,
    )
    with progress(console) as track:
        found = evaluate_bundle(
            opened, annotated, options, device=device, track=track, say=console.print
        )
    if html is not None:
        _write_page(html, found, annotated, bundle, device)
        console.print(f"wrote {shown(html)}")
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        answers().print(_view(found))


def _open(spec: str, images: int | None, seed: int) -> "Dataset":
    from lavise.teach.datasets import DemoDataset, open_datasets

    if spec == "demo":
        return DemoDataset(seed, images or _DEMO_SCENES, split="held-out")
    opened = open_datasets([spec], seed=seed)
    if not opened.annotated:
        raise SpecError(
            f"dataset {spec!r} has no annotated image to measure on; name one with categories, "
            "such as demo or folder:DIR",
            field="dataset",
        )
    return opened.annotated[0]


def _write_page(
    file: Path,
    found: "Evaluation",
    dataset: "Dataset",
    bundle: Path,
    device: Literal["auto", "cpu", "cuda"],
) -> None:
    from lavise.evaluate.gallery import gather
    from lavise.evaluate.page import render_page
    from lavise.explainer import Explainer

    pictures, heatmaps = gather(found, dataset, Explainer.open(bundle, device=device))
    try:
        file.write_text(render_page(found, pictures, heatmaps), encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(
            f"{file} could not be written: {error.strerror or error}", field="html"
        ) from error


def _view(found: "Evaluation") -> RenderableType:
    """The evaluation for a person: what it was measured on, what to know, and a table a layer."""
    measured = found.measured
    title = (
        f"{shown(found.model)} on {shown(measured.dataset)}: {measured.images:,} images, "
        f"{measured.categories:,} categories ({measured.seen:,} seen, {measured.unseen:,} unseen)"
    )
    parts: list[RenderableType] = [Text(title, style="bold")]
    parts += [Text(f"note: {shown(note)}", style="yellow") for note in found.notes]
    # Where all categories are seen, or none is, their rows would repeat what all have.
    mixed = bool(measured.seen and measured.unseen)
    parts += [_layer(layer, mixed=mixed) for layer in found.layers]
    return Group(*parts)


def _layer(layer: "Layer", *, mixed: bool) -> Table:
    from lavise.evaluate.wording import METHODS, SCORES, SOURCES

    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"layer {shown(layer.layer)}")
    for name in ("measure", "of", "on"):
        table.add_column(name)
    for name in ("n", "@1", "@5 (95 % interval)", "@10", "@20"):
        table.add_column(name, justify="right")
    for row in layer.recall:
        if row.categories == "all" or mixed:
            found = row.recall
            table.add_row(
                "recall",
                METHODS[row.method],
                row.categories,
                f"{row.pairs:,} pairs",
                _value(found["1"]),
                _interval(found["5"]),
                _value(found["10"]),
                _value(found["20"]),
            )
    table.add_section()
    for words in layer.filter_words:
        hit = words.hit
        table.add_row(
            "hit",
            SOURCES[words.source],
            "most selective category",
            f"{words.filters:,} filters",
            _value(hit["1"]),
            _interval(hit["5"]),
            _value(hit["10"]),
        )
    table.add_section()
    table.add_row("", "", "", "", "", "value (95 % interval)", "falls: missing", "extra")
    for label in layer.labels:
        for key, name in SCORES.items():
            table.add_row(
                name,
                SOURCES[label.source],
                "label on the image",
                f"{label.filters:,} filters",
                f"chance {_share(label.chance_auprc)}" if key == "auprc" else "",
                _interval(label.scores[key]),
                _share(label.missing_labels[key]),
                _share(label.extra_labels[key]),
            )
    return table


def _value(one: "Estimate") -> str:
    return _share(one.value)


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3f}"


def _interval(one: "Estimate") -> str:
    return f"{_share(one.value)} ({_share(one.low)} to {_share(one.high)})"
