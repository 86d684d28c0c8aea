"""The calls of the load, one function a kind: ask, and compare the answer with the right one."""

from __future__ import annotations

import random
import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from google.protobuf import json_format

from lavise.client.requests import upload_parts
from lavise.v1 import bias_pb2, explain_pb2
from reliability.clients import METADATA, STREAM_S, UNARY_S, http_outcome, outcome
from reliability.plan import PERMUTATIONS
from reliability.records import OK
from reliability.truth import VARIANTS, WAYS, members, wrong_descriptions, wrong_explanation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from reliability.clients import Clients
    from reliability.truth import Truth

_REMEMBERED: Final = 64
_LOOKED_UP: Final = 20


class HttpError(Exception):
    """An answer that is an error.

    Args:
        answer: It.
    """

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__(answer.text)
        self.answer = answer


class WrongAnswer(Exception):  # noqa: N818 - it says what it is
    """An answer that is not the right one."""


@dataclass
class World:
    """What the calls share.

    Attributes:
        truth: The right answers.
        clients: Connections.
        sets: Image sets that are ready, the last ones.
        comparisons: Comparisons that are done, the last ones, with what their pages must name.
    """

    truth: Truth
    clients: Clients
    sets: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    comparisons: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    async def call(self, kind: str, seed: int) -> tuple[str, bool, str, str]:
        """Makes a call.

        Returns:
            Code, whether there is a hint when to come again, what is wrong, what was made.
        """
        try:
            made = await _KINDS[kind](self, random.Random(seed))
        except WrongAnswer as problem:
            return OK, False, f"{kind}: {problem}", ""
        except HttpError as problem:
            return *http_outcome(problem.answer), "", ""
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is the call's outcome
            return *outcome(problem), "", ""
        return OK, False, "", made


async def explain_grpc(world: World, rng: random.Random) -> str:
    """Explain over gRPC."""
    way, number = rng.choice(list(WAYS)), rng.randrange(len(world.truth.images))
    request = explain_pb2.ExplainRequest()
    request.CopyFrom(WAYS[way])
    request.images.add(content=world.truth.images[number][1])
    answer = await world.clients.explainer.Explain(request, metadata=METADATA, timeout=UNARY_S)
    _check(wrong_explanation(answer, world.truth.explained[way][number]))
    return ""


async def explain_http(world: World, rng: random.Random) -> str:
    """Explain over HTTP: the bare image, or a form."""
    way, number = rng.choice(list(WAYS)), rng.randrange(len(world.truth.images))
    image = world.truth.images[number][1]
    body: dict[str, Any] = {"content": image, "headers": {"content-type": "image/jpeg"}}
    if way != "default":
        asked = orjson.dumps(json_format.MessageToDict(WAYS[way]))
        body = {"files": {"image": ("image", image)}, "data": {"request": asked.decode()}}
    answer = await _http(world, "POST", "/v1/explain", **body)
    parsed = json_format.Parse(answer.content, explain_pb2.ExplainResponse())
    _check(wrong_explanation(parsed, world.truth.explained[way][number]))
    return ""


async def explain_client(world: World, rng: random.Random) -> str:
    """Explain by lavise.client."""
    number = rng.randrange(len(world.truth.images))
    answer = await world.clients.retrying.explain([world.truth.images[number]])
    _check(wrong_explanation(answer, world.truth.explained["default"][number]))
    return ""


async def describe_grpc(world: World, rng: random.Random) -> str:
    """DescribeFilters over gRPC."""
    indices = rng.sample(sorted(world.truth.filters), _LOOKED_UP)
    request = explain_pb2.DescribeFiltersRequest(indices=indices)
    answer = await world.clients.explainer.DescribeFilters(
        request, metadata=METADATA, timeout=UNARY_S
    )
    _check(wrong_descriptions(answer.filters, indices, world.truth))
    return ""


async def describe_http(world: World, rng: random.Random) -> str:
    """DescribeFilters over HTTP."""
    indices = rng.sample(sorted(world.truth.filters), _LOOKED_UP)
    answer = await _http(world, "GET", "/v1/filters", params={"indices": indices})
    parsed = json_format.Parse(answer.content, explain_pb2.DescribeFiltersResponse())
    _check(wrong_descriptions(parsed.filters, indices, world.truth))
    return ""


async def describe_client(world: World, rng: random.Random) -> str:
    """DescribeFilters by lavise.client."""
    indices = rng.sample(sorted(world.truth.filters), _LOOKED_UP)
    answer = [one async for one in world.clients.retrying.describe_filters(indices=indices)]
    _check(wrong_descriptions(answer, indices, world.truth))
    return ""


async def upload_grpc(world: World, rng: random.Random) -> str:
    """An image set over gRPC."""
    name, images = _set(world, rng)
    parts = upload_parts(bias_pb2.ImageSetMetadata(name=name, thumbnails=True), images, 0)
    answer = await world.clients.bias.UploadImageSet(parts, metadata=METADATA, timeout=STREAM_S)
    return _ready(world, answer.image_set, name)


async def upload_http(world: World, rng: random.Random) -> str:
    """An image set over HTTP, as a form."""
    name, images = _set(world, rng)
    files = [("image", image) for image in images]
    asked = {"name": name, "thumbnails": True}
    answer = await _http(world, "POST", "/v1/imageSets", params=asked, files=files)
    parsed = json_format.Parse(answer.content, bias_pb2.ImageSet())
    return _ready(world, parsed, name)


async def upload_client(world: World, rng: random.Random) -> str:
    """An image set by lavise.client, which goes on where it broke off."""
    name, images = _set(world, rng)
    made = await world.clients.retrying.upload_image_set(images, name=name, thumbnails=True)
    return _ready(world, made, name)


async def compare_grpc(world: World, rng: random.Random) -> str:
    """Compare over gRPC, to its end."""
    a, b = rng.sample(world.sets, 2)
    request = bias_pb2.CompareRequest(
        image_set_a=a, image_set_b=b, seed=rng.randrange(1000), permutations=PERMUTATIONS
    )
    found = bias_pb2.Comparison()
    async for event in world.clients.bias.Compare(request, metadata=METADATA, timeout=STREAM_S):
        found = event.comparison
    return _done(world, found)


async def compare_client(world: World, rng: random.Random) -> str:
    """Compare by lavise.client."""
    a, b = rng.sample(world.sets, 2)
    return _done(
        world,
        await world.clients.retrying.compare(
            a, b, seed=rng.randrange(1000), permutations=PERMUTATIONS
        ),
    )


async def page_http(world: World, rng: random.Random) -> str:
    """The page of a report."""
    name, word = rng.choice(world.comparisons)
    answer = await _http(world, "GET", f"/v1/{name}/report.html")
    whole = answer.text.rstrip().endswith("</html>") and word in answer.text
    _check("" if whole else "half a page, or another one")
    return ""


def _set(world: World, rng: random.Random) -> tuple[str, list[tuple[str, bytes]]]:
    """A new name, which says what is in the set, and the images."""
    variant = rng.randrange(VARIANTS)
    name = f"imageSets/{secrets.token_hex(8)}-v{variant}"
    return name, [world.truth.images[number] for number in members(variant)]


def _ready(world: World, made: bias_pb2.ImageSet, name: str) -> str:
    right = (name, bias_pb2.ImageSet.STATE_READY, len(members(0)), 0)
    if (made.name, made.state, made.image_count, made.rejected_count) != right:
        raise WrongAnswer(f"{made.name} has {made.image_count} images, state {made.state}")
    world.sets.append(name)
    return name


def _done(world: World, made: bias_pb2.Comparison) -> str:
    if made.state != bias_pb2.Comparison.STATE_DONE:
        raise WrongAnswer(f"state {made.state}: {made.error.message}")
    _check("" if made.report.words else "no words")
    world.comparisons.append((made.name, made.report.words[0].word))
    return made.name


async def _http(world: World, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - httpx takes many
    answer = await world.clients.http(method, path, **more)
    if answer.status_code >= 300:
        raise HttpError(answer)
    return answer


def _check(wrong: str) -> None:
    if wrong:
        raise WrongAnswer(wrong)


_KINDS: Final[dict[str, Callable[[World, random.Random], Awaitable[str]]]] = {
    "explain-grpc": explain_grpc,
    "explain-http": explain_http,
    "explain-client": explain_client,
    "describe-grpc": describe_grpc,
    "describe-http": describe_http,
    "describe-client": describe_client,
    "upload-grpc": upload_grpc,
    "upload-http": upload_http,
    "upload-client": upload_client,
    "compare-grpc": compare_grpc,
    "compare-client": compare_client,
    "page-http": page_http,
}
