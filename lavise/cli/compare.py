"""``lavise compare``: how two folders of images differ, in words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lavise.cli.arguments import BundleFolder, DeviceName, Json, Layer
from lavise.cli.output import answers, notes, print_json, progress
from lavise.cli.report_view import report_view
from lavise.errors import EnvironmentProblem

if TYPE_CHECKING:
    import numpy as np

    from lavise.explainer import Explainer
    from lavise.image_set import ImageSet
    from lavise.v1.bias_pb2 import Report


def compare(
    bundle: BundleFolder,
    dir_a: Annotated[Path, typer.Argument(help="Image set A, a folder.", metavar="DIR_A")],
    dir_b: Annotated[Path, typer.Argument(help="Image set B, a folder.", metavar="DIR_B")],
    *,
    layer: Layer = "",
    alpha: Annotated[float, typer.Option(help="Chance of one or more false findings.")] = 0.05,
    permutations: Annotated[int, typer.Option(help="Shuffles of the two sets.")] = 1000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same report.")] = 0,
    html: Annotated[
        Path | None,
        typer.Option(help="Write the report as one page as well.", metavar="FILE"),
    ] = None,
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Tells, in words, how two image sets differ, without labels.

    Images that cannot be read are left out and counted.
    """
    from lavise.bias import check_comparison
    from lavise.bias import compare as compare_profiles
    from lavise.explainer import Explainer
    from lavise.image_set import folder_images
    from lavise.messages import message_dict
    from lavise.profiling import profile_images

    check_comparison(alpha, permutations, seed)
    explainer = Explainer.open(bundle, device=device)
    sets = [folder_images(folder, explainer.input_size) for folder in (dir_a, dir_b)]
    console = notes()
    with progress(console) as track:
        a, b = (
            profile_images(explainer, one, layer=layer, track=track, say=console.print)
            for one in sets
        )
        report = compare_profiles(
            a, b, alpha=alpha, seed=seed, permutations=permutations, track=track
        )
    for side, folder, images, profile in zip(
        (report.a, report.b), (dir_a, dir_b), sets, (a, b), strict=True
    ):
        side.name, side.display_name = str(folder), images.name
        side.rejected_count = len(images.sources) - len(profile)
    if html is not None:
        _write_page(html, report, explainer, dict(zip("ab", sets, strict=True)))
        console.print(f"wrote {html}")
    if as_json:
        print_json(message_dict(report))
    else:
        answers().print(report_view(report))


def _write_page(
    file: Path, report: "Report", explainer: "Explainer", sets: "dict[str, ImageSet]"
) -> None:
    """Writes the report with the pictures that it shows, as the CNN saw them."""
    from lavise.images import encode_jpeg
    from lavise.options import ExplainOptions
    from lavise.report import render_report, wanted_pictures

    pictures: dict[tuple[str, int], bytes] = {}
    heatmaps: dict[tuple[str, int, int], np.ndarray] = {}
    for wanted in wanted_pictures(report):
        pixels = sets[wanted.side].fetch(wanted.index)
        pictures[wanted.side, wanted.index] = encode_jpeg(pixels)
        if wanted.filter is not None:
            options = ExplainOptions(layer=report.layer, filters=(wanted.filter,), heatmaps=True)
            [found] = explainer.explain([pixels], options)
            if found.heatmaps is not None:
                heatmaps[wanted.side, wanted.index, wanted.filter] = found.heatmaps[0]
    try:
        file.write_text(render_report(report, pictures, heatmaps), encoding="utf-8")
    except OSError as error:
        raise EnvironmentProblem(
            f"{file} could not be written: {error.strerror or error}", field="html"
        ) from error
