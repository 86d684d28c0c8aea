"""A little of everything that is asked of LaViSE, right and wrong, so that every number moves."""

import contextlib
import io
import time
from collections.abc import Iterator

import grpc
import httpx
import numpy as np
from PIL import Image

from lavise.client import Client
from lavise.v1.bias_pb2 import CompareRequest
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise_service.companion.lifecycle import Doors

# Shuffles, so that a comparison lasts; and seconds of such comparisons, several scrapes long.
_MANY = 100_000
_AT_WORK_S = 6.0
# Between two of a kind: a rate needs the first one scraped before the second.
_APART_S = 2.5


def pictures(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Names and files of noise, every tenth of which is no image."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, "PNG")
        yield f"{number}.png", b"no image" if number % 10 == 9 else buffer.getvalue()


def everything(doors: Doors, token: str) -> None:
    """Asks both doors for everything, makes two image sets, and compares them.

    Args:
        doors: Of the companion.
        token: That it lets in.
    """
    bearer = {"authorization": f"Bearer {token}"}
    with (
        Client(str(doors.grpc), token=token) as client,
        httpx.Client(base_url=f"http://{doors.http}", headers=bearer, trust_env=False) as http,
    ):
        _explain(client, http, seconds=4)
        names = []
        for seed in (1, 2):
            made = client.upload_image_set(list(pictures(seed, 60)), name=f"imageSets/{seed}")
            names.append(made.name)
            time.sleep(_APART_S)
        http.post(
            "/v1/imageSets", content=b"no archive", headers={"content-type": "application/zip"}
        )
        _compare(doors, token, names)
        client.compare(*names, permutations=100)
        _explain(client, http, seconds=3)


def _explain(client: Client, http: httpx.Client, *, seconds: float) -> None:
    images = dict(list(pictures(0, 9)))
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        client.explain(list(images.items())[:2], most_active=5)
        client.model()
        http.post("/v1/explain", content=images["0.png"], headers={"content-type": "image/png"})
        http.post("/v1/explain", content=b"no image", headers={"content-type": "image/png"})
        http.get("/v1/imageSets", headers={"authorization": "Bearer of-nobody"})
        time.sleep(0.02)


def _compare(doors: Doors, token: str, names: list[str]) -> None:
    """Compares again and again until it has been seen at work, and gives the last one up."""
    metadata = (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(str(doors.grpc)) as channel:
        bias = BiasComparisonStub(channel)  # type: ignore[no-untyped-call]
        asked = CompareRequest(image_set_a=names[0], image_set_b=names[1], permutations=_MANY)
        ends = time.monotonic() + _AT_WORK_S
        while time.monotonic() < ends:
            events = bias.Compare(asked, metadata=metadata)
            with contextlib.suppress(grpc.RpcError):
                for _ in events:
                    if time.monotonic() > ends:
                        events.cancel()
