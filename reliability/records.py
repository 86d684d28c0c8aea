"""What a run leaves: one record a call, one a fault, one a look at a process's memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import orjson

if TYPE_CHECKING:
    from pathlib import Path

OK = "OK"


@dataclass(frozen=True)
class Call:
    """How a call went.

    Attributes:
        kind: One of the mix, or "stalled".
        due: When it was to be made, seconds after the calm minutes, in which it is negative.
        seconds: From then to its end: what it waited for its turn is in it.
        late: Seconds that the load itself was late with it.
        code: OK, a google.rpc code, an HTTP status, or what became of the connection.
        hint: Whether an error said when to come again.
        wrong: What was wrong with the answer.
        made: The image set or comparison that it made.
    """

    kind: str
    due: float
    seconds: float
    late: float = 0.0
    code: str = OK
    hint: bool = False
    wrong: str = ""
    made: str = ""

    @property
    def retries(self) -> bool:
        """Whether lavise.client made it, which repeats by itself."""
        return self.kind.endswith("-client")


@dataclass(frozen=True)
class Event:
    """A fault as it happened.

    Attributes:
        what: As in the plan.
        start: Seconds after the calm minutes.
        end: When it was taken back; the same where coming back is the servers' own affair.
        note: What was seen of it.
    """

    what: str
    start: float
    end: float
    note: str = ""


@dataclass(frozen=True)
class Look:
    """The memory of a process at a moment.

    Attributes:
        at: Seconds after the calm minutes, in which it is negative.
        role: Such as "companion 1", "worker", "TorchServe's Java".
        pid: Its number.
        rss: Resident bytes, those of shared libraries included.
        pss: The same, but shared pages divided among those that share them.
    """

    at: float
    role: str
    pid: int
    rss: int
    pss: int


@dataclass
class Run:
    """All of it.

    Attributes:
        about: The machine, the capacity, the length.
        calls: Of the load.
        events: The faults.
        looks: Memory.
        kept: What was found in the store afterwards.
    """

    about: dict[str, Any]
    calls: list[Call] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Keeps it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what write() wrote."""
        read = orjson.loads(path.read_bytes())
        return cls(
            about=read["about"],
            calls=[Call(**one) for one in read["calls"]],
            events=[Event(**one) for one in read["events"]],
            looks=[Look(**one) for one in read["looks"]],
            kept=read["kept"],
        )
