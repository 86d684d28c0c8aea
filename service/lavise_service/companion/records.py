"""What the small files of the store say, and the names of a set's; no Parquet file is opened."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from lavise.errors import EnvironmentProblem, RequestError, first_line
from lavise.v1.bias_pb2 import Comparison, ImageSet
from lavise_service.companion.objects import Entry
from lavise_service.companion.parts import FOLDER, Part, chain
from lavise_service.companion.problems import NotFound

SETS: Final = "sets"
COMPARISONS: Final = "comparisons"
HEAD: Final = "set.json"
COMPARISON: Final = ".pb"
"""How the file of a comparison ends: a report as JSON takes some seventy times as long to read."""
STALE_S: Final = 3600.0
"""Seconds after which what nothing refers to is swept away: nobody still works on it."""
_ID: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Damaged(EnvironmentProblem):
    """A file of the store was changed by somebody else: LaViSE leaves none half-written.

    Args:
        path: Of the file, in the store.
        problem: What reading it raised.
    """

    def __init__(self, path: str, problem: Exception) -> None:
        super().__init__(
            f"{path} in the store is damaged: {first_line(problem)}; delete it, or restore it "
            "from a copy",
            field="store",
        )


@dataclass(frozen=True)
class Record:
    """The content of a set.json.

    Attributes:
        image_set: Without the counts while images are coming: the parts have them.
        upload: Which parts belong to it: a name that is used again gets another upload.
        profile: The name of the profile's file; empty while images are coming.
    """

    image_set: ImageSet
    upload: str
    profile: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether the set is complete."""
        return bool(self.profile)

    def json(self) -> bytes:
        """What set.json holds."""
        image_set = json_format.MessageToDict(self.image_set)
        return orjson.dumps({"imageSet": image_set, "upload": self.upload, "profile": self.profile})

    @classmethod
    def of(cls, content: bytes, path: str) -> Self:
        """Reads a set.json.

        Raises:
            Damaged: It cannot be read.
        """
        try:
            read = orjson.loads(content)
            image_set = json_format.ParseDict(
                read["imageSet"], ImageSet(), ignore_unknown_fields=True
            )
            return cls(image_set, str(read["upload"]), str(read["profile"]))
        except (ValueError, KeyError, TypeError, json_format.ParseError) as problem:
            raise Damaged(path, problem) from problem

    def parts(self, entries: Iterable[Entry]) -> list[Part]:
        """The parts of this upload among the files of the set's folder."""
        parts = (_part(entry) for entry in entries)
        return [part for part in parts if part is not None and part.upload == self.upload]

    def refers_to(self, entry: Entry) -> bool:
        """Whether a file of the set's folder still counts."""
        part = _part(entry)
        if part is not None:
            return not self.is_ready and part.upload == self.upload
        return entry.path.split("/")[2:] in ([HEAD], [self.profile])

    def counted(self, parts: Iterable[Part]) -> ImageSet:
        """The set with the counts of its parts, without the names of rejected images."""
        if self.is_ready:
            return self.image_set
        counted = ImageSet()
        counted.CopyFrom(self.image_set)
        chained = [part for part, _ in chain(parts)]
        counted.received_images = chained[-1].end if chained else 0
        counted.rejected_count = sum(part.rejected for part in chained)
        counted.image_count = counted.received_images - counted.rejected_count
        return counted


def set_path(name: str) -> str:
    """The folder of ``imageSets/ID``.

    Raises:
        RequestError: The name is not of that form: no path is made of it.
    """
    return f"{SETS}/{_id('imageSets', name)}"


def comparison_path(name: str) -> str:
    """The file of ``comparisons/ID``.

    Raises:
        RequestError: The name is not of that form: no path is made of it.
    """
    return f"{COMPARISONS}/{_id('comparisons', name)}{COMPARISON}"


def comparison_of(content: bytes, path: str) -> Comparison:
    """Reads a comparison.

    Args:
        content: Of its file.
        path: The file.

    Raises:
        Damaged: It cannot be read, or is another's.
    """
    try:
        read = Comparison.FromString(content)
        lies_at = comparison_path(read.name)
        # What protobuf reads, and everybody who lists comparisons would stumble over.
        read.create_time.ToDatetime()
        read.expire_time.ToDatetime()
        json_format.MessageToDict(read.error)
    except (DecodeError, RequestError, ValueError, TypeError) as problem:
        raise Damaged(path, problem) from problem
    if lies_at != path:
        raise Damaged(path, ValueError(f"it holds {read.name!r}"))
    return read


def heading_of(content: bytes, path: str) -> Comparison:
    """Reads a comparison and leaves its report out; see comparison_of()."""
    whole = comparison_of(content, path)
    whole.ClearField("report")
    heading = Comparison()
    heading.CopyFrom(whole)  # what a message has ever held is freed with it, not before
    return heading


def age(item: ImageSet | Comparison) -> tuple[int, str]:
    """Where a list of sets or comparisons places one: when it was made, and its name."""
    return item.create_time.ToNanoseconds(), item.name


def has_expired(item: ImageSet | Comparison, now: datetime) -> bool:
    """Whether the time to keep it is over."""
    return item.HasField("expire_time") and item.expire_time.ToDatetime(UTC) <= now


def not_found(name: str) -> NotFound:
    """There is nothing of this name."""
    return NotFound(f"there is no {name}: never made, deleted, or expired", field="name")


def _part(entry: Entry) -> Part | None:
    """The part that a file below sets/ID is."""
    match entry.path.split("/")[2:]:
        case [folder, file] if folder == FOLDER:
            return Part.of(file)
    return None


def _id(collection: str, name: str) -> str:
    start, _, id_ = name.partition("/")
    if start != collection or not _ID.fullmatch(id_):
        raise RequestError(
            f"{name[:100]!r} is no name here; accepted: {collection}/ID, the ID of 1 to 63 letters "
            "a to z, digits and hyphens, no hyphen first or last",
            field="name",
        )
    return id_
