import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lavise.teach.datasets import DemoDataset, FolderDataset, UnlabelledDataset
from lavise.teach.fingerprint import fingerprint
from tests.tiny_cnn import picture


@dataclass
class Holds:
    """A dataset of any state."""

    state: Any
    spec: str = "x"


def digest(state: Any) -> str:
    return fingerprint(Holds(state))  # type: ignore[arg-type]


def write(file: Path, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture((200, 10, 10), seed).save(file)


def test_the_same_is_the_same() -> None:
    assert fingerprint(DemoDataset(0)) == fingerprint(DemoDataset(0))


def test_each_field_counts() -> None:
    several = [
        DemoDataset(0),
        DemoDataset(1),
        DemoDataset(0, n_scenes=10),
        DemoDataset(0, split="held-out"),
        DemoDataset(0, styles=("noto",)),
    ]
    assert len({fingerprint(one) for one in several}) == len(several)


def test_a_changed_image_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "a.png")
    write(tmp_path / "cat" / "b.png", 1)
    seen = {fingerprint(FolderDataset(tmp_path))}
    assert fingerprint(FolderDataset(tmp_path)) in seen

    file = tmp_path / "cat" / "a.png"
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    seen.add(fingerprint(FolderDataset(tmp_path)))
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    seen.add(fingerprint(FolderDataset(tmp_path)))
    write(tmp_path / "cat" / "c.png", 2)
    seen.add(fingerprint(FolderDataset(tmp_path)))
    (tmp_path / "cat").rename(tmp_path / "dog")
    seen.add(fingerprint(FolderDataset(tmp_path)))
    assert len(seen) == 5


def test_another_folder_of_the_same_images(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name / "a.png")
    one, two = (UnlabelledDataset(tmp_path / name) for name in ("one", "two"))
    assert fingerprint(one) != fingerprint(two)


def test_all_files_below_a_folder_count(tmp_path: Path) -> None:
    """What names its images by file name alone holds no path to each."""
    write(tmp_path / "images" / "2014" / "a.png")
    before = digest(tmp_path / "images")
    write(tmp_path / "images" / "2014" / "a.png", 1)
    changed = digest(tmp_path / "images")
    assert before != changed
    assert changed == digest(tmp_path / "images")


def test_what_is_not_there(tmp_path: Path) -> None:
    assert digest(tmp_path / "no") != digest(tmp_path / "not")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((1, 2), ("1", "2")),
        ((1,), (1.0,)),
        (((1,), 2), ((1, 2),)),
        ([], ()),
        ({"a": 1}, {"a": 2}),
        (np.zeros(4, dtype=np.int32), np.zeros(2, dtype=np.int64)),
        (np.zeros((2, 2)), np.zeros(4)),
        (np.arange(3), np.arange(3)[::-1]),
        (frozenset({"a"}), frozenset({"b"})),
        (None, ""),
    ],
)
def test_no_two_states_look_alike(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_sets_have_no_order() -> None:
    assert digest({"a", "b", "c"}) == digest({"c", "a", "b"})


@pytest.mark.parametrize("state", [iter(()), len, lambda: 0])
def test_state_that_cannot_be_read(state: Any) -> None:
    with pytest.raises(TypeError, match="no state"):
        digest(state)


def test_state_without_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(TypeError, match="holds itself"):
        digest(endless)
