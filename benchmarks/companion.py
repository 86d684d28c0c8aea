"""Rows explain-hop and profile-throughput: what the companion costs on top of TorchServe.

TorchServe serves the bundle with one worker, the companion stands before it in a process of its
own, on loopback, with tokens and logs as in production; the client is this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import orjson

from benchmarks.harness import Row, at_least, at_most, paired
from benchmarks.material import bundle, jpegs
from lavise.client import Client
from lavise.explainer import Explainer
from lavise.images import prepare
from lavise.messages import image_profiles, profile_dict
from lavise.v1.profile_pb2 import ProfileRequest
from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.client import GrpcClient
from lavise_service.torchserve import TorchServe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from benchmarks.harness import Bench

_FILES: Final = 64
_SET: Final = 512
_BATCH: Final = 16
_WARM_UP: Final = 600
_TOKEN: Final = "t" * 32
_RUN: Final = """
from lavise_service.companion.lifecycle import run
from lavise_service.companion.settings import Settings
run(Settings(), when_open=lambda doors: print(doors.grpc, flush=True))
"""


@contextmanager
def _served() -> Iterator[tuple[GrpcClient, Client]]:
    """A client of TorchServe, and one of the companion before it."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lavise-bench-"))
        write_archive(bundle().path, Path(folder), config=WorkerConfig())
        server = stack.enter_context(TorchServe(Path(folder)))
        environment = os.environ | {
            "LAVISE_TORCHSERVE": server.grpc_target,
            "LAVISE_GRPC_LISTEN": "127.0.0.1:0",
            "LAVISE_HTTP_LISTEN": "127.0.0.1:0",
            "LAVISE_STORE": f"{folder}/store",
            "LAVISE_TOKENS": f"bench={_TOKEN}",
        }
        companion = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", _RUN],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        stack.callback(companion.terminate)
        assert companion.stdout is not None
        target = companion.stdout.readline().strip()
        assert target, "the companion has ended"
        direct = stack.enter_context(GrpcClient(server.grpc_target))
        client = stack.enter_context(Client(target, token=_TOKEN))
        yield direct, client


def hop() -> Iterable[Row]:
    """Explain over gRPC at concurrency 1, through the companion and past it."""
    files = jpegs(_FILES)
    encoded = [file.read_bytes() for file in files]
    position = iter(range(10**9))

    with _served() as (direct, client):

        def past() -> None:
            direct.explain([encoded[next(position) % _FILES]])

        def through() -> None:
            client.explain([("image", encoded[next(position) % _FILES])])

        for _ in range(_WARM_UP):
            past()
        rounds = paired(past, through, calls=2 * _FILES, warm_up=_FILES)
    own_ms = median(r.baseline for r in rounds) * 1e3
    yield at_most(
        "companion-explain-hop",
        [(r.candidate - r.baseline) * 1e3 for r in rounds],
        bar=3.0,
        unit="ms more at p50",
        baseline=f"TorchServe's gRPC asked directly, same JPEG bytes: {own_ms:.1f} ms",
    )


def profiles() -> Iterable[Row]:
    """Taking an image set in, against the handler's own work."""
    explainer = Explainer(bundle(), device="cpu")
    files = jpegs(_SET)
    encoded = [file.read_bytes() for file in files]
    request = ProfileRequest()

    def decode(body: bytes) -> np.ndarray:
        return prepare(body, explainer.input_size)

    def handler() -> None:
        for start in range(0, _SET, _BATCH):
            pixels = list(pool.map(decode, encoded[start : start + _BATCH]))
            images = image_profiles(explainer.profile(pixels), pixels)
            orjson.dumps(profile_dict(explainer, request, images))

    with ThreadPoolExecutor() as pool, _served() as (_, client):

        def upload() -> None:
            client.delete_image_set(client.upload_image_set(files).name)

        rounds = paired(handler, upload, rounds=7)
    rate = _SET / median(r.baseline for r in rounds)
    yield at_least(
        "companion-profile-throughput",
        [r.baseline / r.candidate for r in rounds],
        bar=0.85,
        unit="of the handler's own images/s",
        baseline=f"the handler's work in-process (decode, profile, JSON in batches of {_BATCH}): "
        f"{rate:.0f} images/s; the upload ends with the finished set in the store",
    )


ROWS: dict[str, Bench] = {
    "companion-explain-hop": hop,
    "companion-profile-throughput": profiles,
}
