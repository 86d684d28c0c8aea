"""Compares two image sets in words: profiles in, a report out.

Words first: the mean difference of word scores finds what differs, where a filter's statistic and
its words do not (docs/method.md). Filters come with it, with the paper's own measure, the rates of
qualified images. Both families share the level: alpha / 2 for any false word, alpha / 2 for the
filters, so that a report of two sets that do not differ is empty but for alpha of the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from threadpoolctl import threadpool_limits

from lavise.errors import RequestError
from lavise.filter_tests import FilterTests, compare_activations, rate_difference
from lavise.permutation import MaxT, max_t
from lavise.progress import Track, silent
from lavise.v1 import bias_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lavise.profile import Profile

DEFAULT_ALPHA: Final = 0.05
DEFAULT_PERMUTATIONS: Final = 1000
LOW_POWER: Final = 100
"""Images of a set under which differences are easily missed (docs/method.md)."""
_ALPHAS: Final = (0.0001, 0.5)
_PERMUTATIONS: Final = (100, 100_000)
_WORDS: Final = 200
_FILTERS: Final = 200
_FINDINGS: Final = 20
_ALIKE: Final = 0.6
"""Correlation over images from which two words are one finding."""
_WORD_EXAMPLES: Final = 3
_FILTER_EXAMPLES: Final = 4
_NAMES_OF_FILTER: Final = 3
_DUPLICATES: Final = 100
_WORTH_THREADS: Final = 10**10
"""Multiplications that take one core some tenths of a second."""


def compare(
    a: Profile,
    b: Profile,
    *,
    alpha: float = DEFAULT_ALPHA,
    seed: int = 0,
    permutations: int = DEFAULT_PERMUTATIONS,
    track: Track = silent,
) -> bias_pb2.Report:
    """Compares two profiles.

    While a small comparison lasts, BLAS has one thread in the whole process.

    Args:
        a: At least two images.
        b: Likewise, from the same bundle and layer.
        alpha: Chance of one or more false findings.
        seed: Of the permutations; the same seed gives the same report.
        permutations: How many.
        track: Shows progress; what it raises ends the comparison.

    Returns:
        The report; names of the sets, and the counts of rejected images, are the caller's to
        fill in.

    Raises:
        RequestError: The profiles cannot be compared, or an option is out of range.
    """
    check_comparison(alpha, permutations, seed)
    _check_alike(a, b)
    products = permutations * (len(a) + len(b)) * len(a.schema.words)
    # In a server other work needs the cores, and BLAS keeps its threads spinning between products.
    with threadpool_limits(1 if products < _WORTH_THREADS else None, "blas"):
        return _compared(a, b, alpha, seed, permutations, track)


def _compared(
    a: Profile, b: Profile, alpha: float, seed: int, permutations: int, track: Track
) -> bias_pb2.Report:
    words = max_t(
        a.word_scores,
        b.word_scores,
        level=alpha / 2,
        permutations=permutations,
        seed=seed,
        track=track,
    )
    filters = compare_activations(a, b, track=track)
    strongest = np.argsort(-np.abs(words.difference), kind="stable")[:_WORDS]
    groups = list(_groups(a, b, words, strongest))
    report = bias_pb2.Report(
        a=bias_pb2.Side(image_count=len(a)),
        b=bias_pb2.Side(image_count=len(b)),
        layer=a.schema.layer,
        bundle_digest=a.schema.bundle_digest,
        alpha=alpha,
        seed=seed,
        permutations=permutations,
        significant_words=int(words.significant.sum()),
        significant_filters=int((filters.q_value <= alpha / 2).sum()),
    )
    pairs = list(_duplicates(a, b))
    report.duplicate_count = len(pairs)
    for source_a, source_b in pairs[:_DUPLICATES]:
        report.duplicates.add(source_a=source_a, source_b=source_b)
    report.caveats.extend(_caveats(a, b, len(pairs)))
    named = _filters_by_word(a)
    for group in groups:
        report.findings.append(_finding(a, words, filters, group, named, alpha))
    report.words.extend(_word_differences(a, b, words, strongest, named))
    order = np.lexsort((-np.abs(filters.auroc - 0.5), filters.p_value))[:_FILTERS]
    report.filters.extend(_filter_differences(a, b, filters, order, alpha))
    return report


def check_comparison(alpha: float, permutations: int, seed: int) -> None:
    """Checks options before any work.

    Args:
        alpha: See compare().
        permutations: See compare().
        seed: See compare().

    Raises:
        RequestError: One is out of range, or there are too few permutations for the level.
    """
    low, high = _ALPHAS
    if not low <= alpha <= high:
        raise RequestError(f"alpha is {alpha}; accepted: {low} to {high}", field="alpha")
    fewest, most = _PERMUTATIONS
    if not fewest <= permutations <= most:
        raise RequestError(
            f"permutations is {permutations}; accepted: {fewest} to {most}", field="permutations"
        )
    if seed < 0:
        raise RequestError(f"seed is {seed}; accepted: 0 and more", field="seed")
    if alpha / 2 * (permutations + 1) < 1:
        raise RequestError(
            f"{permutations} permutations cannot tell at alpha {alpha:g}; accepted: at least "
            f"{int(np.ceil(2 / alpha)) - 1}",
            field="permutations",
        )


def qualified_rates(a: Profile, b: Profile) -> dict[str, tuple[float, float]]:
    """The paper's own study: for each word, which share of each group's images qualifies for it.

    Yang et al., CVPR 2022, section 5: an image qualifies for a word when it is qualified for a
    filter that the word describes.

    Args:
        a: One group.
        b: The other, of the same schema.

    Returns:
        Word to (share of a, share of b); empty without a catalog.
    """
    named = _filters_by_word(a)
    return {word: _rates(a, b, filters) for word, filters in named.items()}


def _check_alike(a: Profile, b: Profile) -> None:
    for name, one in (("image_set_a", a), ("image_set_b", b)):
        if len(one) < 2:
            raise RequestError(
                f"{name} has {len(one)} images that could be read; accepted: at least 2",
                field=name,
            )
    if a.schema.bundle_digest != b.schema.bundle_digest:
        raise RequestError(
            "the two image sets were profiled by different bundles "
            f"({a.schema.bundle_digest[:12]} and {b.schema.bundle_digest[:12]}), and their numbers "
            "do not compare: upload the older one again",
            field="image_set_b",
        )
    if a.schema.layer != b.schema.layer:
        raise RequestError(
            f"image_set_a was profiled on layer {a.schema.layer!r} and image_set_b on "
            f"{b.schema.layer!r}: upload one of them again with the layer of the other",
            field="image_set_b",
        )


def _caveats(a: Profile, b: Profile, duplicates: int) -> Iterator[str]:
    fewest = min(len(a), len(b))
    if fewest < LOW_POWER:
        yield (
            f"The smaller set has {fewest} images. Under {LOW_POWER} the power is low: read the "
            "ranking as hints, and what is missing as unknown rather than equal."
        )
    if duplicates:
        yield (
            f"{duplicates} image{'s' * (duplicates != 1)} of A {'are' if duplicates != 1 else 'is'}"
            " in B as well, which makes the sets look more alike than they are."
        )
    for name, one in (("A", a), ("B", b)):
        repeated = len(one) - len(set(one.fingerprints))
        if repeated:
            yield (
                f"{repeated} of the {len(one)} images of {name} repeat another one of {name}: "
                "p-values take images for independent, and are too small then."
            )
    if not a.schema.filter_words:
        yield (
            "The layer has no catalog: filters have neither words nor rates of qualified images. "
            "Make one with `lavise catalog`."
        )


def _duplicates(a: Profile, b: Profile) -> Iterator[tuple[str, str]]:
    """Names of the images of a that b holds as well."""
    in_b = dict(zip(b.fingerprints, b.sources, strict=True))
    for print_a, source in zip(a.fingerprints, a.sources, strict=True):
        if print_a in in_b:
            yield source, in_b[print_a]


def _groups(a: Profile, b: Profile, words: MaxT, strongest: np.ndarray) -> Iterator[list[int]]:
    """Words that come and go together, the strongest first; strongest group first."""
    scores = np.concatenate([a.word_scores[:, strongest], b.word_scores[:, strongest]])
    scores = scores.astype(np.float64)
    scores -= scores.mean(axis=0)
    norm = np.linalg.norm(scores, axis=0)
    alike = scores.T @ scores / np.maximum(np.outer(norm, norm), 1e-30)  # (m, m)
    sign = np.sign(words.difference[strongest])
    free = np.abs(words.difference[strongest]) > 0
    for _ in range(_FINDINGS):
        if not free.any():
            return
        first = int(np.argmax(free))
        members = free & (alike[first] >= _ALIKE) & (sign == sign[first])
        members[first] = True
        if not words.significant[strongest[first]]:
            members[:] = False
            members[first] = True
        free &= ~members
        yield strongest[members].tolist()


def _filters_by_word(profile: Profile) -> dict[str, list[int]]:
    """The described filters of each word."""
    named: dict[str, list[int]] = {}
    schema = profile.schema
    for index, (names, verdict) in enumerate(
        zip(schema.filter_words, schema.verdicts, strict=True)
    ):
        if verdict == "described":
            for word in names[:_NAMES_OF_FILTER]:
                named.setdefault(word, []).append(index)
    return named


def _rates(a: Profile, b: Profile, filters: Sequence[int]) -> tuple[float, float]:
    """Share of the images of each side that are qualified for any of some filters."""
    assert a.qualified is not None  # noqa: S101 - a catalog names the filters
    assert b.qualified is not None  # noqa: S101 - likewise
    return (
        float(a.qualified[:, filters].any(axis=1).mean()),
        float(b.qualified[:, filters].any(axis=1).mean()),
    )


def _finding(
    a: Profile,
    words: MaxT,
    filters: FilterTests,
    group: list[int],
    named: dict[str, list[int]],
    alpha: float,
) -> bias_pb2.Finding:
    first = group[0]
    names = [a.schema.words[word] for word in group]
    difference = float(words.difference[first])
    shared = {
        index
        for name in names
        for index in named.get(name, ())
        if filters.q_value[index] <= alpha / 2 and (filters.auroc[index] > 0.5) == (difference > 0)
    }
    return bias_pb2.Finding(
        words=names,
        filters=sorted(shared, key=lambda index: float(filters.p_value[index])),
        difference=difference,
        p_value=float(words.p_value[first]),
        significant=bool(words.significant[first]),
    )


def _word_differences(
    a: Profile, b: Profile, words: MaxT, order: np.ndarray, named: dict[str, list[int]]
) -> Iterator[bias_pb2.WordDifference]:
    scores_a, scores_b = (one.word_scores[:, order].astype(np.float64) for one in (a, b))
    means = zip(scores_a.mean(axis=0).tolist(), scores_b.mean(axis=0).tolist(), strict=True)
    examples = zip(
        _examples(a, scores_a, _WORD_EXAMPLES), _examples(b, scores_b, _WORD_EXAMPLES), strict=True
    )
    for word, (mean_a, mean_b), (examples_a, examples_b) in zip(
        order.tolist(), means, examples, strict=True
    ):
        difference = float(words.difference[word])
        name = a.schema.words[word]
        found = bias_pb2.WordDifference(
            word=name,
            layer=a.schema.layer,
            mean_a=mean_a,
            mean_b=mean_b,
            difference=difference,
            low=difference - words.critical,
            high=difference + words.critical,
            p_value=float(words.p_value[word]),
            significant=bool(words.significant[word]),
            n_a=len(a),
            n_b=len(b),
            examples_a=examples_a,
            examples_b=examples_b,
        )
        if name in named:
            found.qualified_a, found.qualified_b = _rates(a, b, named[name])
        yield found


def _filter_differences(
    a: Profile, b: Profile, filters: FilterTests, order: np.ndarray, alpha: float
) -> Iterator[bias_pb2.FilterDifference]:
    rates = None
    if a.qualified is not None and b.qualified is not None:
        hits_a, hits_b = a.qualified[:, order].sum(axis=0), b.qualified[:, order].sum(axis=0)
        rates = rate_difference(hits_a, len(a), hits_b, len(b))
    examples_a = _examples(a, a.activation[:, order], _FILTER_EXAMPLES)
    examples_b = _examples(b, b.activation[:, order], _FILTER_EXAMPLES)
    for row, index in enumerate(order.tolist()):
        found = bias_pb2.FilterDifference(
            layer=a.schema.layer,
            index=index,
            auroc=float(filters.auroc[index]),
            q_value=float(filters.q_value[index]),
            significant=bool(filters.q_value[index] <= alpha / 2),
            n_a=len(a),
            n_b=len(b),
            examples_a=examples_a[row],
            examples_b=examples_b[row],
        )
        if rates is not None:
            found.rate_a, found.rate_b = hits_a[row] / len(a), hits_b[row] / len(b)
            found.difference, found.low, found.high = (float(one[row]) for one in rates)
        if a.schema.filter_words:
            names = a.schema.filter_words[index]
            found.catalog_words.extend(names)
            found.verdict = a.schema.verdicts[index]
        yield found


def _examples(profile: Profile, values: np.ndarray, count: int) -> list[list[bias_pb2.Example]]:
    """For each column of (n, m) values the images with the greatest ones, best first."""
    best = np.argpartition(-values, min(count, len(values)) - 1, axis=0)[:count]
    order = np.argsort(-np.take_along_axis(values, best, axis=0), axis=0, kind="stable")
    best = np.take_along_axis(best, order, axis=0)  # (count, m)
    value = np.take_along_axis(values, best, axis=0)
    index = profile.index[best]
    return [
        [
            bias_pb2.Example(source=profile.sources[i], index=place, value=found)
            for i, place, found in zip(*column, strict=True)
        ]
        for column in zip(best.T.tolist(), index.T.tolist(), value.T.tolist(), strict=True)
    ]
