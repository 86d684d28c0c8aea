"""Answers as tables for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lavise.cli.output import shown

Json = Mapping[str, Any]


def explanation_view(image: Json) -> RenderableType:
    """The words of the filters of one image.

    Args:
        image: ImageExplanation in JSON form.

    Returns:
        Name and predictions of the image, then a row a filter.
    """
    filters = image["filters"]
    described = any("threshold" in row for row in filters)
    table = _table()
    table.add_column("filter", no_wrap=True)
    table.add_column("activation", justify="right")
    if described:
        table.add_column("T_f", justify="right")
        table.add_column("qualified")
    table.add_column("words on this image (score)", ratio=3)
    if described:
        table.add_column("verdict")
        table.add_column("words over the probe set (share)", ratio=2)
    for row in filters:
        said = "(inactive on this image)" if row["inactive"] else words(row["words"])
        cells = [f"{shown(row['layer'])}/{row['index']}", f"{row['activation']:.3f}"]
        if described:
            qualified = "yes" if row["qualified"] else "no"
            cells += [f"{row['threshold']:.3f}", qualified, said, row["verdict"]]
            cells.append(words(row["catalogWords"][:3]))
        else:
            cells.append(said)
        table.add_row(*cells)
    return Group(Text(shown(image["source"]), style="bold"), _predictions(image), table)


def _predictions(image: Json) -> Text:
    predictions = image["predictions"]
    if not predictions:
        return Text("the CNN has no head, so it predicts nothing")
    said = (f"{shown(p['label'])} {p['probability']:.2f}" for p in predictions)
    return Text(f"the CNN says: {', '.join(said)}")


def descriptions_view(filters: Sequence[Json]) -> Table:
    """What the catalog knows of some filters.

    Args:
        filters: FilterDescriptions in JSON form.

    Returns:
        A row a filter.
    """
    table = _table()
    table.add_column("filter", no_wrap=True)
    table.add_column("T_f", justify="right")
    table.add_column("verdict")
    table.add_column("q", justify="right")
    table.add_column("words over the probe set (share)", ratio=3)
    table.add_column("top images (activation)", ratio=2)
    for row in filters:
        images = (f"{shown(i['source'])} {i['activation']:.2f}" for i in row["topImages"][:3])
        table.add_row(
            f"{shown(row['layer'])}/{row['index']}",
            f"{row['threshold']:.3f}",
            row["verdict"],
            f"{row['qValue']:.3f}",
            words(row["words"][:5]),
            ", ".join(images),
        )
    return table


def words(found: Sequence[Json]) -> str:
    """Words with their scores, in one line.

    Args:
        found: Words in JSON form.

    Returns:
        Such as ``cat 0.71, kitten 0.65``.
    """
    return ", ".join(f"{shown(w['word'])} {w['score']:.2f}" for w in found)


def _table() -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False)
