"""What a part holds, and how parts become one profile."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from google.protobuf import json_format

from lavise.v1.bias_pb2 import RejectedImage
from lavise_service.companion.problems import NotReady

_REJECTED: Final = b"lavise.rejected"


def write_part(table: pa.Table, rejected: Sequence[RejectedImage]) -> bytes:
    """A part as Parquet.

    Args:
        table: From lavise.profile.profile_table(): the images that count.
        rejected: Those that do not; they travel in the file's metadata, so that both are kept or
            none.

    Returns:
        The content of the file.
    """
    told = orjson.dumps([json_format.MessageToDict(one) for one in rejected])
    metadata = {**(table.schema.metadata or {}), _REJECTED: told}
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, use_dictionary=False)
    return bytes(buffer.getvalue().to_pybytes())


def rejected_of(metadata: Mapping[bytes, bytes], start: int) -> Iterator[RejectedImage]:
    """The rejected images that a part names.

    Args:
        metadata: Of the part's schema.
        start: The first index that counts.
    """
    for told in orjson.loads(metadata[_REJECTED]):
        one = json_format.ParseDict(told, RejectedImage())
        if one.index >= start:
            yield one


def merge_parts(
    parts: Iterable[tuple[pa.Table, int]],
    stream: Any,  # noqa: ANN401 - pyarrow has no types
) -> tuple[int, list[RejectedImage]]:
    """Writes the images of all parts into one Parquet file, holding one part at a time.

    Args:
        parts: As read, each with the first index that counts, in order.
        stream: Where to.

    Returns:
        How many images count, and those that do not.

    Raises:
        NotReady: The parts are not of one schema: the bundle was changed meanwhile.
    """
    rows, rejected = 0, list[RejectedImage]()
    writer: Any = None
    try:
        for part, start in parts:
            metadata = dict(part.schema.metadata)
            rejected += rejected_of(metadata, start)
            del metadata[_REJECTED]
            table = part.filter(pc.field("index") >= start).replace_schema_metadata(metadata)
            if not table.num_rows:
                continue  # without images the columns are not all there
            if writer is None:
                writer = pq.ParquetWriter(
                    stream, table.schema, use_dictionary=False, compression="zstd"
                )
            if not table.schema.equals(writer.schema, check_metadata=True):
                raise NotReady(
                    "the images of this set were profiled by different bundles; delete it and "
                    "upload it again",
                    field="name",
                )
            writer.write_table(table)
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows, rejected
