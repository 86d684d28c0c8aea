"""Checks what watches LaViSE: ``make monitoring``. Needs Debian's package prometheus.

promtool reads the configuration and the rules and runs their unit tests; every expression is
parsed; then a real TorchServe and a real companion are asked for a little of everything while a
real Prometheus scrapes them and evaluates the rules. Every metric that a dashboard or a rule names
must be there, and every panel must have something to show, but for what is explained.
"""

import math
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.torchserve import TorchServe
from scripts.make_dashboards import dashboards
from scripts.monitoring.expressions import (
    MONITORING,
    RULES,
    UNIT_TESTS,
    asked,
    metrics,
    panel_queries,
    rule_queries,
)
from scripts.monitoring.load import everything
from scripts.monitoring.prometheus import Prometheus, running_prometheus
from tests.running_companion import running_doors, settings_for
from tests.tiny_bundle import teach_tiny_bundle
from tests.tiny_cnn import write_pictures, write_words

_TOKEN: Final = secrets.token_hex(16)
_INTERVAL: Final = "10s"
EXPLAINED: Final = {
    "lavise_gpu_memory_used_bytes": "only where a worker has a GPU",
    "lavise_gpu_memory_total_bytes": "only where a worker has a GPU",
    "lavise_gpu_utilization_ratio": "only where a worker has a GPU",
    "lavise_companion_certificate_expiry_timestamp_seconds": "only with certificates",
}
"""Metrics that are not shown here."""


def main() -> None:
    """Checks everything, and says what was seen."""
    promtool()
    stale = [path.name for path, content in dashboards() if path.read_text("utf-8") != content]
    if stale:
        sys.exit(f"{', '.join(stale)} is not what scripts/make_dashboards.py makes: run it")
    with tempfile.TemporaryDirectory() as folder:
        teach_tiny_bundle(
            write_pictures(Path(folder) / "pictures"),
            write_words(Path(folder) / "words.txt"),
            Path(folder) / "bundle",
        )
        problems, table = seen_live(Path(folder) / "bundle", Path(folder))
    Console(width=150).print(table)
    if problems:
        sys.exit("\n".join(problems))


def promtool() -> None:
    """Has promtool read the configuration and the rules, and run their unit tests."""
    tool = shutil.which("promtool") or "promtool"
    config = MONITORING / "prometheus.yml"
    subprocess.run([tool, "check", "config", "--syntax-only", config], check=True)
    subprocess.run([tool, "check", "rules", *RULES], check=True)
    subprocess.run([tool, "test", "rules", *UNIT_TESTS], check=True)


def seen_live(bundle: Path, folder: Path) -> tuple[list[str], Table]:
    """Serves a bundle, asks for everything, and looks at it through Prometheus.

    Args:
        bundle: To serve.
        folder: For the files of the servers.

    Returns:
        What is wrong, and what every panel showed.
    """
    for name in ("models", "prometheus"):
        (folder / name).mkdir()
    write_archive(bundle, folder / "models", config=WorkerConfig(threads=1))
    settings = {"store": str(folder / "store"), "tokens": f"load={_TOKEN}"}
    with (
        TorchServe(folder / "models") as torchserve,
        running_doors(settings_for(torchserve.grpc_target, **settings)) as doors,
    ):
        targets = {
            "lavise-companion": str(doors.http),
            "lavise-worker": torchserve.metrics_url.split("/")[2],
        }
        with running_prometheus(folder / "prometheus", targets, _TOKEN) as prometheus:
            start = time.time()
            everything(doors, _TOKEN)
            table = Table("panel", "series", "most", title="What the panels showed")
            return [*missing(prometheus), *empty(prometheus, start, table)], table


def missing(prometheus: Prometheus) -> Iterator[str]:
    """Names of metrics that nothing shows, and rules that cannot be evaluated."""
    there = prometheus.names() | EXPLAINED.keys() | {"ALERTS"}
    for query in (*panel_queries(), *rule_queries()):
        for name in metrics(query.text) - there:
            yield f"{query.where}: there is no {name}"
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                yield f"{rule['name']}: {rule.get('lastError') or rule['health']}"


def empty(prometheus: Prometheus, start: float, table: Table) -> Iterator[str]:
    """Panels that have nothing to show; the others are written into the table."""
    for query in panel_queries():
        found = prometheus.course(asked(query.text, _INTERVAL), start)
        values = [value for series in found for value in series if not math.isnan(value)]
        if values:
            table.add_row(query.where, str(len(found)), f"{max(values):.4g}")
        elif metrics(query.text) <= EXPLAINED.keys():
            [why] = {EXPLAINED[name] for name in metrics(query.text)}
            table.add_row(query.where, "0", why)
        else:
            yield f"{query.where}: nothing to show"


if __name__ == "__main__":
    if shutil.which("prometheus") is None:
        sys.exit("Prometheus is missing: apt-get install prometheus")
    main()
