"""``lavise catalog``: describes every filter of a bundle over a folder of images."""

from pathlib import Path
from typing import Annotated

import typer

from lavise.cli.arguments import BundleFolder, DeviceName, Json
from lavise.cli.output import answers, notes, print_json, progress, shown


def catalog(
    bundle: BundleFolder,
    images: Annotated[
        Path, typer.Option(help="A folder of images, at any depth: the probe set.", metavar="DIR")
    ],
    *,
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Describes every filter over a probe set and puts the catalog into the bundle.

    With --json it prints a lavise.v1 GetModelResponse.
    """
    from lavise.bundle import open_bundle
    from lavise.catalog import make_catalog
    from lavise.explainer import Explainer
    from lavise.image_set import folder_images
    from lavise.messages import message_dict, model_message

    console = notes()
    opened = open_bundle(bundle)
    probe = folder_images(images, opened.manifest.cnn.input_size)
    with progress(console) as track:
        described = make_catalog(opened, probe, device=device, track=track, say=console.print)
    if as_json:
        print_json(message_dict(model_message(Explainer(described, device=device))))
        return
    channels = {layer.name: layer.channels for layer in described.manifest.cnn.layers}
    for entry in described.manifest.catalogs:
        answers().print(
            f"{shown(entry.layer)}: {entry.described} of {channels[entry.layer]} filters "
            f"described over {entry.images:,} images"
        )
    answers().print(f"wrote {shown(bundle)} (digest {described.digest[:12]})")
