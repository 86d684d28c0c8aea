"""What a run was worth: pure functions of its records."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from reliability.plan import JUDGED
from reliability.records import OK
from reliability.watch import WORKER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from reliability.plan import Plan
    from reliability.records import Call, Event, Look, Run

ALLOWED: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "503", "429"})
LET_GO: Final = frozenset({"DEADLINE_EXCEEDED", "408"})
"""How a client that says nothing more is sent away."""
WINDOW_S: Final = 10.0
BACK_WITHIN_S: Final = 30.0
LET_GO_WITHIN_S: Final = 60.0
MOST_GROWTH: Final = 0.05


@dataclass(frozen=True)
class Verdict:
    """One line of the judgement.

    Attributes:
        what: What was asked for.
        ok: Whether it held.
        found: What was measured.
    """

    what: str
    ok: bool
    found: str


@dataclass(frozen=True)
class Recovery:
    """What a fault did.

    Attributes:
        event: The fault.
        errors: How many of which code, raw, from its start to the next fault.
        of: How many raw calls were due then.
        p99_s: Of answered explanations in the worst window that begins after its start, up to the
            next.
        back_s: Seconds from its end to the first window that is normal again, be it after the next
            fault; None if there is none.
    """

    event: Event
    errors: Counter[str]
    of: int
    p99_s: float
    back_s: float | None


def raw(calls: Iterable[Call]) -> list[Call]:
    """The calls that nobody repeats, but for those that stall on purpose."""
    return [call for call in calls if not call.retries and call.kind != "stalled"]


def p99(calls: Iterable[Call]) -> float:
    """The 99th percentile of seconds; NaN where there is no call."""
    seconds = [call.seconds for call in calls]
    return float(np.percentile(seconds, 99)) if seconds else math.nan


def p99_or_worse(calls: Iterable[Call]) -> float:
    """Like p99, where a call that was refused counts as slower than any; no value is made up."""
    seconds = [call.seconds if call.code == OK else math.inf for call in calls]
    return float(np.percentile(seconds, 99, method="higher")) if seconds else math.nan


def explains(calls: Iterable[Call]) -> list[Call]:
    """Raw explanations, in the order in which they were due."""
    return sorted((call for call in calls if call.kind in JUDGED), key=_due)


def between(calls: Sequence[Call], start: float, end: float) -> Sequence[Call]:
    """Those of sorted calls that were due in a stretch of time."""
    return calls[bisect_left(calls, start, key=_due) : bisect_left(calls, end, key=_due)]


def normal_p99(run: Run, plan: Plan) -> float:
    """The worst p99 of any window before the first fault; one with refusals says nothing of it."""
    ends = plan.faults[0].start - WINDOW_S
    starts = np.arange(-plan.calm, max(ends, 0.0) + 1e-9)
    calls = explains(run.calls)
    found = [p99_or_worse(between(calls, at, at + WINDOW_S)) for at in starts]
    return max((one for one in found if math.isfinite(one)), default=math.nan)


def recoveries(run: Run, plan: Plan) -> list[Recovery]:
    """What each fault did, in order."""
    limit, judged = normal_p99(run, plan), explains(run.calls)
    untils = [*(event.start for event in run.events[1:]), plan.seconds]
    found = []
    for event, until in zip(run.events, untils, strict=True):
        windows = [window for _, window in _windows(judged, event.start, until)]
        worst = [p99(call for call in window if call.code == OK) for window in windows]
        after = _windows(judged, event.end, plan.seconds - WINDOW_S)
        back = next((at for at, window in after if _is_normal(window, limit)), None)
        during = [call for call in raw(run.calls) if event.start <= call.due < until]
        found.append(
            Recovery(
                event,
                Counter(call.code for call in during if call.code != OK),
                len(during),
                max((one for one in worst if not math.isnan(one)), default=math.nan),
                None if back is None else float(back - event.end),
            )
        )
    return found


def _windows(
    calls: Sequence[Call], start: float, end: float
) -> Iterator[tuple[float, Sequence[Call]]]:
    """When each window begins, a second apart, and the calls that are in it."""
    for at in np.arange(start, end, 1.0):
        yield float(at), between(calls, at, at + WINDOW_S)


def _is_normal(calls: Sequence[Call], limit: float) -> bool:
    return p99_or_worse(calls) <= limit


def grown(looks: Iterable[Look], plan: Plan) -> dict[str, tuple[float, float]]:
    """Median resident bytes of each process in minute 2 to 3, and in the last minute.

    Args:
        looks: Of the run.
        plan: A shorter run has shorter minutes.

    Returns:
        By role; only of processes that lived through both.
    """
    minute = 60 * plan.scale
    first: dict[tuple[str, int], list[int]] = {}
    last: dict[tuple[str, int], list[int]] = {}
    for look in looks:
        if 2 * minute <= look.at < 3 * minute:
            first.setdefault((look.role, look.pid), []).append(look.rss)
        if 9 * minute <= look.at < 10 * minute:
            last.setdefault((look.role, look.pid), []).append(look.rss)
    return {key[0]: (median(first[key]), median(last[key])) for key in first if key in last}


def in_calm(run: Run) -> list[Call]:
    """Raw errors that come later than 30 s after a fault's end."""

    def explained(call: Call) -> bool:
        return any(one.start - 1 <= call.due <= one.end + BACK_WITHIN_S for one in run.events)

    return [call for call in raw(run.calls) if call.code != OK and not explained(call)]


def judge(run: Run, plan: Plan) -> list[Verdict]:
    """The verdicts, in the order of the report."""
    return [
        _answers(run),
        _store(run),
        _errors(run),
        _back(run, plan),
        _memory(run, plan),
        _retried(run),
        _stalled(run),
    ]


def _answers(run: Run) -> Verdict:
    compared = [call for call in run.calls if call.code == OK]
    wrong = [call.wrong for call in compared if call.wrong]
    kinds = Counter(call.kind.partition("-")[0] for call in compared)
    listed = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
    more = f": {', '.join(f'{n} {what}' for what, n in Counter(wrong).most_common(5))}"
    return Verdict(
        "no wrong answer", not wrong, f"{listed}; {len(wrong)} wrong{more if wrong else ''}"
    )


def _store(run: Run) -> Verdict:
    kept = run.kept
    wrong = kept["wrong"]
    found = (
        f"{kept['accepted_sets']:,} sets were reported ready, {kept['lost_sets']} of them are not "
        f"there; {kept['ready_sets']:,} profiles and {kept['done_comparisons']:,} comparisons were "
        f"read again, {len(wrong)} are wrong"
    )
    if wrong:
        found += f": {'; '.join(wrong[:5])}"
    return Verdict("no lost accepted upload", not wrong and not kept["lost_sets"], found)


def _errors(run: Run) -> Verdict:
    failed = [call for call in raw(run.calls) if call.code != OK]
    counts = Counter(call.code for call in failed)
    others = Counter(call.code for call in failed if call.code not in ALLOWED)
    mute = Counter(
        f"{call.kind} {call.code}" for call in failed if call.code in ALLOWED and not call.hint
    )
    found = f"{_listed(counts)} of {len(raw(run.calls)):,} raw calls"
    if others:
        found += f"; not allowed: {_listed(others)}"
    if mute:
        found += f"; without a hint: {_listed(mute)}"
    return Verdict(
        "errors only UNAVAILABLE or RESOURCE_EXHAUSTED (503, 429), each with a retry hint",
        not others and not mute,
        found,
    )


def _back(run: Run, plan: Plan) -> Verdict:
    found = recoveries(run, plan)
    late = [one for one in found if one.back_s is None or one.back_s > BACK_WITHIN_S]
    worst = max((one.back_s for one in found if one.back_s is not None), default=math.nan)
    text = f"slowest {worst:.0f} s; normal is {normal_p99(run, plan) * 1000:.0f} ms"
    if late:
        text += (
            f"; late: {', '.join(f'{one.event.what} at {one.event.start:.0f} s' for one in late)}"
        )
    return Verdict(f"p99 back to normal within {BACK_WITHIN_S:.0f} s", not late, text)


def _memory(run: Run, plan: Plan) -> Verdict:
    judged = {
        role: last / first - 1
        for role, (first, last) in grown(run.looks, plan).items()
        if role.startswith("companion") or role == WORKER
    }
    text = ", ".join(f"{role} {change:+.1%}" for role, change in sorted(judged.items()))
    return Verdict(
        f"memory grows by less than {MOST_GROWTH:.0%} from minute 2 to 10",
        len(judged) >= 2 and all(change < MOST_GROWTH for change in judged.values()),
        text or "no process lived so long",
    )


def _retried(run: Run) -> Verdict:
    calls = [call for call in run.calls if call.retries]
    lost = Counter(f"{call.kind} {call.code}" for call in calls if call.code != OK)
    return Verdict(
        "with lavise.client nothing is lost",
        not lost,
        f"{len(calls):,} calls, lost: {_listed(lost)}",
    )


def _stalled(run: Run) -> Verdict:
    calls = [call for call in run.calls if call.kind == "stalled"]
    slowest = max((call.seconds for call in calls), default=0.0)
    codes = Counter(call.code for call in calls)
    return Verdict(
        "a client that stands still is let go",
        bool(LET_GO & codes.keys())
        and codes.keys() <= LET_GO | ALLOWED
        and slowest <= LET_GO_WITHIN_S,
        f"{_listed(codes)}, the last after {slowest:.0f} s",
    )


def _due(call: Call) -> float:
    return call.due


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in counts.most_common()) or "none"
