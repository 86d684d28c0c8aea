"""What check_images.py asks of the containers, from inside their network: prints one JSON document.

``ask TARGET PICTURES`` explains an image and compares two sets; ``load TARGET IMAGE SECONDS`` asks
from several sides, without repeating anything, and says what became of each call; ``reach HOST``
says which of TorchServe's ports a neighbour can connect to.
"""

import collections
import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from lavise.client import Client
from lavise.v1 import bias_pb2, explain_pb2, explain_pb2_grpc

_CALLERS = 8
_TORCHSERVE_PORTS = {
    "rest": 8080,
    "management": 8081,
    "metrics": 8082,
    "grpc": 7070,
    "grpc_management": 7071,
}


def ask(target: str, pictures: Path) -> dict[str, object]:
    """Returns the words of an image, and what a comparison of two folders of images came to."""
    first, second = (sorted(folder.glob("*.png")) for folder in sorted(pictures.iterdir())[:2])
    with Client(target) as client:
        answer = client.explain([first[0]], most_active=3, top_k=2)
        words = [one.word for each in answer.images[0].filters for one in each.words]
        sets = [client.upload_image_set(images).name for images in (first, second)]
        comparison = client.compare(*sets, permutations=200)
    return {
        "digest": answer.bundle_digest,
        "words": words,
        "comparison": bias_pb2.Comparison.State.Name(comparison.state),
        "images": [comparison.report.a.image_count, comparison.report.b.image_count],
    }


def load(target: str, image: bytes, seconds: float) -> dict[str, int]:
    """Returns how many calls were answered, refused with a time to come again, and lost."""
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(_CALLERS) as pool:
        counts = pool.map(lambda _: _caller(target, image, end), range(_CALLERS))
    return dict(sum(counts, collections.Counter()))


def reach(host: str) -> list[str]:
    """Returns the doors of TorchServe that take a connection."""
    return [name for name, port in _TORCHSERVE_PORTS.items() if _connects(host, port)]


def _caller(target: str, image: bytes, end: float) -> "collections.Counter[str]":
    request = explain_pb2.ExplainRequest(
        images=[explain_pb2.Image(content=image)], most_active=1, top_k=1
    )
    counts: collections.Counter[str] = collections.Counter()
    with grpc.insecure_channel(target, options=[("grpc.enable_retries", 0)]) as channel:
        stub = explain_pb2_grpc.ExplainerStub(channel)  # type: ignore[no-untyped-call]
        while time.monotonic() < end:
            try:
                stub.Explain(request, timeout=30)
                counts["answered"] += 1
            except grpc.RpcError as problem:
                kind = _kind(problem)
                counts[kind] += 1
                if kind.startswith("lost"):
                    print(problem, file=sys.stderr)
                time.sleep(0.05)
    return counts


def _kind(problem: grpc.RpcError) -> str:
    """Whether a call was told when to come again, met nobody, or was accepted and lost."""
    status = rpc_status.from_call(problem)  # type: ignore[arg-type] # it is a Call as well
    hints = (error_details_pb2.RetryInfo.DESCRIPTOR,)
    if status is not None and any(detail.Is(hint) for detail in status.details for hint in hints):
        return "refused"
    nobody = "failed to connect to all addresses" in (problem.details() or "")
    return "nobody there" if nobody else "lost"


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["ask", target, pictures]:
            found: object = ask(target, Path(pictures))
        case ["load", target, image, seconds]:
            found = load(target, Path(image).read_bytes(), float(seconds))
        case ["reach", host]:
            found = reach(host)
        case _:
            raise SystemExit(__doc__)
    print(json.dumps(found))
