"""Reports as pages: the example images of the sets, with heat maps that TorchServe draws anew."""

import asyncio
import base64
import logging
from time import monotonic
from typing import Any, Final

import numpy as np

from lavise.errors import LaviseError
from lavise.report import render_report, wanted_pictures
from lavise.v1.bias_pb2 import Comparison, Report
from lavise_service.companion.problems import NotReady
from lavise_service.companion.store import Store
from lavise_service.companion.upstream import Upstream

_HEATMAPS_S: Final = 10.0
"""For all heat maps of a page: a busy worker makes them fewer, and the page not late."""
_IMAGES_AT_ONCE: Final = 8
_log = logging.getLogger(__name__)
Picture = tuple[str, int]


async def report_page(comparison: Comparison, store: Store, upstream: Upstream) -> str:
    """The page of a comparison.

    Args:
        comparison: With its report.
        store: Has the small images, where they were to be kept and the sets are still there.
        upstream: Draws the heat maps; without it, or with another bundle, the page has none.

    Returns:
        HTML.

    Raises:
        NotReady: The comparison is still worked on, or has failed.
    """
    if comparison.state != Comparison.STATE_DONE:
        said = comparison.error.message or "it is still worked on"
        raise NotReady(f"{comparison.name} has no report: {said}", field="name")
    report = comparison.report
    pictures = await asyncio.to_thread(_pictures, report, store)
    heatmaps = await _heatmaps(report, pictures, upstream)
    return await asyncio.to_thread(render_report, report, pictures, heatmaps)


def _pictures(report: Report, store: Store) -> dict[Picture, bytes]:
    found: dict[Picture, bytes] = {}
    for side, name in (("a", report.a.name), ("b", report.b.name)):
        wanted = {one.index for one in wanted_pictures(report) if one.side == side}
        try:
            thumbnails = store.thumbnails(name, wanted)
        except LaviseError:  # deleted or expired since
            continue
        found |= {(side, index): image for index, image in thumbnails.items()}
    return found


async def _heatmaps(
    report: Report, pictures: dict[Picture, bytes], upstream: Upstream
) -> dict[tuple[str, int, int], np.ndarray]:
    """By side, image and filter; images that several filters share are sent once."""
    wanted = [
        (one.side, one.index, one.filter)
        for one in wanted_pictures(report)
        if one.filter is not None and (one.side, one.index) in pictures
    ]
    shown = list(dict.fromkeys((side, index) for side, index, _ in wanted))
    asked = {
        "layer": report.layer,
        "filters": {"indices": sorted({index for *_, index in wanted})},
        "topK": 1,
        "heatmaps": True,
    }
    found: dict[tuple[str, int, int], np.ndarray] = {}
    ends = monotonic() + _HEATMAPS_S
    for start in range(0, len(shown), _IMAGES_AT_ONCE):
        some = shown[start : start + _IMAGES_AT_ONCE]
        try:
            answer = await upstream.explain(
                [pictures[one] for one in some], asked, timeout=ends - monotonic(), in_turn=True
            )
        except LaviseError as problem:
            _log.warning("a report lacks heat maps", extra={"reason": problem.message})
            break
        if answer["bundleDigest"] != report.bundle_digest:
            break
        for one, image in zip(some, answer["images"], strict=True):
            found |= {(*one, each["index"]): _array(each["heatmap"]) for each in image["filters"]}
    return {one: found[one] for one in wanted if one in found}


def _array(heatmap: dict[str, Any]) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(heatmap["values"]), dtype=np.uint8)
    return values.reshape(heatmap["height"], heatmap["width"])
