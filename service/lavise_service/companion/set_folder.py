"""The files of one image set."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lavise.v1.bias_pb2 import RejectedImage
from lavise_service.companion.objects import Objects
from lavise_service.companion.part_files import rejected_of
from lavise_service.companion.parts import FOLDER, Part, chain
from lavise_service.companion.records import HEAD, Damaged, Record, not_found, set_path

THUMBNAIL: Final = "thumbnail"
"""The column of the small images: most of a profile's bytes, and seldom wanted."""


class SetFolder:
    """The files of one image set; see Store for what each means.

    Args:
        objects: The files of the store.
        name: ``imageSets/ID``.

    Raises:
        RequestError: The name is not of that form.
    """

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._name = name
        self.path = set_path(name)

    def record(self) -> Record | None:
        """What set.json says; None where there is none."""
        path = f"{self.path}/{HEAD}"
        try:
            return Record.of(self._objects.read(path), path)
        except FileNotFoundError:
            return None

    def expected(self) -> Record:
        """What set.json says.

        Raises:
            NotFound: There is none.
        """
        record = self.record()
        if record is None:
            raise not_found(self._name)
        return record

    def state(self) -> tuple[Record, list[Part]]:
        """What set.json says, and the parts that belong to it.

        The parts are listed first: they are removed only once set.json says that the set is
        ready, so that a listing is complete where it does not say so afterwards.

        Raises:
            NotFound: There is no such set.
        """
        entries = self._objects.list(f"{self.path}/{FOLDER}")
        record = self.expected()
        return record, record.parts(entries)

    def put(self, record: Record) -> None:
        """Writes set.json."""
        self._objects.write(f"{self.path}/{HEAD}", record.json())

    def put_part(self, part: Part, content: bytes) -> None:
        """Writes a part."""
        self._objects.write(f"{self.path}/{FOLDER}/{part.file}", content)

    def delete_part(self, part: Part) -> None:
        """Deletes a part."""
        self._objects.delete(f"{self.path}/{FOLDER}/{part.file}")

    def delete(self) -> None:
        """Deletes everything; set.json first, since without it nothing else counts."""
        self._objects.delete(f"{self.path}/{HEAD}")
        self._objects.delete_folder(self.path)

    def tables(self, parts: Iterable[Part]) -> Iterator[tuple[pa.Table, int]]:
        """Each part of the chain, read when it is its turn, with the first index that counts."""
        for part, start in chain(parts):
            yield self.table(f"{FOLDER}/{part.file}"), start

    def rejected(self, parts: Iterable[Part], most: int) -> list[RejectedImage]:
        """The rejected images that the parts name, the first ones."""
        found: list[RejectedImage] = []
        for part, start in chain(parts):
            if part.rejected and len(found) < most:
                with self._parquet(f"{FOLDER}/{part.file}") as file:
                    found += rejected_of(file.schema_arrow.metadata, start)
        return found[:most]

    def table(self, file: str, *, leave_out: str = "") -> pa.Table:
        """What a Parquet file of the folder holds, but for one column."""
        with self._parquet(file) as parquet:
            return parquet.read(
                columns=[name for name in parquet.schema_arrow.names if name != leave_out]
            )

    def thumbnails(self, file: str, indices: Collection[int]) -> dict[int, bytes]:
        """The small images of some indices; the others are not read."""
        found: dict[int, bytes] = {}
        with self._parquet(file) as parquet:
            if THUMBNAIL not in parquet.schema_arrow.names:
                return found
            for group in range(parquet.num_row_groups):
                held = parquet.read_row_group(group, columns=["index"])["index"].to_pylist()
                if wanted := {row: i for row, i in enumerate(held) if i in indices}:
                    images = parquet.read_row_group(group, columns=[THUMBNAIL])[THUMBNAIL]
                    found |= {i: images[row].as_py() for row, i in wanted.items()}
        return found

    @contextmanager
    def _parquet(self, file: str) -> Iterator[Any]:
        path = f"{self.path}/{file}"
        try:
            with self._objects.reading(path) as stream:
                yield pq.ParquetFile(stream)
        except pa.ArrowInvalid as problem:
            raise Damaged(path, problem) from problem
