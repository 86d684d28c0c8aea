"""Where image sets and comparisons are kept: a local folder, or S3.

    sets/ID/set.json                  what is known of the set
    sets/ID/parts/*.parquet           while images are coming: see lavise_service.companion.parts
    sets/ID/profile-*.parquet         the profile, once the set is ready; set.json names it
    comparisons/ID.pb                 a comparison, with its report once it is done

set.json is written twice: when the set is created and, after its profile lies there complete, when
it is ready. Everything else counts only where set.json refers to it. So a process may be killed
between any two steps, and several may work on one set: an upload goes on at the first image that
no part holds, finishing is repeated or found done, and what nothing refers to is swept away.

All methods block; call them in a thread.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import pyarrow as pa

from lavise.errors import RequestError
from lavise.v1.bias_pb2 import ImageSet, RejectedImage
from lavise_service.companion.comparison_store import ComparisonStore
from lavise_service.companion.objects import Entry, Objects, open_objects
from lavise_service.companion.paging import page
from lavise_service.companion.part_files import merge_parts, write_part
from lavise_service.companion.parts import Part
from lavise_service.companion.problems import AlreadyExists, NotFound, NotReady
from lavise_service.companion.records import (
    HEAD,
    SETS,
    STALE_S,
    Damaged,
    Record,
    age,
    has_expired,
    not_found,
)
from lavise_service.companion.set_folder import THUMBNAIL, SetFolder
from lavise_service.companion.settings import Settings
from lavise_service.companion.store_metrics import StoreMetrics
from lavise_service.companion.summaries import Summaries

MOST_REJECTED: Final = 100
"""Rejected images that a set names; all are counted."""
# What cannot change while a set is uploaded.
_FIXED: Final = ("layer", "bundle_digest", "thumbnails")
_COUNTS: Final = ("received_images", "image_count", "rejected", "rejected_count")


class Store:
    """Image sets and comparisons.

    Several processes may share the files. A name that is none of the collection's is a
    RequestError before anything is read. Every method raises EnvironmentProblem where the files
    cannot be reached, and ResourceExhausted where the disk is full.

    Args:
        objects: The files.

    Attributes:
        comparisons: The comparisons.
    """

    def __init__(self, objects: Objects) -> None:
        self.comparisons = ComparisonStore(objects)
        self._objects = objects
        self._records = Summaries(objects, Record.of)

    def create_set(self, image_set: ImageSet) -> ImageSet:
        """Begins an image set, or finds the one whose upload goes on.

        Of two senders that begin one name in the same moment the later one counts; the other is
        told to resume at 0.

        Args:
            image_set: With its name, and what is known before the first image.

        Returns:
            The set as it stands.

        Raises:
            AlreadyExists: The set is ready, or was begun with another layer, bundle or choice of
                thumbnails.
        """
        folder = SetFolder(self._objects, image_set.name)
        found = folder.record()
        if found is None:
            fresh = ImageSet()
            fresh.CopyFrom(image_set)
            fresh.state = ImageSet.STATE_UPLOADING
            for field in _COUNTS:
                fresh.ClearField(field)
            folder.put(Record(fresh, secrets.token_hex(8)))
            return fresh
        if found.is_ready:
            raise AlreadyExists(
                f"{image_set.name} is complete; choose another name, or delete it first",
                field="name",
            )
        for field in _FIXED:
            begun, said = getattr(found.image_set, field), getattr(image_set, field)
            if begun != said:
                raise AlreadyExists(
                    f"{image_set.name} was begun with {field} {begun!r}, not {said!r}; choose "
                    "another name, or delete it first",
                    field="name",
                )
        return self._standing(folder)

    def get_set(self, name: str) -> ImageSet:
        """What is known of a set.

        Raises:
            NotFound: There is none of this name.
        """
        return self._standing(SetFolder(self._objects, name))

    def list_sets(self, page_size: int, page_token: str) -> tuple[list[ImageSet], str]:
        """A page of the sets, newest first, and the token of the next.

        No Parquet file is read: a set that is still uploaded comes without the names of its
        rejected images.

        Raises:
            RequestError: The size or the token is not accepted.
        """
        folders = self._folders()
        heads = {entry: files for files in folders.values() for entry in files if _is_head(entry)}
        shown, token = page(
            self._records.of(heads).items(),
            lambda item: age(item[1].image_set),
            page_size,
            page_token,
        )
        return [record.counted(record.parts(heads[head])) for head, record in shown], token

    def append_part(
        self,
        name: str,
        first: int,
        end: int,
        table: pa.Table,
        rejected: Sequence[RejectedImage] = (),
    ) -> ImageSet:
        """Keeps a stretch of a set's images, unless all of them are kept already.

        Args:
            name: Of the set.
            first: The index of the first image.
            end: One more than the index of the last.
            table: From lavise.profile.profile_table(): the images that count.
            rejected: Those that do not.

        Returns:
            The set with them, without the names of its rejected images.

        Raises:
            NotFound: There is no such set.
            NotReady: The set is complete.
            RequestError: Images before ``first`` are missing.
        """
        folder = SetFolder(self._objects, name)
        record, parts = folder.state()
        received = record.counted(parts).received_images
        if not record.is_ready and first > received:
            raise RequestError(
                f"image {first} of {name} comes too early; resume at {received}", field="index"
            )
        if not record.is_ready and end > received:
            part = Part(record.upload, first, end, len(rejected))
            folder.put_part(part, write_part(table, rejected))
            parts.append(part)
            record = folder.expected()
        if record.is_ready:
            raise NotReady(f"{name} is complete: it takes no more images", field="name")
        return record.counted(parts)

    def finish_set(self, name: str) -> ImageSet:
        """Makes one profile of the parts; the set is ready then.

        Memory holds one part at a time. Repeating it is harmless.

        Raises:
            NotFound: There is no such set, or it was deleted meanwhile.
            NotReady: No image of it could be read.
        """
        folder = SetFolder(self._objects, name)
        record, parts = folder.state()
        if not record.is_ready:
            try:
                record = self._made_ready(folder, record, parts) or folder.expected()
            except FileNotFoundError:  # another process has finished or deleted the set
                record = folder.expected()
        if not record.is_ready:
            raise NotFound(f"{name} was deleted and begun anew while it was finished", field="name")
        for part in parts:
            folder.delete_part(part)
        return record.image_set

    def profile_table(self, name: str) -> pa.Table:
        """The profile of a set without its small images, for lavise.profile.profile_of().

        Raises:
            NotFound: There is no such set.
            NotReady: The set is not complete.
        """
        folder = SetFolder(self._objects, name)
        try:
            return folder.table(_profile(folder.expected()), leave_out=THUMBNAIL)
        except FileNotFoundError:
            raise not_found(name) from None

    def thumbnails(self, name: str, indices: Collection[int]) -> dict[int, bytes]:
        """The small images of a set, of those indices that it has; none where it keeps none.

        Raises:
            NotFound: There is no such set.
            NotReady: The set is not complete.
        """
        folder = SetFolder(self._objects, name)
        try:
            return folder.thumbnails(_profile(folder.expected()), indices)
        except FileNotFoundError:
            raise not_found(name) from None

    def delete_set(self, name: str) -> None:
        """Removes everything of a set, also what an interrupted deletion left.

        Raises:
            NotFound: There is nothing of this name.
        """
        folder = SetFolder(self._objects, name)
        if not self._objects.list(folder.path):
            raise not_found(name)
        folder.delete()

    def sweep(self, now: datetime) -> int:
        """Removes what has expired, and what killed processes left behind.

        Args:
            now: The time, with its zone.

        Returns:
            How many sets and comparisons have expired.
        """
        expired = 0
        stale = now.timestamp() - STALE_S
        for path, entries in self._folders().items():
            try:
                folder = SetFolder(self._objects, f"imageSets/{path.rpartition('/')[2]}")
                record = folder.record()
            except (RequestError, Damaged):
                continue  # not ours to judge
            if record is not None and has_expired(record.image_set, now):
                folder.delete()
                expired += 1
                continue
            for entry in entries:
                if entry.modified < stale and not (record and record.refers_to(entry)):
                    self._objects.delete(entry.path)
        return expired + self.comparisons.sweep(now)

    def _folders(self) -> dict[str, list[Entry]]:
        """The files of each set, from one listing."""
        folders = defaultdict(list)
        for entry in self._objects.list(SETS):
            folders["/".join(entry.path.split("/")[:2])].append(entry)
        return folders

    def _standing(self, folder: SetFolder) -> ImageSet:
        """The set as it stands, with the names of its rejected images."""
        record, parts = folder.state()
        image_set = record.counted(parts)
        if not record.is_ready:
            try:
                image_set.rejected.extend(folder.rejected(parts, MOST_REJECTED))
            except FileNotFoundError:  # another process has just finished or deleted the set
                return self._standing(folder)
        return image_set

    def _made_ready(
        self, folder: SetFolder, record: Record, parts: Sequence[Part]
    ) -> Record | None:
        """Merges the parts; None where the set is no longer the one whose upload ends here."""
        image_set = record.counted(parts)
        # A name of its own for each attempt: two processes never write into one file.
        file = f"profile-{secrets.token_hex(8)}.parquet"
        with self._objects.writing(f"{folder.path}/{file}") as stream:
            rows, rejected = merge_parts(folder.tables(parts), stream)
            if not rows:
                raise NotReady(
                    f"{image_set.name} has no image that counts: {image_set.received_images} were "
                    f"received, {len(rejected)} of them rejected",
                    field="name",
                )
        if folder.record() != record:
            self._objects.delete(f"{folder.path}/{file}")
            return None
        image_set.state = ImageSet.STATE_READY
        image_set.image_count, image_set.rejected_count = rows, len(rejected)
        image_set.rejected.extend(rejected[:MOST_REJECTED])
        ready = Record(image_set, record.upload, file)
        folder.put(ready)
        return ready


def open_store(settings: Settings, metrics: StoreMetrics | None = None) -> Store:
    """Opens the store that the settings name.

    Args:
        settings: Its URL, and the S3 server.
        metrics: Where operations on its files are counted.

    Raises:
        SpecError: Its URL cannot be read.
        EnvironmentProblem: It is not there, or cannot be written to.
    """
    return Store(
        open_objects(
            settings.store,
            s3_endpoint=settings.s3_endpoint,
            s3_region=settings.s3_region,
            metrics=metrics,
        )
    )


def _profile(record: Record) -> str:
    """The file of the profile of a set that is ready."""
    if not record.is_ready:
        raise NotReady(
            f"{record.image_set.name} is still uploaded; finish the upload before it is compared",
            field="name",
        )
    return record.profile


def _is_head(entry: Entry) -> bool:
    return entry.path.endswith(f"/{HEAD}")
