"""One picture of a run: latency and errors over time, the faults marked. SVG, by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Final

import numpy as np

from reliability.judge import between, explains, raw
from reliability.records import OK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reliability.plan import Plan
    from reliability.records import Call, Run

BIN_S: Final = 5.0
SHORT: Final = {
    "worker": "worker killed",
    "torchserve": "TorchServe killed",
    "stalled": "clients stall",
    "read-only": "store read-only",
    "burst": "burst of 10 x",
    "roll": "companion rolled",
}
_WIDTH, _HEIGHT = 1000, 560
_LEFT, _RIGHT = 74, 984
_INK, _QUIET, _GRID = "#1f2328", "#59636e", "#d9dee3"
_MARK: Final = "#8a6d00"
_P99, _P50 = "#0b5cad", "#7fb2e5"
# UNAVAILABLE and RESOURCE_EXHAUSTED, whichever door said them, and whatever should not be there.
_CODES: Final = {
    "UNAVAILABLE": "#c2571a",
    "RESOURCE_EXHAUSTED": "#6b4fa3",
    "anything else": "#b3001b",
}
_SAME: Final = {"503": "UNAVAILABLE", "429": "RESOURCE_EXHAUSTED"}


@dataclass(frozen=True)
class _Panel:
    """A stretch of the picture's height, with values from `low` at its foot to `high`."""

    top: float
    foot: float
    low: float
    high: float
    logarithmic: bool = False

    def y(self, value: float) -> float:
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, value = np.log10(low), np.log10(high), np.log10(value)
        return round(float(self.foot - (value - low) / (high - low) * (self.foot - self.top)), 1)


def figure(run: Run, plan: Plan) -> str:
    """The picture, as the text of an SVG file."""
    starts = np.arange(0.0, plan.seconds, BIN_S)
    judged = explains(run.calls)
    seconds = [
        [call.seconds for call in between(judged, at, at + BIN_S) if call.code == OK]
        for at in starts
    ]
    errors = [_errors(run.calls, at) for at in starts]
    latency = _Panel(96, 330, 10, 10_000, logarithmic=True)
    most = max(max((sum(one.values()) for one in errors), default=0), 10)
    failed = _Panel(390, 500, 0, most)
    parts = [
        *_frame(plan, latency, failed),
        *_faults(run, plan, failed.foot),
        _line(plan, latency, starts, seconds, 50, _P50, 1.4),
        _line(plan, latency, starts, seconds, 99, _P99, 1.8),
        *_bars(plan, failed, starts, errors),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" '
        'aria-label="Latency and errors over time, with the faults">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _x(plan: Plan, second: float) -> float:
    return round(_LEFT + second / plan.seconds * (_RIGHT - _LEFT), 1)


def _frame(plan: Plan, latency: _Panel, failed: _Panel) -> Iterator[str]:
    yield _text(_LEFT, 18, "Explain, answered: latency from the moment a call was due", weight=600)
    yield _key(
        620,
        18,
        [(_P50, f"p50 of {BIN_S:.0f} s"), (_P99, f"p99 of {BIN_S:.0f} s")],
    )
    yield _text(_LEFT, failed.top - 12, f"Errors per {BIN_S:.0f} s, raw calls", weight=600)
    yield _key(460, failed.top - 12, [(colour, code) for code, colour in _CODES.items()])
    for value, label in ((10, "10 ms"), (100, "100 ms"), (1000, "1 s"), (10_000, "10 s")):
        yield _grid(latency.y(value), label)
    step = next(n for n in (5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if failed.high / n <= 4)
    for count in range(0, int(failed.high) + 1, step):
        yield _grid(failed.y(count), str(count))
    for tenth in range(11):
        at = _x(plan, plan.seconds * tenth / 10)
        foot = failed.foot
        yield f'<line x1="{at}" x2="{at}" y1="{foot}" y2="{foot + 5}" stroke="{_QUIET}"/>'
        label = f"{plan.minutes * tenth / 10:g}"
        yield _text(at, failed.foot + 19, label, anchor="middle", colour=_QUIET)
    middle = (_LEFT + _RIGHT) / 2
    yield _text(middle, failed.foot + 38, "minutes", anchor="middle", colour=_QUIET)


def _faults(run: Run, plan: Plan, foot: float) -> Iterator[str]:
    """A line a fault, a band where it lasted; their names in two rows, so that none meet."""
    named = 0
    for event in run.events:
        start, end = _x(plan, event.start), _x(plan, min(event.end, plan.seconds))
        width = max(end - start, 0.0)
        if width > 1:
            yield (
                f'<rect x="{start}" y="62" width="{width:.1f}" height="{foot - 62}" '
                f'fill="{_MARK}" opacity="0.10"/>'
            )
        yield (
            f'<line x1="{start}" x2="{start}" y1="62" y2="{foot}" stroke="{_MARK}" '
            'stroke-width="1" stroke-dasharray="3 3"/>'
        )
        if event.what == "worker":
            yield _text(start, 58, "w", anchor="middle", colour=_MARK)
        else:
            yield _text(start + 2, (44, 32)[named % 2], SHORT[event.what], colour=_MARK)
            named += 1
    yield _text(_RIGHT, 36, "w: worker killed", anchor="end", colour=_MARK)


def _line(
    plan: Plan,
    panel: _Panel,
    starts: Sequence[float] | np.ndarray,
    seconds: list[list[float]],
    percent: float,
    colour: str,
    width: float,
) -> str:
    """A percentile over time; a gap where nothing was answered."""
    path, pen_down = [], False
    for at, values in zip(starts, seconds, strict=True):
        if values:
            y = panel.y(1000 * float(np.percentile(values, percent)))
            path.append(f"{'L' if pen_down else 'M'}{_x(plan, at + BIN_S / 2)} {y}")
        pen_down = bool(values)
    return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _errors(calls: Sequence[Call], start: float) -> Counter[str]:
    counts: Counter[str] = Counter()
    for call in raw(calls):
        if call.code != OK and start <= call.due < start + BIN_S:
            code = _SAME.get(call.code, call.code)
            counts[code if code in _CODES else "anything else"] += 1
    return counts


def _bars(
    plan: Plan, panel: _Panel, starts: Sequence[float] | np.ndarray, errors: list[Counter[str]]
) -> Iterator[str]:
    width = max(_x(plan, BIN_S) - _x(plan, 0) - 1, 1)
    for at, counts in zip(starts, errors, strict=True):
        below = 0
        for code, colour in _CODES.items():
            if counts[code]:
                top, foot = panel.y(below + counts[code]), panel.y(below)
                yield (
                    f'<rect x="{_x(plan, at)}" y="{top}" width="{width:.1f}" '
                    f'height="{foot - top:.1f}" fill="{colour}"/>'
                )
                below += counts[code]


def _grid(y: float, label: str) -> str:
    line = f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}" stroke="{_GRID}"/>'
    return line + _text(_LEFT - 8, y + 4, label, anchor="end", colour=_QUIET)


def _key(x: float, y: float, entries: Sequence[tuple[str, str]]) -> str:
    parts = []
    for colour, label in entries:
        parts.append(f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(_text(x + 17, y, label))
        x += 40 + 8 * len(label)
    return "".join(parts)


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = _INK, weight: int = 400
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
