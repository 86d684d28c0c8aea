"""A cheap REST client in a process of its own, so that it does not share a lock with anybody.

    python benchmarks/rest_client.py URL FILE [FILE ...]

For each line on standard input, ``REQUESTS CONNECTIONS``, it sends that many requests over that
many kept-alive connections and prints ``{"elapsed": seconds, "median": seconds}``: from the first
byte sent to the last byte read of all of them, and of one request in the middle.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from threading import local
from urllib.parse import urlsplit

_TIMEOUT_S = 120


class Client:
    """Sends the same files round and round.

    Args:
        url: Where each is posted to.
        bodies: The encoded images.
    """

    def __init__(self, url: str, bodies: list[bytes]) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path
        self._bodies = itertools.cycle(bodies)
        self._of_thread = local()

    def post(self, body: bytes) -> float:
        """Sends one image over the thread's own connection; returns the seconds it took."""
        if not hasattr(self._of_thread, "connection"):
            connection = HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
            self._of_thread.connection = connection
        start = time.perf_counter()
        self._of_thread.connection.request("POST", self._path, body, {"Content-Type": "image/jpeg"})
        answer = self._of_thread.connection.getresponse()
        content = answer.read()
        elapsed = time.perf_counter() - start
        if answer.status != 200:
            raise SystemExit(f"answer {answer.status}: {content[:500]!r}")
        return elapsed

    def run(self, requests: int, pool: ThreadPoolExecutor) -> dict[str, float]:
        """Sends requests from every thread of the pool; returns what is printed."""
        bodies = list(itertools.islice(self._bodies, requests))
        start = time.perf_counter()
        seconds = list(pool.map(self.post, bodies))
        return {"elapsed": time.perf_counter() - start, "median": median(seconds)}


def main(url: str, files: list[str]) -> None:
    """Answers lines until standard input ends."""
    client = Client(url, [Path(file).read_bytes() for file in files])
    pools: dict[int, ThreadPoolExecutor] = {}
    for line in sys.stdin:
        requests, connections = map(int, line.split())
        pool = pools.setdefault(connections, ThreadPoolExecutor(connections))
        print(json.dumps(client.run(requests, pool)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
