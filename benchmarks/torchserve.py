"""Rows torchserve-latency and torchserve-throughput: what the server costs on top of the library.

A real TorchServe with one worker serves the bundle on free ports, as ``lavise serve`` would; a
client in a third process posts JPEG files over kept-alive connections, all options left out.

In-process means, on the same JPEG bytes with the same options and as many threads:

* for the latency, one image after the other: lavise.images.prepare, Explainer.explain,
  response_dict, orjson.dumps. One call of it and one request take turns.
* for the throughput, the same in batches of the worker's batch size, the images of a batch decoded
  in threads: what the worker does, without the server around it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import orjson

from benchmarks.harness import Row, at_least, at_most, paired
from benchmarks.material import bundle, jpegs
from lavise.explainer import Explainer
from lavise.images import prepare
from lavise.messages import response_dict
from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.torchserve import TorchServe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from benchmarks.harness import Bench

_FILES: Final = 64
_CONFIG: Final = WorkerConfig()
_CONNECTIONS: Final = 3 * _CONFIG.batch_size
"""One batch in the worker, one waiting, one on its way back."""
_AT_ONCE: Final = 10 * _CONFIG.batch_size
"""Requests in one round of the throughput."""
_WARM_UP: Final = 600
"""The JVM compiles what it runs often: its first answers take twice as long."""


class _Client:
    """The client process."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout

    def send(self, requests: int, connections: int) -> dict[str, float]:
        """Sends requests; returns ``elapsed`` and ``median`` in seconds."""
        self._stdin.write(f"{requests} {connections}\n")
        self._stdin.flush()
        line = self._stdout.readline()
        if not line:
            raise RuntimeError("the client has ended: its message is above")
        found: dict[str, float] = json.loads(line)
        return found


@contextmanager
def _served(files: Sequence[Path]) -> Iterator[_Client]:
    """A client of a warm server."""
    with tempfile.TemporaryDirectory(prefix="lavise-bench-") as folder:
        write_archive(bundle().path, Path(folder), config=_CONFIG)
        with TorchServe(Path(folder)) as server:
            url = f"{server.rest_url}/predictions/lavise"
            script = str(Path(__file__).with_name("rest_client.py"))
            command = [sys.executable, script, url, *map(str, files)]
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                client = _Client(process.stdin, process.stdout)
                client.send(_WARM_UP, _CONNECTIONS)
                yield client
                process.stdin.close()  # the client ends with its input


def latency() -> Iterable[Row]:
    """REST at concurrency 1."""
    explainer = Explainer(bundle(), device="cpu")
    files = jpegs(_FILES)
    encoded = [file.read_bytes() for file in files]
    position = iter(range(10**9))

    def in_process() -> None:
        body = encoded[next(position) % _FILES]
        explanations = explainer.explain([prepare(body, explainer.input_size)])
        orjson.dumps(response_dict(explanations, ["image"], explainer.digest))

    with _served(files) as client:
        client.send(_FILES, 1)
        rounds = paired(
            in_process, lambda: client.send(1, 1)["median"], calls=2 * _FILES, warm_up=20
        )
    own_ms = sorted(r.baseline for r in rounds)[len(rounds) // 2] * 1e3
    yield at_most(
        "torchserve-latency",
        [(r.candidate - r.baseline) * 1e3 for r in rounds],
        bar=5.0,
        unit="ms more at p50",
        baseline=f"in-process decode + explain + JSON of the same JPEG bytes: {own_ms:.1f} ms",
    )


def throughput() -> Iterable[Row]:
    """REST at saturation, one worker."""
    explainer = Explainer(bundle(), device="cpu")
    files = jpegs(_FILES)
    encoded = [file.read_bytes() for file in files]
    size = _CONFIG.batch_size

    def decode(body: bytes) -> np.ndarray:
        return prepare(body, explainer.input_size)

    def in_process() -> None:
        for start in range(0, _AT_ONCE, size):
            batch = [encoded[i % _FILES] for i in range(start, start + size)]
            explanations = explainer.explain(list(pool.map(decode, batch)))
            for one in explanations:
                orjson.dumps(response_dict([one], ["image"], explainer.digest))

    with ThreadPoolExecutor() as pool, _served(files) as client:
        rounds = paired(in_process, lambda: client.send(_AT_ONCE, _CONNECTIONS)["elapsed"])
    rate = _AT_ONCE / sorted(r.baseline for r in rounds)[len(rounds) // 2]
    yield at_least(
        "torchserve-throughput",
        [r.baseline / r.candidate for r in rounds],
        bar=0.85,
        unit="of in-process images/s",
        baseline=f"in-process decode + explain + JSON in batches of {size}: {rate:.0f} images/s; "
        f"the server has one worker and {_CONNECTIONS} connections with a request each",
    )


ROWS: dict[str, Bench] = {
    "torchserve-latency": latency,
    "torchserve-throughput": throughput,
}
