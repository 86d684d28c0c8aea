"""The artefact on disk: a folder that holds everything that serving needs, checked on opening.

    manifest.json                what it is, and the sha256 of every other file
    cnn.onnx                     images -> feature maps and logits, for catalogs and evaluation
    words.LAYER.METHOD.onnx      images, few filters -> words (small; weights lie further down)
    words.LAYER.METHOD.many.onnx the same for many filters
    profile.LAYER.onnx           images -> word scores, for comparisons
    cnn.safetensors              the CNN's weights
    mapper.LAYER.safetensors     the mapper's weights
    vocabulary.safetensors       the word vectors, as the graphs multiply them
    vocabulary.txt               the words, one a line
    catalog.LAYER.parquet        thresholds, words and verdict of every filter, once described
    manifest.sig                 who made it, where it is signed: see lavise.signature

Nothing in it is a pickle. It is written beside its place and renamed: a crash leaves the old
bundle, or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from pydantic import ValidationError

from lavise.errors import BundleError, EnvironmentProblem
from lavise.graph_terms import GRAPH_METHODS
from lavise.manifest import SCHEMA_VERSION, Manifest
from lavise.signature import SIGNATURE, trusted_keys, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MANIFEST: Final = "manifest.json"
_VERSIONED: Final = ("lavise", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "numpy")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its files are all there and unchanged.

    Attributes:
        path: The folder.
        manifest: What it says of itself.
        digest: sha256 of manifest.json, which names the bundle exactly.
        verified: Whether one of the keys that are asked for has signed it.
    """

    path: Path
    manifest: Manifest
    digest: str
    verified: bool = False

    def words(self) -> list[str]:
        """The vocabulary, in the order of the word ids.

        Raises:
            BundleError: The file is no UTF-8 text.
        """
        name = "vocabulary.txt"
        try:
            text = (self.path / name).read_bytes().decode()
        except UnicodeDecodeError as error:
            raise BundleError(f"{name} is no UTF-8 text: {error}", field=name) from error
        # Only at line feeds: splitlines() would cut words that hold other separators in two.
        return text.split("\n")[:-1]

    def file(self, kind: str, layer: str, suffix: str) -> Path:
        """The file of one layer, such as ``file("mapper", "layer4", "safetensors")``."""
        return self.path / layer_file(kind, layer, suffix)


def layer_file(kind: str, layer: str, suffix: str) -> str:
    """The name of a layer's file; signs that a file name cannot hold are percent-encoded.

    No two layers share a name: ``a/b`` and ``a_b`` are both common among tensors.
    """
    return f"{kind}.{quote(layer, safe='')}.{suffix}"


def open_bundle(path: str | Path, *, trusted: bool = False) -> Bundle:
    """Opens a bundle and verifies every file in it.

    Args:
        path: The folder.
        trusted: Whether it was made here just now, so that no signature is asked for.

    Returns:
        The bundle.

    Raises:
        BundleError: It is missing, damaged, incomplete, written by a newer LaViSE, or not signed
            by a key of ``LAVISE_BUNDLE_KEY`` where that is set; the message names the file.
        SpecError: ``LAVISE_BUNDLE_KEY`` names no keys.
    """
    folder = Path(path)
    keys = [] if trusted else trusted_keys()
    raw, manifest = _read_manifest(folder, keys)
    for name in _needed(manifest) - manifest.files.keys():
        raise BundleError(f"{MANIFEST} of {str(folder)!r} does not list {name}", field=name)
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise BundleError(f"{MANIFEST} names a file outside the bundle: {name!r}", field=name)
        file = folder / name
        if not file.is_file():
            raise BundleError(f"bundle {str(folder)!r} lacks its file {name}", field=name)
        if sha256(file) != expected:
            raise BundleError(
                f"{name} in bundle {str(folder)!r} is damaged: its sha256 is not the one in "
                f"{MANIFEST}; copy the bundle again, or teach it again",
                field=name,
            )
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest(), verified=bool(keys))


def _read_manifest(folder: Path, keys: list[Ed25519PublicKey]) -> tuple[bytes, Manifest]:
    try:
        raw = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{str(folder)!r} is no bundle: it has no readable {MANIFEST}; make one with "
            "`lavise teach`",
            field=MANIFEST,
        ) from error
    if keys:
        verify(folder, raw, keys)  # before anything of it is believed
    try:
        schema = json.loads(raw)["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{MANIFEST} of {str(folder)!r} is damaged: it is no JSON with a schema_version; copy "
            "the bundle again, or teach it again",
            field=MANIFEST,
        ) from error
    if schema != SCHEMA_VERSION:
        raise BundleError(
            f"bundle {str(folder)!r} has schema version {schema}; this LaViSE reads "
            f"{SCHEMA_VERSION}: install the LaViSE that wrote it, or teach it again",
            field=MANIFEST,
        )
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(
            f"{MANIFEST} of {str(folder)!r} is damaged at {where}: {first['msg']}", field=MANIFEST
        ) from error
    if _checksum(raw.replace(manifest.checksum.encode(), b"", 1)) != manifest.checksum:
        raise BundleError(
            f"{MANIFEST} of {str(folder)!r} is damaged: its checksum is not the one it carries; "
            "copy the bundle again, or teach it again",
            field=MANIFEST,
        )
    return raw, manifest


def _needed(manifest: Manifest) -> set[str]:
    """The files that every bundle has."""
    names = {"cnn.onnx", "cnn.safetensors", "vocabulary.safetensors", "vocabulary.txt"}
    for layer in manifest.cnn.layers:
        names.add(layer_file("mapper", layer.name, "safetensors"))
        names.add(layer_file("profile", layer.name, "onnx"))
        for method in GRAPH_METHODS:
            names.add(layer_file("words", layer.name, f"{method}.onnx"))
            names.add(layer_file("words", layer.name, f"{method}.many.onnx"))
    return names | {layer_file("catalog", entry.layer, "parquet") for entry in manifest.catalogs}


def _checksum(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def sha256(file: Path) -> str:
    """The file's sha256, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Gives a folder to fill, which takes the place of ``path`` when the block ends well.

    Args:
        path: Where the bundle goes; a bundle that is there is replaced, anything else is not.

    Yields:
        A temporary folder beside it.

    Raises:
        BundleError: Something that is no bundle is in its place.
        EnvironmentProblem: The disk is full, or the folder cannot be written; what was there
            before is still there.
    """
    target = Path(path).resolve()  # what a link leads to is replaced, not the link
    if target.exists() and not (target / MANIFEST).is_file() and not _is_empty_folder(target):
        raise BundleError(
            f"{str(target)!r} exists and is no bundle; name another place", field="out"
        )
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield folder
        folder.chmod(0o755)
        _sync(folder)
        if target.exists():
            old = folder.with_name(f"{folder.name}.old")
            target.rename(old)
            try:
                folder.rename(target)
            except OSError:
                old.rename(target)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.rename(target)
    except OSError as error:
        raise EnvironmentProblem(
            f"bundle {str(target)!r} could not be written: {error.strerror or error}; nothing "
            "there was changed",
            field="out",
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes manifest.json with the sha256 of every file that lies in the folder.

    Args:
        folder: From writing().
        manifest: Its ``files``, ``versions`` and ``checksum`` are filled in here.
    """
    (folder / SIGNATURE).unlink(missing_ok=True)  # it was of another manifest
    files = {f.name: sha256(f) for f in sorted(folder.iterdir()) if f.name != MANIFEST}
    update = {"files": files, "versions": _versions(), "checksum": ""}
    text = manifest.model_copy(update=update).model_dump_json(indent=2) + "\n"
    # Inside a JSON string these quotes would be escaped: this is the field and nothing else.
    whole = text.replace('"checksum": ""', f'"checksum": "{_checksum(text.encode())}"', 1)
    (folder / MANIFEST).write_bytes(whole.encode())


def _versions() -> dict[str, str]:
    found = {}
    for package in _VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _sync(folder: Path) -> None:
    """Has the disk hold every file before the rename makes them the bundle."""
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
