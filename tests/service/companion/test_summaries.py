"""What is remembered of many small files."""

import time
from dataclasses import replace
from pathlib import Path

from lavise_service.companion.settings import Settings
from lavise_service.companion.store import open_store
from lavise_service.companion.summaries import Summaries


def test_files_are_parsed_one_by_one_and_only_once(tmp_path: Path) -> None:
    objects = open_store(Settings(store=str(tmp_path / "store")))._objects
    for n in range(8):
        objects.write(f"comparisons/{n}.json", str(n).encode())
    at_work, most, parsed = 0, 0, 0

    def parse(content: bytes, _: str) -> int:
        nonlocal at_work, most, parsed
        at_work += 1
        most, parsed = max(most, at_work), parsed + 1
        time.sleep(0.01)
        at_work -= 1
        return int(content)

    summaries = Summaries(objects, parse)
    old = [replace(one, modified=one.modified - 60) for one in objects.list("comparisons")]
    assert sorted(summaries.of(old).values()) == list(range(8))
    assert sorted(summaries.of(old).values()) == list(range(8))
    assert (most, parsed) == (1, 8)
