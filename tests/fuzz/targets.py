"""What is fuzzed: the edges where bytes from outside become something else.

Each takes any bytes, and returns whether they were accepted. What it may raise is nothing: an error
that the library does not raise on purpose is a finding, as is a crash of the process.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson

from lavise.bundle import MANIFEST, open_bundle
from lavise.catalog_table import read_catalog
from lavise.errors import BundleError, ImageError, InputError
from lavise.images import ImageLimits, decode, prepare
from lavise.manifest import Manifest
from lavise.tensors import read_tensors
from lavise_open_inference import read_infer
from lavise_request import read_request
from tests.forgery import sealed

Target: TypeAlias = Callable[[bytes], bool]

# Small, so that a run is short; how the limits are kept does not depend on their size.
_LIMITS: Final = ImageLimits(max_bytes=2**17, max_pixels=2**18)
_SIDE: Final = 16


def image(data: bytes) -> bool:
    """An encoded image."""
    try:
        square = prepare(data, _SIDE, limits=_LIMITS)
        whole = decode(data, limits=_LIMITS)
    except ImageError:
        return False
    assert square.shape == (_SIDE, _SIDE, 3)
    assert whole.ndim == 3
    assert whole.size <= 3 * _LIMITS.max_pixels
    return True


class BundleTarget:
    """One file of a bundle replaced; its first byte says which, and whether the forger is good.

    A good one gives the manifest the checksums that fit, which the opener cannot tell from the
    real ones: so what lies behind it is reached.

    Args:
        bundle: A real one, which is copied.
        place: A folder to work in; best in memory, as each run writes a file or two.
    """

    def __init__(self, bundle: Path, place: Path) -> None:
        self._folder = Path(shutil.copytree(bundle, place / "bundle"))
        self._manifest = (self._folder / MANIFEST).read_bytes()
        names = Manifest.model_validate_json(self._manifest).files
        # Graphs are ONNX Runtime's to read; a bundle that is opened is its operator's own.
        self.files = [MANIFEST, *sorted(name for name in names if not name.endswith(".onnx"))]

    def __call__(self, data: bytes) -> bool:
        """Opens the bundle with the file replaced, and reads what serving reads."""
        if not data:
            return False
        forged, number = divmod(data[0], 128)
        name = self.files[number % len(self.files)]
        file = self._folder / name
        before = file.read_bytes()
        content = data[1:]
        try:
            file.write_bytes(sealed(content) if forged and name == MANIFEST else content)
            if forged and name != MANIFEST:
                manifest = sealed(self._manifest, {name: content})
                (self._folder / MANIFEST).write_bytes(manifest)
            return _opens(self._folder)
        finally:
            file.write_bytes(before)
            (self._folder / MANIFEST).write_bytes(self._manifest)


def _opens(folder: Path) -> bool:
    try:
        bundle = open_bundle(folder)
        bundle.words()
        for layer in bundle.manifest.cnn.layers:
            read_catalog(bundle, layer.name)
            read_tensors(bundle.file("mapper", layer.name, "safetensors"))
        read_tensors(bundle.path / "vocabulary.safetensors")
    except BundleError:
        return False
    return True


_ENTRIES: Final = ("image", "image_2", "request", "image_", "data")
_SEPARATOR: Final = b"\n--\n"


def request(data: bytes) -> bool:
    """What TorchServe hands to the handler; the first byte says in which of its forms."""
    if not data:
        return False
    how, content = data[0] % 4, data[1:]
    kind = "application/json" if how == 0 else ""
    try:
        row = _row(how, content)
        infer = read_infer(row, "lavise")
        read_request(infer.entries() if infer else row, kind)
    except InputError:
        return False
    return True


def _row(how: int, content: bytes) -> Mapping[str, Any]:
    """A request as TorchServe hands it over."""
    if how < 2:
        return {"body": bytearray(content)}
    if how == 2:  # as its gRPC and its forms do
        parts = content.split(_SEPARATOR)
        return {name: bytearray(part) for name, part in zip(_ENTRIES, parts, strict=False)}
    try:  # as it does with a body of JSON under some settings
        return {"body": orjson.loads(content)}
    except orjson.JSONDecodeError:
        return {"body": bytearray(content)}


def form(*parts: bytes) -> bytes:
    """The bytes that ``request`` reads as the entries of a form."""
    return b"\x02" + _SEPARATOR.join(parts)
