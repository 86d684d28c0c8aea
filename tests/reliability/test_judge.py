"""The judge says no to each thing that it is there for, and yes to a run without them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reliability.judge import Verdict, grown, in_calm, judge, normal_p99, recoveries
from reliability.plan import arrivals
from reliability.records import Call, Event, Look, Run
from tests.reliability.sample_run import PLAN, explain, good_run

ERRORS, ANSWERS, STORE, BACK, MEMORY, RETRIED, STALLED = 2, 0, 1, 3, 4, 5, 6


def judged(run: Run) -> list[Verdict]:
    return judge(run, PLAN)


def test_a_good_run_passes() -> None:
    assert [verdict for verdict in judged(good_run()) if not verdict.ok] == []


def add(call: Call) -> Callable[[Run], None]:
    return lambda run: run.calls.append(call)


def keep(**found: Any) -> Callable[[Run], None]:
    return lambda run: run.kept.update(found)


def slow_after_the_burst(run: Run) -> None:
    start = PLAN.one("burst").end
    run.calls = [
        replace(one, seconds=1.0) if start <= one.due < start + 35 else one for one in run.calls
    ]


def grow(run: Run) -> None:
    run.looks = [
        replace(one, rss=120) if one.role == "companion 2" and one.at > 500 else one
        for one in run.looks
    ]


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (add(explain(5, wrong="other words")), ANSWERS),
        (keep(lost_sets=1), STORE),
        (keep(wrong=["imageSets/a: other pixels"]), STORE),
        (add(explain(61, code="INTERNAL")), ERRORS),
        (add(explain(61, code="UNAVAILABLE")), ERRORS),
        (add(Call("explain-http", 61, 0.1, code="ReadError")), ERRORS),
        (add(Call("explain-http", 61, 0.1, code="504", hint=True)), ERRORS),
        (slow_after_the_burst, BACK),
        (grow, MEMORY),
        (add(Call("upload-client", 61, 9, code="UNAVAILABLE", hint=True)), RETRIED),
        (add(Call("stalled", 145, 100, code="408")), STALLED),
        (add(Call("stalled", 145, 31, code="OK")), STALLED),
    ],
)
def test_each_fault_of_ours_is_seen(harm: Callable[[Run], None], line: int) -> None:
    run = good_run()
    harm(run)
    assert [i for i, verdict in enumerate(judged(run)) if not verdict.ok] == [line]


def test_the_calm_minutes_say_what_is_normal() -> None:
    run = good_run()
    run.calls += [explain(-60 + n / 4, 0.3) for n in range(40)]
    assert normal_p99(run, PLAN) == pytest.approx(0.3)


def test_recovery_counts_from_the_end_of_the_fault() -> None:
    run = good_run()
    assert normal_p99(run, PLAN) == pytest.approx(0.1)
    found = {one.event.what: one for one in recoveries(run, PLAN)}
    assert found["worker"].back_s == pytest.approx(10)
    # Longer than what it did to the latency: normal again as soon as it ends.
    assert found["read-only"].back_s == pytest.approx(0)
    assert found["worker"].errors == {"UNAVAILABLE": 8}
    assert found["worker"].p99_s == pytest.approx(1.0)


def test_more_than_one_refusal_in_a_hundred_is_not_normal() -> None:
    few, many = good_run(), good_run()
    for run, n in ((few, 1), (many, 3)):
        quick = [explain(75 + 0.01 * i, seconds=0.01) for i in range(150)]
        refused = [replace(one, code="429", hint=True) for one in quick[:n]]
        run.calls = sorted([*run.calls, *quick[n:], *refused], key=lambda call: call.due)
    assert recoveries(few, PLAN)[0].back_s == recoveries(good_run(), PLAN)[0].back_s
    back = recoveries(many, PLAN)[0].back_s
    assert back is not None
    assert back > 10


def test_what_is_refused_before_any_fault_does_not_make_refusals_normal() -> None:
    run = good_run()
    run.calls += [explain(5 + 0.01 * i, code="429", hint=True) for i in range(50)]
    assert normal_p99(run, PLAN) == pytest.approx(0.1)


def test_a_fault_into_another_counts_for_both() -> None:
    run = good_run()
    run.events = [Event("worker", 55, 55), Event("worker", 60, 60)]
    run.calls = [call for call in run.calls if not 55 <= call.due < 60]
    first, second = recoveries(run, PLAN)
    assert first.back_s == pytest.approx(15)
    assert second.back_s == pytest.approx(10)


def test_a_service_that_stays_slow_never_comes_back() -> None:
    run = good_run()
    run.calls = [replace(one, seconds=1.0) if one.due > 540 else one for one in run.calls]
    assert recoveries(run, PLAN)[-1].back_s is None
    assert not judged(run)[BACK].ok


def test_errors_in_the_calm_are_counted() -> None:
    run = good_run()
    assert in_calm(run) == []
    stray = explain(55, code="UNAVAILABLE", hint=True)
    run.calls.append(stray)
    assert in_calm(run) == [stray]


def test_memory_is_compared_within_one_process() -> None:
    run = good_run()
    run.looks += [Look(at, "companion 1", 99, 900, 1) for at in range(560, 600, 2)]
    assert grown(run.looks, PLAN)["companion 1"] == (100, 104)


def test_arrivals_are_ten_times_as_many_in_the_burst() -> None:
    calls = arrivals(PLAN, 20)
    burst = PLAN.one("burst")
    inside = [one for one in calls if burst.start <= one.due < burst.start + burst.lasts]
    assert len(inside) == pytest.approx(20 * 10 * burst.lasts, rel=0.1)
    assert len(calls) - len(inside) == pytest.approx(20 * (120 + 600 - burst.lasts), rel=0.05)
    assert [one.due for one in calls] == sorted(one.due for one in calls)
    share = sum(one.kind == "explain-grpc" for one in calls) / len(calls)
    assert share == pytest.approx(0.36, abs=0.02)
    assert calls == arrivals(PLAN, 20), "a fixed seed"
