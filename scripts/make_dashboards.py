"""Writes Grafana's dashboards, docker/monitoring/dashboards/*.json: ``make dashboards``."""

from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.dashboards.image_sets import image_sets
from scripts.dashboards.overview import overview
from scripts.dashboards.worker import worker

OUT = Path(__file__).resolve().parent.parent / "docker" / "monitoring" / "dashboards"


def dashboards() -> Iterator[tuple[Path, str]]:
    """Each dashboard's file, and what it should hold."""
    for made in (overview(), worker(), image_sets()):
        built = made.build()
        for number, panel in enumerate(built.panels or [], 1):
            panel.id_val = number
        text = JSONEncoder(sort_keys=True, indent=1).encode(built)
        yield OUT / f"{built.uid}.json", f"{text}\n"


if __name__ == "__main__":
    for path, content in dashboards():
        path.write_text(content, encoding="utf-8")
        print(path)
