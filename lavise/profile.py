"""What is kept of an image set: numbers and names, one row an image, no pixels.

A profile is one Arrow table, and one Parquet file on disk. What belongs to all rows, the words
above all, travels in the table's metadata, so that a file explains itself; parts of one set
concatenate.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
import pyarrow as pa

from lavise.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SCHEMA_KEY: Final = b"lavise.profile"


@dataclass(frozen=True)
class ProfileSchema:
    """What is the same for every image.

    Attributes:
        bundle_digest: What produced the numbers.
        layer: Target layer.
        words: The V words, in the order of the scores.
        channels: C.
        filter_words: For each filter the catalog's words, best first; empty without a catalog.
        verdicts: For each filter; empty without a catalog.
    """

    bundle_digest: str
    layer: str
    words: tuple[str, ...]
    channels: int
    filter_words: tuple[tuple[str, ...], ...] = ()
    verdicts: tuple[str, ...] = ()

    @cached_property
    def json(self) -> bytes:
        """As JSON, written once: a set's tables all carry it, and the demo's is 175 KB."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        return orjson.dumps(content)


@dataclass(frozen=True)
class Profile:
    """The numbers of n images.

    Attributes:
        schema: Of all of them.
        index: (n,) int64, each image's place in its set; rejected images leave gaps.
        sources: n names.
        activation: (n, C) float32.
        qualified: (n, C) bool; None without a catalog.
        word_scores: (n, V) float16.
        fingerprints: n digests: equal for images whose prepared pixels are equal.
        thumbnails: n JPEG files; empty where none are kept.
    """

    schema: ProfileSchema
    index: np.ndarray
    sources: list[str]
    activation: np.ndarray
    qualified: np.ndarray | None
    word_scores: np.ndarray
    fingerprints: list[bytes]
    thumbnails: list[bytes]

    def __len__(self) -> int:
        """How many images."""
        return len(self.index)


def fingerprint(image: np.ndarray) -> bytes:
    """16 bytes that are equal where prepared pixels are.

    Args:
        image: (S, S, 3) uint8.

    Returns:
        blake2b of the pixels.
    """
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def profile_table(profile: Profile) -> pa.Table:
    """A profile as an Arrow table.

    Args:
        profile: Any number of images.

    Returns:
        One row an image.
    """
    schema = profile.schema
    columns: dict[str, pa.Array] = {
        "index": pa.array(profile.index, pa.int64()),
        "source": pa.array(profile.sources, pa.string()),
        "fingerprint": pa.array(profile.fingerprints, pa.binary(16)),
        "activation": _matrix(profile.activation, np.float32),
        "word_scores": _matrix(profile.word_scores, np.float16),
    }
    if profile.qualified is not None:
        bits = np.packbits(profile.qualified, axis=1, bitorder="little")
        columns["qualified"] = pa.array([row.tobytes() for row in bits], pa.binary(bits.shape[1]))
    if profile.thumbnails:
        columns["thumbnail"] = pa.array(profile.thumbnails, pa.binary())
    return pa.table(columns).replace_schema_metadata({_SCHEMA_KEY: schema.json})


def profile_of(table: pa.Table) -> Profile:
    """The profile in an Arrow table.

    Args:
        table: From profile_table(), or several of one set concatenated.

    Returns:
        The profile.

    Raises:
        RequestError: The table is no profile.
    """
    try:
        schema = _schema((table.schema.metadata or {})[_SCHEMA_KEY])
        n, names = table.num_rows, set(table.column_names)
        qualified = None
        if "qualified" in names:
            width = -(-schema.channels // 8)
            packed = np.frombuffer(b"".join(table["qualified"].to_pylist()), np.uint8)
            unpacked = np.unpackbits(packed.reshape(n, width), axis=1, bitorder="little")
            qualified = unpacked[:, : schema.channels].astype(bool)
        return Profile(
            schema=schema,
            index=table["index"].to_numpy(),
            sources=table["source"].to_pylist(),
            activation=_array(table["activation"], n, schema.channels),
            qualified=qualified,
            word_scores=_array(table["word_scores"], n, len(schema.words)),
            fingerprints=table["fingerprint"].to_pylist(),
            thumbnails=table["thumbnail"].to_pylist() if "thumbnail" in names else [],
        )
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise RequestError(f"this table is no profile: {error}", field="profile") from error


def profile_of_answer(
    answer: Mapping[str, Any],
    schema: ProfileSchema,
    indices: Sequence[int],
    sources: Sequence[str],
) -> tuple[Profile, dict[int, Mapping[str, Any]]]:
    """Reads a ProfileResponse.

    Args:
        answer: Its JSON form.
        schema: Of the set; from profile_schema() of an answer that names the words.
        indices: Each image's place in the set.
        sources: Each image's name.

    Returns:
        The images that count, and the google.rpc.Status, in JSON form, of those that do not, by
        their place in the set.

    Raises:
        RequestError: The answer comes from another bundle, or its sizes are not those of
            ``schema``.
    """
    if answer["bundleDigest"] != schema.bundle_digest:
        raise RequestError(
            "the server has loaded another bundle since this image set was begun; delete the set "
            "and upload it again",
            field="name",
        )
    rejected: dict[int, Mapping[str, Any]] = {}
    kept = []
    for index, source, image in zip(indices, sources, answer["images"], strict=True):
        if image.get("error"):
            rejected[index] = image["error"]
        else:
            kept.append((index, source, image))

    def decoded(key: str) -> list[bytes]:
        return [base64.b64decode(image.get(key, "")) for _, _, image in kept]

    n, C, V = len(kept), schema.channels, len(schema.words)
    activation = np.frombuffer(b"".join(decoded("activation")), "<f4").reshape(n, C)
    word_scores = np.frombuffer(b"".join(decoded("wordScores")), "<f2").reshape(n, V)
    qualified = None
    if schema.filter_words:
        packed = np.frombuffer(b"".join(decoded("qualified")), np.uint8).reshape(n, -(-C // 8))
        qualified = np.unpackbits(packed, axis=1, bitorder="little")[:, :C].astype(bool)
    thumbnails = decoded("thumbnail")
    profile = Profile(
        schema=schema,
        index=np.array([index for index, _, _ in kept], dtype=np.int64),
        sources=[source for _, source, _ in kept],
        activation=activation,
        qualified=qualified,
        word_scores=word_scores,
        fingerprints=decoded("fingerprint"),
        thumbnails=thumbnails if all(thumbnails) else [],
    )
    return profile, rejected


def profile_schema(answer: Mapping[str, Any]) -> ProfileSchema:
    """What is the same for every image, from a ProfileResponse that names the words.

    Args:
        answer: Its JSON form.

    Returns:
        The schema.
    """
    filters = answer["filters"]
    described = any(one["verdict"] for one in filters)
    return ProfileSchema(
        bundle_digest=answer["bundleDigest"],
        layer=answer["layer"],
        words=tuple(answer["words"]),
        channels=len(filters),
        filter_words=tuple(tuple(one["words"]) for one in filters) if described else (),
        verdicts=tuple(one["verdict"] for one in filters) if described else (),
    )


@lru_cache(maxsize=2)  # all sets of a bundle and layer have the same: half of what reading takes
def _schema(content: bytes) -> ProfileSchema:
    read = orjson.loads(content)
    return ProfileSchema(
        bundle_digest=str(read["bundle_digest"]),
        layer=str(read["layer"]),
        words=tuple(read["words"]),
        channels=int(read["channels"]),
        filter_words=tuple(tuple(row) for row in read["filter_words"]),
        verdicts=tuple(read["verdicts"]),
    )


def _matrix(values: np.ndarray, dtype: type[np.floating[Any]]) -> pa.Array:
    """(n, width) as a column of fixed-size lists, without a copy where the type is right."""
    flat = pa.array(np.ascontiguousarray(values, dtype=dtype).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _array(column: pa.ChunkedArray, n: int, width: int) -> np.ndarray:
    """A column of fixed-size lists as (n, width)."""
    parts = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate(parts).reshape(n, width) if parts else np.zeros((n, width), np.float32)
