"""Heat maps of a page: as many as there is time for."""

import asyncio
import base64
from typing import Any

import pytest

from lavise.v1.bias_pb2 import Example, FilterDifference, Report
from lavise_service.companion import pages
from lavise_service.companion.problems import DeadlineExceeded

MAP = {"height": 1, "width": 1, "values": base64.b64encode(b"\x07").decode()}


class SlowUpstream:
    """Takes 0.2 s for each answer."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def explain(
        self,
        images: list[bytes],
        request: dict[str, Any],
        *,
        timeout: float,  # noqa: ASYNC109
        in_turn: bool,
    ) -> dict[str, Any]:
        assert in_turn
        if timeout < 0.2:
            await asyncio.sleep(max(0.0, timeout))
            raise DeadlineExceeded("too late")
        await asyncio.sleep(0.2)
        self.sent += images
        filters = [{"index": index, "heatmap": MAP} for index in request["filters"]["indices"]]
        return {"bundleDigest": "", "images": [{"filters": filters} for _ in images]}


def test_a_busy_worker_makes_a_page_with_fewer_heat_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_HEATMAPS_S", 0.5)
    monkeypatch.setattr(pages, "_IMAGES_AT_ONCE", 1)
    shown = [FilterDifference(index=i, examples_a=[Example(index=i)]) for i in range(8)]
    pictures = {("a", index): b"" for index in range(8)}
    upstream: Any = SlowUpstream()
    found = asyncio.run(pages._heatmaps(Report(filters=shown), pictures, upstream))
    assert len(found) == 2
    assert {heatmap.item() for heatmap in found.values()} == {7}


def test_an_image_that_several_filters_show_is_sent_once() -> None:
    shown = [
        FilterDifference(index=i, examples_a=[Example(index=0), Example(index=i + 1)])
        for i in (5, 3)
    ]
    pictures = {("a", index): bytes([index]) for index in (0, 4, 6)}
    upstream: Any = SlowUpstream()
    found = asyncio.run(pages._heatmaps(Report(filters=shown), pictures, upstream))
    assert sorted(found) == [("a", 0, 3), ("a", 0, 5), ("a", 4, 3), ("a", 6, 5)]
    assert sorted(upstream.sent) == [b"\x00", b"\x04", b"\x06"]
