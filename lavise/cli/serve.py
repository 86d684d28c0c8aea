"""``lavise serve``: TorchServe and the companion, until Ctrl-C or SIGTERM."""

import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lavise.cli.output import answers, notes, waiting
from lavise.errors import RequestError

if TYPE_CHECKING:
    from lavise_service.companion.lifecycle import Doors
    from lavise_service.torchserve import Ports, TorchServe


def _port(what: str) -> Any:  # noqa: ANN401 - typer's option has no public type
    return typer.Option(help=what, min=1, max=65535, metavar="PORT")


def serve(
    *,
    bundle: Annotated[
        Path | None, typer.Option(help="Serve this bundle, as model lavise.", metavar="BUNDLE")
    ] = None,
    model_store: Annotated[
        Path | None,
        typer.Option(
            help="Serve every .mar file of this folder.", metavar="DIR", show_default="model_store"
        ),
    ] = None,
    port: Annotated[int, _port("REST.")] = 8080,
    management_port: Annotated[int, _port("REST, what is loaded.")] = 8081,
    metrics_port: Annotated[int, _port("For Prometheus.")] = 8082,
    grpc_port: Annotated[int, _port("gRPC.")] = 7070,
    grpc_management_port: Annotated[int, _port("gRPC, what is loaded.")] = 7071,
) -> None:
    """Serves until Ctrl-C or SIGTERM; the log goes to stderr.

    TorchServe listens on loopback, at the ports below; the companion, which faces clients, where
    LAVISE_GRPC_LISTEN and LAVISE_HTTP_LISTEN say. docs/settings.md lists its settings.
    """
    from lavise_service.torchserve import Ports

    if bundle is not None and model_store is not None:
        raise RequestError("give one of --bundle and --model-store, not both", field="bundle")
    ports = Ports(port, management_port, metrics_port, grpc_port, grpc_management_port)
    with ExitStack() as stack:
        store = model_store or Path("model_store")
        if bundle is not None:
            from lavise.bundle import open_bundle
            from lavise_service.archive import write_archive

            open_bundle(bundle)  # a damaged bundle is said here, not in a worker's log
            store = Path(stack.enter_context(TemporaryDirectory(prefix="lavise-")))
            write_archive(bundle, store)
        serve_store(store, ports)


def serve_store(
    store: Path, ports: "Ports", *, models: tuple[str, ...] = (), photo: str = "photo.jpg"
) -> None:
    """Serves the archives of a model store until Ctrl-C or SIGTERM.

    Args:
        store: Holds the .mar files.
        ports: Where to listen, on loopback.
        models: Which to serve; all of them when empty.
        photo: What the example of a request sends.

    Raises:
        EnvironmentProblem: A server cannot start, or ends by itself.
        SpecError: A LAVISE_* setting is not accepted.
    """
    from lavise_service.companion.settings import Settings
    from lavise_service.together import run_together
    from lavise_service.torchserve import TorchServe

    settings = Settings()
    server = TorchServe(store, models=models, ports=ports, echo=sys.stderr)

    with ExitStack() as stack:
        stack.enter_context(waiting(notes(), "starting TorchServe"))

        def ready(started: TorchServe, doors: "Doors") -> None:
            stack.close()
            _print_doors(started, doors, photo)

        run_together(server, settings, when_ready=ready)
    notes().print("stopped")


def curl_command(url: str, photo: str, most_active: int) -> str:
    """A command that asks the companion for words.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
        photo: A file.
        most_active: How many filters.

    Returns:
        One line for a shell.
    """
    import shlex

    asked = f'{{"mostActive": {most_active}}}'
    form = f"-F {shlex.quote(f'image=@{photo}')} -F {shlex.quote(f'request={asked}')}"
    return f"curl {form} {url}/v1/explain"


def _print_doors(server: "TorchServe", doors: "Doors", photo: str) -> None:
    console = answers()
    console.print(f"serving {', '.join(server.models)} until Ctrl-C")
    console.print(f"  HTTP        http://{doors.http}, its page http://{doors.http}/docs")
    console.print(f"  gRPC        {doors.grpc}")
    console.print(f"  metrics     http://{doors.http}/metrics")
    console.print("and behind them TorchServe, for this machine alone:")
    console.print(f"  REST        {server.rest_url}/predictions/NAME")
    console.print(f"  gRPC        {server.grpc_target}")
    console.print(f"  management  {server.management_url}/models")
    console.print(f"  metrics     {server.metrics_url}")
    console.print("ask it, for example:", soft_wrap=True)
    console.print(f"  {curl_command(f'http://{doors.http}', photo, 10)}", soft_wrap=True)
    console.file.flush()
