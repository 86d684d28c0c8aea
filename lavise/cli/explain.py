"""``lavise explain``: the words of filters on images."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lavise.cli.arguments import BundleFolder, DeviceName, Filters, Json, Layer, filter_indices
from lavise.cli.errors import BAD_INPUT, show_error
from lavise.cli.output import answers, print_json, shown
from lavise.cli.tables import explanation_view
from lavise.errors import ImageError
from lavise.options import METHODS, ExplainOptions

if TYPE_CHECKING:
    import numpy as np

_AT_ONCE: Final = 16
"""Images in one pass of the CNN."""


def explain(
    bundle: BundleFolder,
    images: Annotated[list[Path], typer.Argument(help="Images to explain.", metavar="IMAGE")],
    *,
    layer: Layer = "",
    filters: Filters = None,
    most_active: Annotated[
        int | None, typer.Option(help="That many filters, most active first.", show_default="10")
    ] = None,
    all_filters: Annotated[
        bool, typer.Option("--all-filters", help="Every filter of the layer.")
    ] = False,
    top_k: Annotated[int, typer.Option(help="Words a filter.")] = 5,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "attention",
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Tells, in words, what filters see in images.

    An image that cannot be read is left out, with an error and exit status 2.
    """
    from lavise.explainer import Explainer
    from lavise.messages import explanation_dict

    options = ExplainOptions(
        layer=layer,
        filters=filter_indices(filters),
        most_active=most_active,
        all_filters=all_filters,
        top_k=top_k,
        method=method,
    )
    explainer = Explainer.open(bundle, device=device)
    explainer.validate(options)
    explained = []
    readable = _Readable(images, explainer.input_size)
    sources = iter(readable)
    while batch := list(islice(sources, _AT_ONCE)):
        found = explainer.explain([pixels for _, pixels in batch], options)
        for (source, _), explanation in zip(batch, found, strict=True):
            image = explanation_dict(explanation, source)
            if as_json:
                explained.append(image)
            else:
                answers().print(explanation_view(image))
    if as_json and explained:
        print_json({"images": explained, "bundleDigest": explainer.digest})
    if readable.left_out:
        raise typer.Exit(BAD_INPUT)


class _Readable:
    """The images that can be read, one at a time; says on stderr which cannot.

    Args:
        files: The images.
        size: Input side S of the CNN.
    """

    def __init__(self, files: Sequence[Path], size: int) -> None:
        self._files = files
        self._size = size
        self.left_out = 0

    def __iter__(self) -> "Iterator[tuple[str, np.ndarray]]":
        """Yields name and (S, S, 3) uint8 pixels."""
        from lavise.images import DEFAULT_LIMITS, prepare

        for file in self._files:
            source = shown(file)
            try:
                with file.open("rb") as stream:
                    # One byte more than is accepted, so that prepare() can say it is too many.
                    data = stream.read(DEFAULT_LIMITS.max_bytes + 1)
                pixels = prepare(data, self._size, name=source)
            except (ImageError, OSError) as error:
                self.left_out += 1
                show_error(error)
            else:
                yield source, pixels
