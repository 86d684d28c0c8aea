"""``lavise demo``: from nothing to words on a photograph, and to how two image sets differ."""

import asyncio
import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lavise.cli.output import answers, notes, progress, waiting
from lavise.cli.report_view import report_view
from lavise.cli.serve import curl_command, serve_store
from lavise.cli.tables import explanation_view
from lavise.errors import EnvironmentProblem

if TYPE_CHECKING:
    from lavise.demo.recipe import DemoRecipe
    from lavise.v1.bias_pb2 import Report
    from lavise_service.torchserve import TorchServe

_MODEL: Final = "lavise"
_MOST_ACTIVE: Final = 10
_SET_IMAGES: Final = 120
_PHOTO: Final = Path(__file__).parents[1] / "demo" / "chelsea.jpg"


def demo(
    *,
    stay: Annotated[
        bool, typer.Option("--serve", help="Serve in the foreground until Ctrl-C or SIGTERM.")
    ] = False,
    model_store: Annotated[
        Path, typer.Option(help="Where bundle and archive lie.", metavar="DIR")
    ] = Path("model_store"),
) -> None:
    """Teaches EfficientNet-Lite0, serves it, asks it, compares two image sets, and stops it.

    What an earlier run made is used again, where it is whole and this LaViSE would make the same.
    """
    from lavise.demo.recipe import DemoRecipe

    make(model_store, DemoRecipe())
    if stay:
        from lavise_service.torchserve import Ports

        serve_store(model_store, Ports(), models=(_MODEL,), photo=_near(_PHOTO))
    else:
        ask(model_store)


def make(model_store: Path, recipe: "DemoRecipe") -> None:
    """Sees to it that a model store has the demo bundle and its archive.

    Args:
        model_store: The bundle becomes its folder ``demo``, the archive ``lavise.mar``.
        recipe: How the bundle is to be made.

    Raises:
        BundleError: Something that is no bundle is in its place.
        EnvironmentProblem: A package is missing or the disk is full.
    """
    from lavise.demo.recipe import demo_bundle
    from lavise_service.archive import write_archive

    console = notes()
    with progress(console) as track:
        bundle = demo_bundle(model_store / "demo", recipe, track=track, say=console.print)
    # Written each time: it is a plain copy, no slower than finding out whether it is up to date.
    archive = write_archive(bundle.path, model_store, name=_MODEL)
    console.print(f"bundle {bundle.path} ({bundle.digest[:12]}), archive {archive}")


def ask(model_store: Path) -> None:
    """Starts the servers on free ports, asks all doors, and stops them.

    TorchServe's REST and gRPC are asked about the photograph, and the companion compares two
    composed image sets.

    Args:
        model_store: Holds ``lavise.mar``; the page of the comparison is written there.

    Raises:
        EnvironmentProblem: The server cannot start, or its doors do not agree.
    """
    from lavise_service.client import GrpcClient, RestClient
    from lavise_service.torchserve import Ports, TorchServe

    photo = _PHOTO.read_bytes()
    request = {"mostActive": _MOST_ACTIVE}
    server = TorchServe(model_store, models=(_MODEL,), ports=Ports.free())
    try:
        with waiting(notes(), "starting TorchServe"):
            server.start()
        with RestClient(server.rest_url, model=_MODEL) as rest:
            over_rest = rest.explain([photo], request)
        with GrpcClient(server.grpc_target, model=_MODEL) as grpc:
            over_grpc = grpc.explain([photo], request)
        with waiting(notes(), f"comparing two sets of {_SET_IMAGES} images through the companion"):
            report, page = asyncio.run(_compare(server))
    finally:
        with waiting(notes(), "stopping TorchServe"):
            server.stop()
    console = answers()
    for door, answer in (("REST", over_rest), ("gRPC", over_grpc)):
        console.rule(f"the {_MOST_ACTIVE} most active filters, asked over {door}", align="left")
        console.print(explanation_view(answer["images"][0] | {"source": _PHOTO.name}))
    if not agree(over_rest, over_grpc):
        raise EnvironmentProblem("REST and gRPC do not give the same answer", field="torchserve")
    console.print("Both doors give the same answer.")
    console.rule("how two image sets differ, asked of the companion", align="left")
    console.print(report_view(report))
    file = model_store / "comparison.html"
    file.write_text(page, encoding="utf-8")
    console.print(f"The same as a page: {_near(file)}. To ask again, run `make serve`, and then:")
    usual = "http://127.0.0.1:8000"
    console.print(f"  {curl_command(usual, _near(_PHOTO), _MOST_ACTIVE)}", soft_wrap=True)


async def _compare(server: "TorchServe") -> "tuple[Report, str]":
    """Runs the companion beside TorchServe, and has it compare the two sets of the demo."""
    import httpx

    from lavise.client import AsyncClient
    from lavise.demo.image_sets import PLANTED, two_sets
    from lavise_service.companion.lifecycle import Doors, serve
    from lavise_service.companion.settings import Address, Settings

    host, _, port = server.grpc_target.rpartition(":")
    a, b = await asyncio.to_thread(two_sets, _SET_IMAGES)
    stop, opened = asyncio.Event(), asyncio.get_running_loop().create_future()
    with TemporaryDirectory(prefix="lavise-") as store:
        settings = Settings(
            grpc_listen=Address("127.0.0.1", 0),
            http_listen=Address("127.0.0.1", 0),
            torchserve=Address(host, int(port)),
            model=_MODEL,
            store=store,
        )
        serving = asyncio.create_task(
            serve(settings, stop, when_open=opened.set_result, linger_s=0)
        )
        await asyncio.wait((serving, opened), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        doors: Doors = opened.result()
        try:
            async with AsyncClient(str(doors.grpc)) as lavise:
                sets = [
                    await lavise.upload_image_set(images, display_name=name, thumbnails=True)
                    for name, images in ((f"{PLANTED}s common", a), (f"{PLANTED}s rare", b))
                ]
                found = await lavise.compare(*(one.name for one in sets))
            async with httpx.AsyncClient(base_url=f"http://{doors.http}", trust_env=False) as web:
                page = await web.get(f"/v1/{found.name}/report.html", timeout=60)
        finally:
            stop.set()
            await serving
    if not found.HasField("report") or page.is_error:
        raise EnvironmentProblem(f"the comparison failed: {found.error.message or page.text}")
    return found.report, page.text


def agree(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether two answers say the same, up to rounding.

    Args:
        one: JSON.
        other: JSON.

    Returns:
        True where structure and texts are equal and numbers differ by at most a ten-thousandth.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
    return bool(one == other)


def _near(file: Path) -> str:
    """A file's name as somebody types it here."""
    inside = os.path.relpath(file)
    return str(file) if inside.startswith("..") else inside
