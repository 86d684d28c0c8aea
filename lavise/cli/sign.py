"""``lavise sign``: who made a bundle, for those who ask for a signature."""

from pathlib import Path
from typing import Annotated

import typer

from lavise.cli.arguments import BundleFolder, Json
from lavise.cli.output import answers, print_json, shown


def sign(
    bundle: BundleFolder,
    *,
    key: Annotated[Path, typer.Option(help="PEM file of an Ed25519 private key.", metavar="FILE")],
    as_json: Json = False,
) -> None:
    """Signs a bundle. Where LAVISE_BUNDLE_KEY names the public key, only signed ones open.

    openssl genpkey -algorithm ed25519 -out KEY makes a key, openssl pkey -in KEY -pubout its
    public half. Teaching or describing a bundle again takes its signature away.
    """
    from lavise.bundle import MANIFEST, open_bundle
    from lavise.signature import write_signature

    opened = open_bundle(bundle, trusted=True)  # a damaged bundle is nobody's work
    written = write_signature(bundle, (bundle / MANIFEST).read_bytes(), key)
    if as_json:
        print_json({"signature": shown(written), "bundleDigest": opened.digest})
    else:
        answers().print(f"wrote {shown(written)} (bundle {opened.digest[:12]})")
