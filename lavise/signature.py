"""Who made a bundle: an Ed25519 signature of its manifest, which has the sha256 of every file.

Optional. It lies beside the manifest as ``manifest.sig``, 64 bytes in base64, and is what
``openssl pkeyutl -sign -rawin`` makes as well. Where ``LAVISE_BUNDLE_KEY`` names public keys,
nothing opens that none of them has signed.
"""

import base64
import binascii
import os
import re
import tempfile
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from lavise.errors import BundleError, EnvironmentProblem, SpecError

VARIABLE: Final = "LAVISE_BUNDLE_KEY"
SIGNATURE: Final = "manifest.sig"
_LONGEST: Final = 1024
_PEM: Final = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


def trusted_keys() -> list[Ed25519PublicKey]:
    """The public keys that ``LAVISE_BUNDLE_KEY`` names; none where it is not set.

    Raises:
        SpecError: Its file cannot be read, or holds something else.
    """
    name = os.environ.get(VARIABLE, "")
    if not name:
        return []
    try:
        blocks = _PEM.findall(Path(name).read_bytes())
    except OSError as problem:
        raise SpecError(
            f"{VARIABLE} is {name!r}, which cannot be read: {problem.strerror}", field=VARIABLE
        ) from problem
    keys = []
    for block in blocks:
        try:
            key = load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise SpecError(f"{VARIABLE}: {name!r} holds another key than Ed25519", field=VARIABLE)
        keys.append(key)
    if not keys:
        raise SpecError(
            f"{VARIABLE}: {name!r} holds no public key; accepted: one or more in PEM, such as "
            "openssl pkey -in KEY -pubout writes",
            field=VARIABLE,
        )
    return keys


def verify(folder: Path, manifest: bytes, keys: list[Ed25519PublicKey]) -> None:
    """Returns where one of some keys has signed a manifest.

    Args:
        folder: Of the bundle.
        manifest: Its manifest.json, as it lies there.
        keys: Whose signature is accepted.

    Raises:
        BundleError: The bundle is not signed, or by none of them.
    """
    try:
        with (folder / SIGNATURE).open("rb") as file:
            text = file.read(_LONGEST)
    except OSError as problem:
        raise BundleError(
            f"bundle {str(folder)!r} is not signed, and {VARIABLE} asks for a signature; sign it "
            "with: lavise sign BUNDLE --key KEY",
            field=SIGNATURE,
        ) from problem
    try:
        signature = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        signature = b""
    for key in keys:
        try:
            key.verify(signature, manifest)
        except InvalidSignature:
            continue
        return
    raise BundleError(
        f"the signature of bundle {str(folder)!r} is of no key in {VARIABLE}, or the bundle was "
        "changed since; have it signed by who made it",
        field=SIGNATURE,
    )


def write_signature(folder: Path, manifest: bytes, key: Path) -> Path:
    """Signs a manifest.

    Args:
        folder: Of the bundle.
        manifest: Its manifest.json.
        key: PEM file of an Ed25519 private key, without a passphrase.

    Returns:
        The file of the signature.

    Raises:
        SpecError: The key cannot be read, or is of another kind.
        EnvironmentProblem: The folder cannot be written.
    """
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except OSError as problem:
        raise SpecError(f"key {str(key)!r} cannot be read: {problem.strerror}", field="key") from (
            problem
        )
    except (TypeError, ValueError, UnsupportedAlgorithm):
        # Without the reason: it may quote what was read.
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise SpecError(
            f"key {str(key)!r} is not accepted: an Ed25519 private key in PEM is, without a "
            "passphrase. Make one with: openssl genpkey -algorithm ed25519 -out KEY",
            field="key",
        )
    text = base64.b64encode(private.sign(manifest)) + b"\n"
    target = folder / SIGNATURE
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(target)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{str(target)!r} cannot be written: {problem.strerror}", field=str(target)
        ) from problem
    return target
