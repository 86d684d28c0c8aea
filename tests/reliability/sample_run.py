"""A run that went as it should, made up."""

from typing import Any

from reliability.plan import Plan
from reliability.records import Call, Event, Look, Run

PLAN = Plan()
KEPT = {"accepted_sets": 3, "ready_sets": 3, "lost_sets": 0, "done_comparisons": 2, "wrong": []}
MACHINE = {"cpu": "a CPU", "cores": 2, "system": "Linux", "onnxruntime": "1.32.0"}
ABOUT = {
    "machine": MACHINE,
    "minutes": 10.0,
    "capacity": 12.5,
    "rate": 10.0,
    "foreign": [0.1] * 300,
    "tracebacks": 0,
}


def explain(due: float, seconds: float = 0.1, **more: Any) -> Call:
    return Call("explain-grpc", due, seconds, **more)


def good_run() -> Run:
    """Four calls a second; refused for two seconds and slow for eight after each fault."""
    faults = [fault.start for fault in PLAN.faults]

    def call(due: float) -> Call:
        since = min((due - start for start in faults if due >= start), default=99.0)
        if since < 2:
            return explain(due, code="UNAVAILABLE", hint=True)
        return explain(due, 1.0 if since < 10 else 0.1)

    calls = [call(n / 4) for n in range(2400)]
    calls += [Call("explain-client", 300, 9.0), Call("stalled", 145, 31, code="408")]
    roles = ("companion 1", "companion 2", "oldest worker", "TorchServe's Java")
    looks = [
        Look(at, role, pid, 100 + (at > 300) * (400 if "Java" in role else 4), 50)
        for at in range(0, 600, 2)
        for pid, role in enumerate(roles)
    ]
    events = [Event(fault.what, fault.start, fault.start + fault.lasts) for fault in PLAN.faults]
    return Run(ABOUT, calls, events, looks, dict(KEPT))
