"""The right answers, computed in-process before anything is served, and what differs from them.

Batches of another size change the last digits of a float; beyond that an answer is right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from google.protobuf import json_format

from benchmarks.material import bundle, jpegs
from lavise.explainer import Explainer
from lavise.image_set import ImageSet
from lavise.images import prepare
from lavise.messages import describe_filters, options_from_request, response_dict
from lavise.profiling import profile_images
from lavise.v1.explain_pb2 import (
    DescribeFiltersRequest,
    ExplainRequest,
    ExplainResponse,
    FilterDescription,
    FilterExplanation,
    FilterIndices,
)
from reliability.plan import SET_IMAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.profile import Profile

IMAGES: Final = 64
VARIANTS: Final = IMAGES // SET_IMAGES
WAYS: Final = {
    "default": ExplainRequest(),
    "named": ExplainRequest(filters=FilterIndices(indices=range(0, 1280, 128))),
    "heatmaps": ExplainRequest(most_active=3, top_k=3, heatmaps=True),
}
"""How an image is explained in this load."""
_RELATIVE: Final = 1e-4
_SCORE: Final = 1e-3
_HEAT: Final = 1


@dataclass(frozen=True)
class Truth:
    """What must come back.

    Attributes:
        images: Names and encoded bytes, all different.
        explained: By way of asking, for each image.
        filters: What the catalog says of each.
        profile: Of all images.
    """

    images: list[tuple[str, bytes]]
    explained: dict[str, list[ExplainResponse]]
    filters: dict[int, FilterDescription]
    profile: Profile


def compute() -> Truth:
    """Computes them with the library alone, one image at a time."""
    explainer = Explainer(bundle(), device="cpu")
    images = [(path.name, path.read_bytes()) for path in jpegs(IMAGES)]
    pixels = [prepare(content, explainer.input_size) for _, content in images]
    explained = {}
    for way, request in WAYS.items():
        options = options_from_request(request)
        explained[way] = [
            json_format.ParseDict(
                response_dict(explainer.explain([one], options), ["image"], explainer.digest),
                ExplainResponse(),
            )
            for one in pixels
        ]
    filters: dict[int, FilterDescription] = {}
    page = DescribeFiltersRequest(page_size=1000)
    while True:
        answer = describe_filters(explainer, page)
        filters |= {one.index: one for one in answer.filters}
        if not answer.next_page_token:
            break
        page.page_token = answer.next_page_token
    named = ImageSet("all", [name for name, _ in images], pixels.__getitem__)
    return Truth(images, explained, filters, profile_images(explainer, named))


def members(variant: int) -> range:
    """Which images the sets of a variant have."""
    return range(variant * SET_IMAGES, (variant + 1) * SET_IMAGES)


def wrong_explanation(answer: ExplainResponse, right: ExplainResponse) -> str:
    """What is wrong with an explanation of one image; nothing where it is right."""
    if len(answer.images) != 1 or answer.bundle_digest != right.bundle_digest:
        return "another bundle, or number of images"
    ours, theirs = right.images[0], answer.images[0]
    if [one.label for one in theirs.predictions] != [one.label for one in ours.predictions]:
        return "other predictions"
    probabilities = ([one.probability for one in each.predictions] for each in (theirs, ours))
    if not _close(*probabilities):
        return "other probabilities"
    if [one.index for one in theirs.filters] != [one.index for one in ours.filters]:
        return "other filters"
    for filter_, its in zip(theirs.filters, ours.filters, strict=True):
        if said := _wrong_filter(filter_, its):
            return f"filter {its.index}: {said}"
    return ""


def _wrong_filter(answer: FilterExplanation, right: FilterExplanation) -> str:
    fixed = ("layer", "threshold", "inactive", "verdict", "qualified", "catalog_words")
    if other := [name for name in fixed if getattr(answer, name) != getattr(right, name)]:
        return f"other {other[0]}"
    if not _close([answer.activation], [right.activation]):
        return "another activation"
    if not _same_words(answer, right):
        return "other words"
    ours, theirs = right.heatmap, answer.heatmap
    if (theirs.height, theirs.width) != (ours.height, ours.width):
        return "a heat map of another size"
    heat = (np.frombuffer(one.values, np.uint8).astype(int) for one in (ours, theirs))
    return "" if np.abs(np.subtract(*heat)).max(initial=0) <= _HEAT else "another heat map"


def _same_words(answer: FilterExplanation, right: FilterExplanation) -> bool:
    """Whether the scores are the same, and the words but for those that tie."""
    scores = [one.score for one in right.words]
    if len(answer.words) != len(scores):
        return False
    if np.abs(np.subtract([one.score for one in answer.words], scores)).max(initial=0) > _SCORE:
        return False
    known = {one.word: one.score for one in right.words}
    # A word that is not among the best of both may only tie with the last.
    return all(abs(known.get(one.word, scores[-1]) - one.score) <= _SCORE for one in answer.words)


def wrong_descriptions(
    answer: Sequence[FilterDescription], indices: Sequence[int], truth: Truth
) -> str:
    """What is wrong with a look-up in the catalog, which has no floats to round."""
    if [one.index for one in answer] != list(indices):
        return "other filters"
    return next((f"filter {one.index}" for one in answer if one != truth.filters[one.index]), "")


def wrong_profile(profile: Profile, variant: int, truth: Truth) -> str:
    """What is wrong with the profile of an uploaded set."""
    rows = list(members(variant))
    right = rows_of(truth.profile, rows)
    if profile.schema != right.schema:
        return "another bundle, layer or vocabulary"
    if profile.index.tolist() != list(range(len(rows))) or profile.sources != right.sources:
        return "other images"
    if profile.fingerprints != right.fingerprints:
        return "other pixels"
    assert profile.qualified is not None
    assert right.qualified is not None
    if not np.array_equal(profile.qualified, right.qualified):
        return "other qualified images"
    if not np.allclose(profile.activation, right.activation, rtol=_RELATIVE, atol=1e-5):
        return "other activations"
    scores = np.abs(profile.word_scores.astype(float) - right.word_scores.astype(float))
    return "" if scores.max() <= _SCORE else "other word scores"


def rows_of(profile: Profile, rows: Sequence[int]) -> Profile:
    """Some images of a profile."""
    return replace(
        profile,
        index=profile.index[rows],
        sources=[profile.sources[row] for row in rows],
        activation=profile.activation[rows],
        qualified=None if profile.qualified is None else profile.qualified[rows],
        word_scores=profile.word_scores[rows],
        fingerprints=[profile.fingerprints[row] for row in rows],
    )


def _close(these: Sequence[float], those: Sequence[float]) -> bool:
    return np.allclose(these, those, rtol=_RELATIVE, atol=1e-5)
