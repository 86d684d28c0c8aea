"""Prometheus on loopback, with the rules that are shipped, scraping what is named to it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from scripts.monitoring.expressions import MONITORING, RULES

SCRAPE_S = 1


class Prometheus:
    """A running Prometheus.

    Args:
        port: Of its HTTP door on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False)

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        """The data of an answer.

        Raises:
            RuntimeError: It is an error.
        """
        response = self._http.get(path, params=parameters)
        if not response.is_success:  # while it starts, it is in plain text
            raise RuntimeError(f"{path} {parameters}: {response.text}")
        return response.json()["data"]

    def course(self, query: str, start: float) -> list[list[float]]:
        """The values of each series of a query, second by second from a time until now."""
        span = {"start": str(start), "end": str(time.time()), "step": str(SCRAPE_S)}
        found = self.ask("query_range", query=query, **span)["result"]
        return [[float(value) for _, value in series["values"]] for series in found]

    def names(self) -> set[str]:
        """The names of all series."""
        return set(self.ask("label/__name__/values"))

    def up(self) -> bool:
        """Whether every target was scraped."""
        try:
            targets = self.ask("targets")["activeTargets"]
        except (httpx.TransportError, RuntimeError):
            return False
        return bool(targets) and all(target["health"] == "up" for target in targets)

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()


def shipped_config(folder: Path, targets: Mapping[str, str], token: str) -> Path:
    """Writes prometheus.yml as it is shipped, but for addresses, the pace, and a token.

    Args:
        folder: Where to.
        targets: HOST:PORT of each job.
        token: Of the companion.
    """
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    pace = f"{SCRAPE_S}s"
    config["global"] = {"scrape_interval": pace, "evaluation_interval": pace}
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for name, target in targets.items():
        jobs[name]["static_configs"] = [{"targets": [target]}]
    (folder / "token").write_text(token, encoding="ascii")
    jobs["lavise-companion"]["authorization"] = {"credentials_file": str(folder / "token")}
    config["scrape_configs"] = [jobs[name] for name in targets]
    (folder / "rules").mkdir()
    for path in RULES:
        shutil.copy(path, folder / "rules")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextmanager
def running_prometheus(
    folder: Path, targets: Mapping[str, str], token: str
) -> Iterator[Prometheus]:
    """Runs Prometheus, until every target was scraped and then for as long as the block lasts.

    Args:
        folder: For its files.
        targets: HOST:PORT of each job of prometheus.yml that is scraped.
        token: Of the companion.

    Raises:
        RuntimeError: A target is not scraped within 30 s.
    """
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    command = [
        "prometheus",
        f"--config.file={shipped_config(folder, targets, token)}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = Prometheus(port)
    try:
        deadline = time.monotonic() + 30
        while not server.up():
            if process.poll() is not None or time.monotonic() > deadline:
                told = (folder / "log").read_text("utf-8")
                raise RuntimeError(f"Prometheus does not scrape {dict(targets)}:\n{told}")
            time.sleep(0.2)
        yield server
    finally:
        server.close()
        process.terminate()
        process.wait(timeout=20)
