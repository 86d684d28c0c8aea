"""The program ``lavise``: its commands, and how it ends."""

import signal
from importlib.metadata import version
from typing import Annotated

import typer

from lavise.cli import (
    archive,
    catalog,
    compare,
    demo,
    evaluate,
    explain,
    inspect,
    serve,
    sign,
    teach,
)
from lavise.cli.errors import Commands, end_by_signal

app = typer.Typer(
    cls=Commands,
    help="Tells, in words, what the filters of a vision network have learned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    teach.teach,
    catalog.catalog,
    evaluate.evaluate,
    explain.explain,
    compare.compare,
    inspect.inspect,
    sign.sign,
    archive.archive,
    serve.serve,
    demo.demo,
):
    app.command()(command)


def _show_version(value: bool) -> None:  # noqa: FBT001 - typer calls it so
    if value:
        typer.echo(f"lavise {version('lavise')}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Say the version and exit."
        ),
    ] = False,
) -> None:
    """Options of lavise itself."""


def main() -> None:
    """Runs the command line; a signal to end runs every clean-up on the way out."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end_by_signal)
    app()
