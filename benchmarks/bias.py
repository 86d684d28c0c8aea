"""Rows on comparisons: what they find, what they must not find, and what they cost.

Scenes come from the split ``held-out`` of seeds that neither teaching nor the choice of the method
has seen; a scene is composed of four categories, so that sets differ in nothing but the planted
object. For each target a pool of scenes with it, and one pool without any target; a draw takes a
sample of them without putting back.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.harness import Row, at_least, at_most
from benchmarks.material import bundle
from benchmarks.peak import peak_mb
from lavise.bias import compare
from lavise.demo.scenes import categories, compose_scene
from lavise.explainer import Explainer
from lavise.image_set import ImageSet
from lavise.profile import Profile, ProfileSchema
from lavise.profiling import profile_images

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.harness import Bench

_SEED: Final = 4
_TARGETS: Final = 4
_DRAWS: Final = 20
_WITH, _WITHOUT = 100, 900
_SHARE_A, _SHARE_B = 0.4, 0.05
_TOP: Final = 3
_SAME_DRAWS: Final = 100
_SAME_IMAGES: Final = 200
_LARGE: Final = (10_000, 1280, 1748)


@cache
def _pools() -> dict[str, Profile]:
    """Profiles of scenes with each target, and, under "", of scenes without any."""
    rng = np.random.default_rng(_SEED)
    targets = rng.choice(categories(), _TARGETS, replace=False).tolist()
    others = [name for name in categories() if name not in targets]

    def scene(target: str) -> np.ndarray:
        while True:
            four = rng.choice(others, 4, replace=False).tolist()
            found = compose_scene(rng, categories=[target, *four[1:]] if target else four)
            # Both kinds are kept so that scenes of many objects are equally common.
            kept = (
                any(one.category == target for one in found.objects)
                if target
                else rng.random() < len(found.objects) / 4
            )
            if kept:
                return found.image

    explainer = Explainer(bundle())
    pools = {}
    for target in ("", *targets):
        images = [scene(target) for _ in range(_WITH if target else _WITHOUT)]
        names = [f"{target or 'none'} {i}" for i in range(len(images))]
        pools[target] = profile_images(explainer, ImageSet(target, names, images.__getitem__))
    return pools


def _rows(profile: Profile, chosen: np.ndarray) -> Profile:
    assert profile.qualified is not None, "the bundle was described"
    return replace(
        profile,
        index=profile.index[chosen],
        sources=[profile.sources[i] for i in chosen],
        activation=profile.activation[chosen],
        qualified=profile.qualified[chosen],
        word_scores=profile.word_scores[chosen],
        fingerprints=[profile.fingerprints[i] for i in chosen],
    )


def _together(one: Profile, other: Profile) -> Profile:
    assert one.qualified is not None
    assert other.qualified is not None
    return replace(
        one,
        index=np.arange(len(one) + len(other)),
        sources=[*one.sources, *other.sources],
        activation=np.concatenate([one.activation, other.activation]),
        qualified=np.concatenate([one.qualified, other.qualified]),
        word_scores=np.concatenate([one.word_scores, other.word_scores]),
        fingerprints=[*one.fingerprints, *other.fingerprints],
    )


def _planted(name: str, size: int, bar: float) -> Iterable[Row]:
    pools = _pools()
    in_a, in_b = int(_SHARE_A * size), int(_SHARE_B * size)
    shares, significant = [], 0
    for number, target in enumerate(filter(None, pools)):
        hits = 0
        for draw in range(_DRAWS):
            rng = np.random.default_rng([_SEED, number, draw])
            there, not_there = rng.permutation(_WITH), rng.permutation(_WITHOUT)
            a = _together(
                _rows(pools[target], there[:in_a]), _rows(pools[""], not_there[: size - in_a])
            )
            b = _together(
                _rows(pools[target], there[in_a : in_a + in_b]),
                _rows(pools[""], not_there[size - in_a :][: size - in_b]),
            )
            report = compare(a, b, seed=draw)
            first = [word.word for word in report.words[:_TOP]]
            hits += target in first
            significant += any(w.significant and w.word == target for w in report.words)
        shares.append(hits / _DRAWS)
    total = _DRAWS * len(shares)
    mean = float(np.mean(shares))
    yield replace(
        at_least(
            name,
            shares,
            bar=bar,
            unit=f"of draws with the word in the top {_TOP}",
            baseline=f"{total} draws of {size} images a set; targets "
            f"{', '.join(filter(None, pools))}; significant in {significant} of {total}; the "
            "spread is over targets",
        ),
        value=round(mean, 4),
        ok=mean >= bar,
    )


def planted_200() -> Iterable[Row]:
    """An object in 40 % of A's scenes and 5 % of B's, 200 images a set."""
    return _planted("planted-word-200", 200, 0.95)


def planted_100() -> Iterable[Row]:
    """The same with 100 images a set."""
    return _planted("planted-word-100", 100, 0.75)


def same() -> Iterable[Row]:
    """Two sets of one distribution: how often anything is called significant."""
    pool = _pools()[""]
    words, filters = [], []
    for draw in range(_SAME_DRAWS):
        chosen = np.random.default_rng([_SEED, 99, draw]).permutation(_WITHOUT)
        a = _rows(pool, chosen[:_SAME_IMAGES])
        b = _rows(pool, chosen[_SAME_IMAGES : 2 * _SAME_IMAGES])
        report = compare(a, b, seed=draw)
        words.append(report.significant_words > 0)
        filters.append(report.significant_filters > 0)
    for name, found in (("same-words", words), ("same-filters", filters)):
        fifths = [float(np.mean(part)) for part in np.array_split(found, 5)]
        row = at_most(
            name,
            fifths,
            bar=0.05,
            unit="of draws with anything significant",
            baseline=f"{_SAME_DRAWS} draws of {_SAME_IMAGES} images a set from one pool, alpha "
            "0.05; the spread is over fifths of them",
        )
        mean = float(np.mean(found))
        yield replace(row, value=round(mean, 4), ok=mean <= row.bar)


def large() -> Iterable[Row]:
    """Two profiles of 10,000 images: seconds and memory, each run in a process of its own."""
    runs = [_large_run() for _ in range(7)]
    n, channels, words = _LARGE
    what = f"two profiles of {n:,} images x {channels:,} filters x {words:,} words, 1,000 shuffles"
    yield at_most("compare-10000", [s for s, _ in runs], bar=30, unit="s", baseline=what)
    yield at_most(
        "compare-10000-memory",
        [gib for _, gib in runs],
        bar=2,
        unit="GB at the peak, the profiles among them",
        baseline=what,
    )


def _large_run() -> tuple[float, float]:
    command = [sys.executable, "-c", "from benchmarks.bias import large_once; large_once()"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def large_once() -> None:
    """Prints seconds and peak gigabytes of one large comparison."""
    n, channels, words = _LARGE
    names = tuple(f"word {i}" for i in range(words))
    schema = ProfileSchema(
        "synthetic",
        "layer",
        names,
        channels,
        tuple((names[i % words],) for i in range(channels)),
        ("described",) * channels,
    )

    def draw(seed: int) -> Profile:
        rng = np.random.default_rng(seed)
        activation = np.maximum(rng.standard_normal((n, channels), dtype=np.float32), 0)
        return Profile(
            schema=schema,
            index=np.arange(n),
            sources=[f"{seed}/{i}" for i in range(n)],
            activation=activation,
            qualified=activation > 2.5,
            word_scores=(rng.random((n, words), dtype=np.float32) ** 8).astype(np.float16),
            fingerprints=[rng.bytes(16) for _ in range(n)],
            thumbnails=[],
        )

    a, b = draw(1), draw(2)
    start = time.perf_counter()
    compare(a, b)
    elapsed = time.perf_counter() - start
    print(elapsed, peak_mb() * 2**20 / 1e9)


ROWS: dict[str, Bench] = {
    "planted-word-200": planted_200,
    "planted-word-100": planted_100,
    "same": same,
    "compare-10000": large,
}
