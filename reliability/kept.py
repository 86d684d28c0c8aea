"""What the store holds after the load, against what was answered and what is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lavise.bias import compare
from lavise.errors import LaviseError
from lavise.profile import profile_of
from lavise.v1 import bias_pb2
from reliability.truth import wrong_profile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.profile import Profile
    from lavise_service.companion.store import Store
    from reliability.records import Call
    from reliability.truth import Truth


def look_into(store: Store, calls: Sequence[Call], truth: Truth) -> dict[str, Any]:
    """Reads everything that was reported ready or done, and all else that says it is.

    A comparison is made again, in this process, from the profiles as they are kept: its seed makes
    it repeatable, so the reports must be equal.

    Returns:
        How many sets and comparisons were accepted and found, and what is wrong with which.
    """
    accepted = {call.made for call in calls if call.made.startswith("imageSets/")}
    made = {call.made for call in calls if call.made.startswith("comparisons/")}
    profiles: dict[str, Profile] = {}
    wrong: list[str] = []
    for name in accepted | _ready(store):
        try:
            profile = profile_of(store.profile_table(name))
        except LaviseError as problem:
            wrong.append(f"{name}: {problem.message}")
            continue
        variant = name.rpartition("-v")[2]
        if said := wrong_profile(profile, int(variant), truth):
            wrong.append(f"{name}: {said}")
        profiles[name] = profile
    for name in made | _done(store):
        try:
            found = store.comparisons.get(name)
        except LaviseError as problem:
            wrong.append(f"{name}: {problem.message}")
            continue
        if said := _wrong_comparison(found, profiles):
            wrong.append(f"{name}: {said}")
    return {
        "accepted_sets": len(accepted),
        "ready_sets": len(profiles),
        "lost_sets": len(accepted - profiles.keys()),
        "answered_comparisons": len(made),
        "done_comparisons": len(_done(store)),
        "wrong": sorted(wrong),
    }


def _wrong_comparison(found: bias_pb2.Comparison, profiles: dict[str, Profile]) -> str:
    if found.state != bias_pb2.Comparison.STATE_DONE:
        return f"state {found.state}"
    asked = found.request
    again = compare(
        profiles[asked.image_set_a],
        profiles[asked.image_set_b],
        alpha=asked.alpha,
        seed=asked.seed,
        permutations=asked.permutations,
    )
    again.a.CopyFrom(found.report.a)
    again.b.CopyFrom(found.report.b)
    return "" if again == found.report else "another report"


def _ready(store: Store) -> set[str]:
    return {
        one.name for one in _pages(store.list_sets) if one.state == bias_pb2.ImageSet.STATE_READY
    }


def _done(store: Store) -> set[str]:
    comparisons = _pages(store.comparisons.list)
    return {one.name for one in comparisons if one.state == bias_pb2.Comparison.STATE_DONE}


def _pages(list_page: Any) -> list[Any]:  # noqa: ANN401 - of sets or of comparisons
    found, token = [], ""
    while True:
        page, token = list_page(1000, token)
        found += page
        if not token:
            return found
