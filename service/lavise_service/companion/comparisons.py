"""Comparisons as work: begun, followed, kept, taken up again after a crash.

A comparison is written down before it is worked on, and its seed makes it repeatable. So what a
crash interrupted is begun anew, by whoever is asked for it, and two replicas that both do so write
the same report.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Final

from lavise.bias import DEFAULT_ALPHA, DEFAULT_PERMUTATIONS, check_comparison, compare
from lavise.errors import LaviseError, RequestError
from lavise.profile import profile_of
from lavise.v1.bias_pb2 import CompareRequest, Comparison, ImageSet, Report, Side
from lavise_service.companion.comparison_job import GivenUpError, Job
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import NotFound, NotReady, ResourceExhausted, status_of
from lavise_service.companion.records import not_found
from lavise_service.companion.store import Store

MOST_WAITING: Final = 8
"""Comparisons that may be unfinished at a time; more are refused for a moment, since they run one
by one and what waits is worked off before anything else is quick again."""
_POLL_S: Final = 0.2
_KEEP_AGAIN_S: Final = 5.0
_log = logging.getLogger(__name__)


class Comparisons:
    """The comparisons of one companion; use it from one event loop.

    Args:
        store: Where they are kept.
        retention: After which time one expires; None keeps them.
        metrics: Where they are counted and their progress is shown.
    """

    def __init__(
        self, store: Store, *, retention: timedelta | None, metrics: Metrics | None = None
    ) -> None:
        self._store = store
        self._retention = retention
        self._jobs: dict[str, Job] = {}
        self._starting = 0
        self._working: Job | None = None
        metrics = metrics or Metrics()
        metrics.watch_slots("comparisons", MOST_WAITING, self._unfinished)
        self._metrics = metrics.comparisons
        self._metrics.progress = lambda: self._working.progress if self._working else None
        # One at a time: a large one takes all cores, and profiles are large.
        self._turn = asyncio.Lock()

    async def start(self, request: CompareRequest) -> Comparison:
        """Begins a comparison.

        Args:
            request: Names of two sets, and options; what is left out is filled in.

        Returns:
            The comparison, running.

        Raises:
            RequestError: An option is out of range, or both sets are the same.
            NotFound: A set does not exist.
            NotReady: A set is still uploaded.
            ResourceExhausted: Too many are unfinished.
        """
        asked = _filled_in(request)
        check_comparison(asked.alpha, asked.permutations, asked.seed)
        if asked.image_set_a == asked.image_set_b:
            raise RequestError(
                f"image_set_a and image_set_b are both {asked.image_set_a!r}; name two sets",
                field="image_set_b",
            )
        for field in ("image_set_a", "image_set_b"):
            image_set = await asyncio.to_thread(self._store.get_set, getattr(asked, field))
            if image_set.state != ImageSet.STATE_READY:
                raise NotReady(
                    f"{image_set.name} is still uploaded; finish the upload before it is compared",
                    field=field,
                )
        if self._unfinished() >= MOST_WAITING:
            raise ResourceExhausted(
                f"{MOST_WAITING} comparisons are unfinished, which is the limit", retry_after_s=5
            )
        begun = Comparison(
            name=f"comparisons/{secrets.token_hex(8)}",
            state=Comparison.STATE_RUNNING,
            request=asked,
        )
        now = datetime.now(UTC)
        begun.create_time.FromDatetime(now)
        if self._retention is not None:
            begun.expire_time.FromDatetime(now + self._retention)
        self._starting += 1
        try:
            await asyncio.to_thread(self._store.comparisons.put, begun)
        finally:
            self._starting -= 1
        self._job(begun)
        return begun

    async def get(self, name: str) -> Comparison:
        """A comparison as it stands; one that a crash interrupted is taken up again.

        Raises:
            NotFound: There is none of this name.
        """
        job = self._jobs.get(name)
        if job is None:
            found = await asyncio.to_thread(self._store.comparisons.get, name)
            if found.state != Comparison.STATE_RUNNING or len(self._jobs) >= MOST_WAITING:
                return found
            job = self._job(found)
        if job.given_up:
            raise not_found(name)
        return job.now()

    async def follow(self, name: str) -> AsyncGenerator[Comparison, None]:
        """A comparison whenever it has moved on, at last as it ended.

        Raises:
            NotFound: There is none of this name, or it was deleted meanwhile.
        """
        last = None
        while (now := await self.get(name)).state == Comparison.STATE_RUNNING:
            if now.progress != last:
                last = now.progress
                yield now
            await asyncio.sleep(_POLL_S)
        yield now

    async def list(self, page_size: int, page_token: str) -> tuple[list[Comparison], str]:
        """A page of them without their reports, newest first, and the next page's token."""
        return await asyncio.to_thread(self._store.comparisons.list, page_size, page_token)

    async def delete(self, name: str) -> None:
        """Removes a comparison; one that is worked on is given up.

        Raises:
            NotFound: There is none of this name.
        """
        job = self._jobs.get(name)
        try:
            if job is not None:
                await job.give_up()
            await asyncio.to_thread(self._store.comparisons.delete, name)
        finally:
            # Only now: who asked in between would have begun it anew.
            self._jobs.pop(name, None)

    async def take_up(self) -> None:
        """Goes on with what an earlier process left unfinished."""
        token = ""
        while True:
            shown, token = await self.list(1000, token)
            for found in shown:
                if found.state == Comparison.STATE_RUNNING:
                    with suppress(NotFound):  # deleted meanwhile
                        await self.get(found.name)
            if not token:
                return

    async def close(self) -> None:
        """Stops all work; what is unfinished stays written down, to be taken up again."""
        await asyncio.gather(*(job.give_up() for job in self._jobs.values()))

    def _unfinished(self) -> int:
        return len(self._jobs) + self._starting

    def _job(self, begun: Comparison) -> Job:
        """The work on a comparison, begun unless it was already."""
        job = self._jobs.get(begun.name)
        if job is None:
            job = self._jobs[begun.name] = Job(begun)
            job.task = asyncio.create_task(self._work(job))
        return job

    async def _work(self, job: Job) -> None:
        outcome = "given_up"
        try:
            done = await self._ended(job)
            while not job.given_up and not await self._kept(done):
                with job.idle():
                    await asyncio.sleep(_KEEP_AGAIN_S)
            if not job.given_up:
                outcome = "done" if done.state == Comparison.STATE_DONE else "failed"
        except GivenUpError:
            pass
        finally:
            self._metrics.ended.labels(outcome).inc()
            if not job.given_up:
                del self._jobs[job.comparison.name]

    async def _ended(self, job: Job) -> Comparison:
        """The comparison with its report or its error, when its turn has come."""
        done = Comparison()
        done.CopyFrom(job.comparison)
        with job.idle():
            await self._turn.acquire()
        start, self._working = perf_counter(), job
        try:
            done.report.CopyFrom(await asyncio.to_thread(self._report, job))
            done.state = Comparison.STATE_DONE
        except GivenUpError:
            raise
        except Exception as problem:  # noqa: BLE001 - whatever it was, the caller must hear
            if not isinstance(problem, LaviseError):
                _log.exception("a comparison failed unforeseen", extra={"comparison": done.name})
            done.error.CopyFrom(status_of(problem))
            done.state = Comparison.STATE_FAILED
        finally:
            self._working = None
            self._metrics.seconds.observe(perf_counter() - start)
            self._turn.release()
        done.ClearField("progress")
        return done

    async def _kept(self, done: Comparison) -> bool:
        """Writes a comparison down, unless it was deleted; whether that need not be repeated."""
        try:
            await asyncio.to_thread(self._store.comparisons.get, done.name)
            await asyncio.to_thread(self._store.comparisons.put, done)
        except NotFound:
            pass
        except LaviseError as problem:
            _log.warning(
                "a comparison cannot be kept; it is tried again",
                extra={"comparison": done.name, "reason": problem.message},
            )
            return False
        return True

    def _report(self, job: Job) -> Report:
        """The work itself, in a thread."""
        asked = job.comparison.request
        job.move("reading", 0)
        sides = []
        profiles = []
        for name in (asked.image_set_a, asked.image_set_b):
            image_set = self._store.get_set(name)
            profiles.append(profile_of(self._store.profile_table(name)))
            sides.append(
                Side(
                    name=name,
                    display_name=image_set.display_name or name.partition("/")[2],
                    image_count=image_set.image_count,
                    rejected_count=image_set.rejected_count,
                )
            )
        report = compare(
            *profiles,
            alpha=asked.alpha,
            seed=asked.seed,
            permutations=asked.permutations,
            track=job.track,
        )
        report.a.CopyFrom(sides[0])
        report.b.CopyFrom(sides[1])
        return report


def _filled_in(request: CompareRequest) -> CompareRequest:
    filled = CompareRequest()
    filled.CopyFrom(request)
    if not filled.HasField("alpha"):
        filled.alpha = DEFAULT_ALPHA
    if not filled.permutations:
        filled.permutations = DEFAULT_PERMUTATIONS
    return filled
