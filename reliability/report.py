"""docs/reliability.md: what was run, what happened, and what it was worth."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any, Final

import jinja2
import numpy as np

from reliability.figure import SHORT, figure
from reliability.judge import (
    BACK_WITHIN_S,
    WINDOW_S,
    grown,
    in_calm,
    judge,
    normal_p99,
    p99,
    recoveries,
)
from reliability.load import CALLERS
from reliability.plan import MIX, PERMUTATIONS, SET_IMAGES, SHARE_OF_CAPACITY
from reliability.records import OK
from reliability.servers import WORKERS
from reliability.truth import IMAGES
from reliability.watch import JAVA, LOOKS_A_MINUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reliability.judge import Recovery
    from reliability.plan import Plan
    from reliability.records import Call, Run

_TEMPLATE: Final = Path(__file__).with_name("report.md.jinja")
_MiB: Final = 2**20


def write_report(run: Run, plan: Plan, folder: Path) -> None:
    """Writes reliability.md and reliability.svg.

    Args:
        run: What was measured.
        plan: What was meant to be.
        folder: Where to.
    """
    page = jinja2.Template(
        _TEMPLATE.read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    (folder / "reliability.md").write_text(page.render(_facts(run, plan)), encoding="utf-8")
    (folder / "reliability.svg").write_text(figure(run, plan), encoding="utf-8")


def _facts(run: Run, plan: Plan) -> dict[str, Any]:
    foreign = run.about["foreign"]
    n = min(LOOKS_A_MINUTE, len(foreign))
    minutes = [mean(foreign[start : start + n]) for start in range(len(foreign) - n + 1)]
    shares: dict[str, float] = {}
    for kind, share in MIX.items():
        name = kind.partition("-")[0]
        shares[name] = shares.get(name, 0) + share
    return {
        "about": run.about,
        "workers": WORKERS,
        "callers": CALLERS,
        "share": f"{SHARE_OF_CAPACITY:.0%}",
        "late": _ms(float(np.percentile([call.late for call in run.calls], 99))),
        "mix": ", ".join(f"{kind} {share:g} %" for kind, share in shares.items()),
        "images": IMAGES,
        "set_images": SET_IMAGES,
        "permutations": PERMUTATIONS,
        "client_share": f"{sum(s for k, s in MIX.items() if k.endswith('-client')):.0f} %",
        "foreign_mean": f"{mean(foreign):.2f}",
        "foreign_worst": f"{max(minutes):.2f}",
        "verdicts": judge(run, plan),
        "normal": _ms(normal_p99(run, plan)),
        "window": f"{WINDOW_S:.0f} s",
        "faults": [_fault(one) for one in recoveries(run, plan)],
        "in_calm": len(in_calm(run)),
        "kinds": [_kind(run, kind, plan.faults[0].start) for kind in MIX],
        "memory": _memory(run, plan),
        "rolled": _rolled(run),
    }


def _fault(one: Recovery) -> dict[str, Any]:
    back = "never" if one.back_s is None else f"{one.back_s:.0f} s"
    minute, second = divmod(int(one.event.start), 60)
    return {
        "at": f"{minute}:{second:02}",
        "what": SHORT[one.event.what],
        "errors": _counted(one.errors),
        "of": f"{one.of:,}",
        "p99": _ms(one.p99_s),
        "back": back if one.back_s is not None and one.back_s <= BACK_WITHIN_S else f"**{back}**",
        "note": one.event.note,
    }


def _kind(run: Run, kind: str, first_fault: float) -> dict[str, str]:
    calls = [call for call in run.calls if call.kind == kind]
    answered = [call for call in calls if call.code == OK]
    return {
        "kind": kind,
        "calls": f"{len(calls):,}",
        "answered": f"{len(answered):,}",
        "errors": _counted(Counter(call.code for call in calls if call.code != OK)),
        "p50": _ms(_median(answered)),
        "before": _ms(p99(call for call in answered if call.due < first_fault)),
        "p99": _ms(p99(answered)),
    }


def _memory(run: Run, plan: Plan) -> list[dict[str, str]]:
    rows = []
    for role, (first, last) in sorted(grown(run.looks, plan).items()):
        looks = [look for look in run.looks if look.role == role]
        rows.append(
            {
                "role": role,
                "first": _mib(first),
                "last": _mib(last),
                "change": f"{last / first - 1:+.1%}{'' if role != JAVA else ', not judged'}",
                "greatest": _mib(max(look.rss for look in looks)),
                "pss": _mib(looks[-1].pss),
            }
        )
    return rows


def _rolled(run: Run) -> tuple[str, str] | None:
    """What the companion that took the place of another held at first, and at last."""
    looks = [look for look in run.looks if look.role == "companion 1"]
    held = [look.rss for look in looks if look.pid == looks[-1].pid]
    if len(held) in (0, len(looks)):
        return None
    n = min(LOOKS_A_MINUTE, -(-len(held) // 2))
    return _mib(median(held[:n])), _mib(median(held[-n:]))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{n:,} {code}" for code, n in counts.most_common()) or "none"


def _median(calls: Sequence[Call]) -> float:
    return median(call.seconds for call in calls) if calls else float("nan")


def _ms(seconds: float) -> str:
    return "" if np.isnan(seconds) else f"{seconds * 1000:,.0f} ms"


def _mib(size: float) -> str:
    return f"{size / _MiB:,.0f} MiB"
