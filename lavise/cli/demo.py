"""``lavise demo``: from nothing to words on a photograph, through both doors of a real server."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lavise.cli.output import answers, notes, progress, waiting
from lavise.cli.serve import curl_command, serve_store
from lavise.cli.tables import explanation_view
from lavise.errors import EnvironmentProblem

if TYPE_CHECKING:
    from lavise.demo.recipe import DemoRecipe

_MODEL: Final = "lavise"
_MOST_ACTIVE: Final = 10
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
    """Teaches EfficientNet-Lite0, serves it, asks it over REST and gRPC, and stops it.

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
    """Starts TorchServe on free ports, asks both doors about the photograph, and stops it.

    Args:
        model_store: Holds ``lavise.mar``.

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
    finally:
        with waiting(notes(), "stopping TorchServe"):
            server.stop()
    console = answers()
    for door, answer in (("REST", over_rest), ("gRPC", over_grpc)):
        console.rule(f"the {_MOST_ACTIVE} most active filters, asked over {door}", align="left")
        console.print(explanation_view(answer["images"][0] | {"source": _PHOTO.name}))
    if not agree(over_rest, over_grpc):
        raise EnvironmentProblem("REST and gRPC do not give the same answer", field="torchserve")
    console.print("Both doors give the same answer. To ask again, run `make serve`, and then:")
    usual = f"http://127.0.0.1:{Ports().rest}"
    console.print(f"  {curl_command(usual, _MODEL, _near(_PHOTO), _MOST_ACTIVE)}", soft_wrap=True)


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
