"""Ten minutes of load with faults, and docs/reliability.md about them: make reliability.

The run takes Linux, and the right to make namespaces. In a mount namespace of its own the store can
be mounted read-only; in a PID namespace of its own nothing that was started outlives the run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import BUILD, ROOT, machine
from reliability.faults import inject
from reliability.judge import judge
from reliability.kept import look_into
from reliability.load import run_load
from reliability.plan import FULL_MINUTES, SHARE_OF_CAPACITY, Plan
from reliability.records import Run
from reliability.report import write_report
from reliability.servers import Servers
from reliability.truth import compute
from reliability.watch import Watch

RECORDS: Final = BUILD / "reliability.json"
DOCS: Final = ROOT / "docs"
_NICE: Final = 5
_INSIDE: Final = "LAVISE_RELIABILITY_INSIDE"
_NAMESPACES: Final = (
    "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--map-root-user",
)  # fmt: skip


def main() -> int:
    """Runs it, or writes the report of the last run again; exit status 1 where a verdict is no."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="of load with faults")
    parser.add_argument("--report", action="store_true", help="write the last run's report again")
    asked = parser.parse_args()
    if not asked.report:
        if _INSIDE not in os.environ:
            os.environ[_INSIDE] = "1"
            os.execvp(_NAMESPACES[0], [*_NAMESPACES, sys.executable, __file__, *sys.argv[1:]])  # noqa: S606
        _measure(Plan(asked.minutes)).write(RECORDS)
    run = Run.read(RECORDS)
    plan = Plan(run.about["minutes"])
    verdicts = judge(run, plan)
    for verdict in verdicts:
        print(f"{'yes' if verdict.ok else 'NO':4}{verdict.what}: {verdict.found}")
    # A short run is a look at whether all works; it proves nothing that would go into the docs.
    write_report(run, plan, DOCS if plan.minutes == FULL_MINUTES else BUILD)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def _measure(plan: Plan) -> Run:
    about: dict[str, Any] = {"machine": machine(), "minutes": plan.minutes}
    print("computing the right answers")
    truth = compute()
    with tempfile.TemporaryDirectory(prefix="lavise-reliability-") as name:
        servers = Servers(Path(name))
        # Spawned, since gRPC does not survive a fork.
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        companions = servers.companions
        places = ([one.grpc for one in companions], [one.http for one in companions])
        load = spawn.Process(target=run_load, args=(truth, places, plan, theirs), daemon=True)
        load.start()
        theirs.close()  # so that its end is heard
        # The companions come after the load, which has no machine of its own, wherever both want a
        # core: a load that is late measures itself. TorchServe is a session of its own, and Linux
        # divides the cores among sessions first.
        os.nice(_NICE)
        with servers:
            ours.send("they are up")
            print("measuring the capacity")
            about["capacity"] = ours.recv()
            about["rate"] = SHARE_OF_CAPACITY * about["capacity"]
            capacity, rate = about["capacity"], about["rate"]
            print(f"{capacity:.1f} calls/s; {rate:.1f} for {plan.minutes:g} minutes")
            begin = time.monotonic() + 2 + plan.calm
            ours.send(begin)
            with Watch(servers, begin) as watch:
                events = inject(servers, plan, begin)
                time.sleep(max(0.0, begin + plan.seconds - time.monotonic()))
            calls = ours.recv()
            load.join()
            print("reading what was kept")
            kept = look_into(servers.opened_store(), calls, truth)
            about["tracebacks"] = sum(one.log().count("Traceback") for one in companions)
    about["foreign"] = watch.foreign
    return Run(about, calls, events, watch.looks, kept)


if __name__ == "__main__":
    sys.exit(main())
