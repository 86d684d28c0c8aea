"""A bundle and the handler, in the one file that TorchServe loads: a ``.mar``.

A ``.mar`` is a zip with ``MAR-INF/MANIFEST.json`` (the format of torch-model-archiver). It is
written here rather than by that tool because the tool copies everything through a shared
directory under its own name, and leaves half a file behind when the disk fills up. Everything
is stored, not compressed: weights barely shrink, and TorchServe unpacks the file at every start.
"""

import importlib.util
import json
import os
import re
import tempfile
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

from lavise.bundle import MANIFEST, Bundle, open_bundle
from lavise.errors import EnvironmentProblem, RequestError, SpecError
from lavise.signature import SIGNATURE

HANDLER = "lavise_handler"
_MODULES = (
    *(HANDLER, "lavise_request", "lavise_open_inference"),
    *("lavise_metrics", "lavise_machine"),
)
# Where the bundle lies in the archive: apart, so that no file of it meets one of TorchServe's.
BUNDLE_FOLDER = "bundle"
_CONFIG = "model-config.yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-.]*")


@dataclass(frozen=True)
class WorkerConfig:
    """How TorchServe runs the workers of an archive.

    The defaults favour a lone request: it waits 1 ms for company, the least that there is, and
    enough to take what has queued up behind a batch as the next one.

    Args:
        workers: Worker processes (on GPUs: spread over them).
        batch_size: Requests that are answered together, at most.
        max_batch_delay_ms: How long the first request of a batch waits for others. Not 0: that
            is TorchServe's way to say 100.
        threads: Threads of ONNX Runtime per worker on the CPU; 0 leaves it to ONNX Runtime.
        response_timeout_s: A worker that is silent for longer is killed and started again.

    Raises:
        SpecError: If a number is too small.
    """

    workers: int = 1
    batch_size: int = 8
    max_batch_delay_ms: int = 1
    threads: int = 0
    response_timeout_s: int = 120

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "threads" else 1
            if value < least:
                raise SpecError(
                    f"{field.name} is {value}; accepted: {least} or more", field=field.name
                )

    def yaml(self) -> str:
        """Returns the ``model-config.yaml`` of TorchServe, with the handler's own section."""
        return (
            f"minWorkers: {self.workers}\n"
            f"maxWorkers: {self.workers}\n"
            f"batchSize: {self.batch_size}\n"
            f"maxBatchDelay: {self.max_batch_delay_ms}\n"
            f"responseTimeout: {self.response_timeout_s}\n"
            "lavise:\n"
            f"  threads: {self.threads}\n"
        )


def write_archive(
    bundle: Path,
    export_path: Path,
    *,
    name: str = "lavise",
    config: WorkerConfig | None = None,
) -> Path:
    """Writes ``export_path/NAME.mar``, replacing an older one at once or not at all.

    The same bundle and settings give the same bytes.

    Args:
        bundle: A bundle directory; it is verified first, and what else lies in it is left out.
        export_path: The model store; made where it is missing.
        name: The model's name at TorchServe's doors (``/predictions/NAME``).
        config: How TorchServe runs it.

    Returns:
        The path of the archive.

    Raises:
        BundleError: If ``bundle`` is no bundle, or a damaged one.
        RequestError: If ``name`` holds characters that TorchServe does not accept.
        EnvironmentProblem: If the archive cannot be written (a full disk, no permission).
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"model name {name!r} is not accepted: letters, digits, '_', '-' and '.' are, "
            "a letter or digit first",
            field="name",
        )
    opened = open_bundle(bundle)
    target = export_path / f"{name}.mar"
    try:
        export_path.mkdir(parents=True, exist_ok=True)
        _write(opened, target, name, config or WorkerConfig())
    except OSError as problem:
        raise EnvironmentProblem(
            f"cannot write {target}: {problem.strerror or problem}. "
            "An older archive of that name is left as it was",
            field=str(target),
        ) from problem
    return target


def _write(bundle: Bundle, target: Path, model: str, config: WorkerConfig) -> None:
    modules = [_module_file(name) for name in _MODULES]
    manifest = {
        "runtime": "python",
        "model": {
            "modelName": model,
            "handler": f"{HANDLER}.py",
            "modelVersion": "1.0",
            "configFile": _CONFIG,
        },
        "archiverVersion": "1.0",
    }
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{model}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            _add(archive, "MAR-INF/MANIFEST.json", json.dumps(manifest, indent=2).encode())
            _add(archive, _CONFIG, config.yaml().encode())
            for module in modules:
                _add(archive, module.name, module.read_bytes())
            signature = [SIGNATURE] if (bundle.path / SIGNATURE).is_file() else []
            for name in sorted([MANIFEST, *signature, *bundle.manifest.files]):
                _add(archive, f"{BUNDLE_FOLDER}/{name}", (bundle.path / name).read_bytes())
        Path(partial).chmod(0o644)
        Path(partial).replace(target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _add(archive: zipfile.ZipFile, inside: str, content: bytes) -> None:
    """Adds one file without its date, so that equal content makes an equal archive."""
    info = zipfile.ZipInfo(inside)
    info.external_attr = 0o644 << 16
    archive.writestr(info, content)


def _module_file(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise EnvironmentProblem(
            f"the module {name} is missing from this installation. Install lavise again",
            field=name,
        )
    return Path(found.origin)
