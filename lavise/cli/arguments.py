"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from lavise.errors import RequestError

BundleFolder: TypeAlias = Annotated[
    Path, typer.Argument(help="A bundle: the folder that `lavise teach` wrote.", metavar="BUNDLE")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead.")
]
DeviceName: TypeAlias = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Where the graphs run; auto takes CUDA where it is offered."),
]
Layer: TypeAlias = Annotated[
    str, typer.Option(help="Target layer; the bundle's first when left out.", metavar="NAME")
]
Filters: TypeAlias = Annotated[
    str | None, typer.Option(help="Filters by index, such as 3,17.", metavar="INDICES")
]


def filter_indices(text: str | None) -> tuple[int, ...] | None:
    """Reads ``--filters``.

    Args:
        text: Indices with commas between them, or None where the option was not given.

    Returns:
        The indices, not checked against any layer.

    Raises:
        RequestError: A part is no whole number.
    """
    if text is None:
        return None
    parts = text.split(",")
    try:
        return tuple(int(part) for part in parts)
    except ValueError as error:
        raise RequestError(
            f"--filters is {text!r}; accepted: indices from 0 with commas between them, "
            "such as 3,17",
            field="filters",
        ) from error
