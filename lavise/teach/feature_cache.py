"""Features kept on disk: one CNN pass over the datasets serves every later teaching.

    CACHE/features-KEY/key.json                 what the features are of
    CACHE/features-KEY/000000-SHA256.safetensors    the images of one part; see lavise.teach.shards

KEY is a digest of all that the features depend on, so that features of anything else lie in
another folder: stale ones cannot be read. Parts are written while the pass goes on; one that was
broken off goes on with the first part that is missing.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import PIL

from lavise.errors import EnvironmentProblem
from lavise.runtime import import_onnxruntime
from lavise.teach.features import assemble, extract_parts, n_parts
from lavise.teach.fingerprint import fingerprint
from lavise.teach.fitting import PLAINLY, Running
from lavise.teach.shards import ShardedRows, find_shard, write_shard
from lavise.teach.whole_files import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.manifest import CnnEntry
    from lavise.teach.annotated import Dataset
    from lavise.teach.features import Features
    from lavise.teach.shards import Shard

_PACKAGE: Final = Path(__file__).parents[1]
_CODE: Final = ("teach", "demo", "attention.py", "images.py", "image_header.py", "masking.py")
"""What of this package decides what features are; a change of it makes the kept ones useless."""


def features_key(
    graph: Path, entry: CnnEntry, datasets: Sequence[Dataset], *, provider: str
) -> dict[str, Any]:
    """All that features depend on.

    Args:
        graph: cnn.onnx, which holds the normalisation of pixels too.
        entry: What it is.
        datasets: What the pass is over.
        provider: What runs the graph.

    Returns:
        What key.json says.

    Raises:
        TypeError: A dataset cannot be digested.
    """
    with graph.open("rb") as stream:
        cnn = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "cnn": entry.spec,
        "graph": cnn,
        "layers": [layer.name for layer in entry.layers],
        "size": entry.input_size,
        "datasets": [{"spec": d.spec, "digest": fingerprint(d)} for d in datasets],
        "provider": provider,
        "code": _code_digest(),
        "versions": {
            "lavise": version("lavise"),
            "onnxruntime": import_onnxruntime().__version__,
            "pillow": PIL.__version__,
        },
    }


def digest_of(key: object) -> str:
    """A short digest of a key, for names of files."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]


def cached_features(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    datasets: Sequence[Dataset],
    cache: Path,
    *,
    graph: Path,
    entry: CnnEntry,
    workers: int,
    running: Running,
) -> tuple[Features, dict[str, Any]]:
    """Gives features that stay on disk; those that are there already are not made again.

    Args:
        session: Of cnn.onnx.
        datasets: At least one.
        cache: Where features of any kind are kept.
        graph: cnn.onnx.
        entry: What it is.
        workers: Threads that read and decode images, in each process.
        running: Shows progress; told what is reused; shares the work.

    Returns:
        The features, and what they depend on.

    Raises:
        ImageError: An image cannot be read.
        SpecError: The CNN gives values that are not finite.
        EnvironmentProblem: The folder cannot be written, or the disk is full.
    """
    key = features_key(graph, entry, datasets, provider=session.get_providers()[0])
    place = cache / f"features-{digest_of(key)}"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with whole_file(place / "key.json") as stream:
            stream.write(json.dumps(key, indent=2).encode() + b"\n")
        features = stored_features(
            session, datasets, place, size=entry.input_size, workers=workers, running=running
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"features could not be kept in {str(cache)!r}: {error.strerror or error}; free some "
            "space, or name another folder",
            field="cache",
        ) from error
    return features, key


def stored_features(
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    datasets: Sequence[Dataset],
    place: Path,
    *,
    size: int,
    workers: int = 2,
    running: Running = PLAINLY,
) -> Features:
    """Gives features whose rows lie in a folder; runs the CNN only for parts that do not yet.

    Args:
        session: Of cnn.onnx.
        datasets: At least one.
        place: The folder, of these features alone.
        size: Input side S.
        workers: Threads that read and decode images, in each process.
        running: Shows progress; told what is reused; shares the work.

    Returns:
        The features; of all regions only the category and the image are in memory.

    Raises:
        ImageError: An image cannot be read.
        SpecError: The CNN gives values that are not finite.
        OSError: The folder cannot be written, or the disk is full.
    """
    ranks = running.ranks
    shards = [find_shard(place, number) for number in range(n_parts(datasets))]
    missing = [number for number, shard in enumerate(shards) if shard is None]
    if len(missing) < len(shards):
        done = f"{len(shards) - len(missing)} of {len(shards)} parts of the" if missing else "the"
        running.say(f"using {done} features in {place}")
    ranks.wait()  # all have seen the same parts before one writes any
    own = missing[ranks.rank :: ranks.world]
    for number, part in extract_parts(
        session, datasets, own, size=size, workers=workers, track=running.track
    ):
        write_shard(place, number, part)
    ranks.wait()
    for number in missing:
        shards[number] = find_shard(place, number)
    whole = [shard for shard in shards if shard is not None]
    if len(whole) < len(shards):
        raise OSError("a part was damaged or removed while it was made")
    return _assembled(whole, datasets)


def _assembled(shards: Sequence[Shard], datasets: Sequence[Dataset]) -> Features:
    names = shards[0].names
    small = [n for n in names if n.startswith(("peak_", "lowest_"))]
    parts = [{name: shard.array(name) for name in small} for shard in shards]
    rows = {
        name: ShardedRows([shard.stored(name) for shard in shards])
        for name in names
        if name not in small
    }
    labels = {name: rows[name][:] for name in ("category", "image")}
    return assemble(parts, rows | labels, datasets)


def _code_digest() -> str:
    digest = hashlib.sha256()
    roots = [_PACKAGE / name for name in _CODE]
    for root in roots:
        files = sorted(root.rglob("*")) if root.is_dir() else [root]
        for file in files:
            if file.is_file() and file.suffix != ".pyc":
                digest.update(f"{file.relative_to(_PACKAGE).as_posix()}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
