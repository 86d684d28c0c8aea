"""``lavise archive``: a bundle and the handler in the one file that TorchServe loads."""

from pathlib import Path
from typing import Annotated

import typer

from lavise.cli.arguments import BundleFolder, Json
from lavise.cli.output import answers, print_json, shown


def archive(
    bundle: BundleFolder,
    *,
    export_path: Annotated[
        Path, typer.Option(help="The model store; made where it is missing.", metavar="DIR")
    ] = Path("model_store"),
    name: Annotated[
        str, typer.Option(help="The model's name at TorchServe's doors: /predictions/NAME.")
    ] = "lavise",
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
    batch_size: Annotated[
        int, typer.Option(help="Requests that are answered together, at most.", min=1)
    ] = 8,
    threads: Annotated[
        int,
        typer.Option(
            help="CPU threads of each worker; 0: as many as the machine has cores, which in a "
            "container with a CPU limit are too many.",
            min=0,
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Writes DIR/NAME.mar, which `lavise serve` serves."""
    from lavise.bundle import open_bundle
    from lavise_service.archive import WorkerConfig, write_archive

    opened = open_bundle(bundle)  # a damaged bundle must not reach a server
    config = WorkerConfig(workers=workers, batch_size=batch_size, threads=threads)
    written = write_archive(bundle, export_path, name=name, config=config)
    if as_json:
        print_json({"archive": shown(written), "model": name, "bundleDigest": opened.digest})
    else:
        answers().print(f"wrote {shown(written)} (bundle {opened.digest[:12]})")
