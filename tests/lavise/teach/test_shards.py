from pathlib import Path

import numpy as np
import pytest

from lavise.teach.shards import ShardedRows, find_shard, write_shard


def part(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    return {
        "x": rng.normal(size=(n, 3)).astype(np.float32),
        "half": rng.normal(size=(n, 2)).astype(np.float16),
        "label": rng.integers(0, 9, n).astype(np.int32),
    }


def test_rows_over_all_parts(tmp_path: Path) -> None:
    """By slices, by positions in any order, by a mask; a part may be empty."""
    rng = np.random.default_rng(0)
    parts = [part(rng, n) for n in (4, 0, 7, 1)]
    for number, arrays in enumerate(parts):
        write_shard(tmp_path, number, arrays)
    shards = [find_shard(tmp_path, number) for number in range(len(parts))]
    for name in parts[0]:
        whole = np.concatenate([arrays[name] for arrays in parts])
        rows = ShardedRows([shard.stored(name) for shard in shards if shard is not None])
        assert rows.shape == whole.shape
        assert len(rows) == 12
        assert rows.dtype == whole.dtype
        for key in (slice(None), slice(3, 9), slice(0, 0), slice(1, 99, 5)):
            np.testing.assert_array_equal(rows[key], whole[key])
        some = np.array([11, 0, 5, 5, 3])
        np.testing.assert_array_equal(rows[some], whole[some])
        mask = rng.random(12) < 0.5
        np.testing.assert_array_equal(rows[mask], whole[mask])


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    """No map stays open on a file: memory is what was asked for."""
    write_shard(tmp_path, 0, part(np.random.default_rng(0), 5))
    shard = find_shard(tmp_path, 0)
    assert shard is not None
    read = ShardedRows([shard.stored("x")])[1:4]
    assert read.flags.owndata
    assert not isinstance(read, np.memmap)
    assert type(shard.array("x")) is np.ndarray


@pytest.mark.parametrize("at", [3, 60, -1])
def test_a_damaged_part_is_not_there(at: int, tmp_path: Path) -> None:
    file = write_shard(tmp_path, 2, part(np.random.default_rng(0), 5))
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert find_shard(tmp_path, 2) is None
    assert not file.exists()


@pytest.mark.parametrize("kept", [0, 7, 100])
def test_a_part_cut_short_is_not_there(kept: int, tmp_path: Path) -> None:
    file = write_shard(tmp_path, 2, part(np.random.default_rng(0), 5))
    file.write_bytes(file.read_bytes()[:kept])
    assert find_shard(tmp_path, 2) is None


def test_nothing_but_whole_parts_is_left(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, part(np.random.default_rng(0), 5))
    write_shard(tmp_path, 0, part(np.random.default_rng(0), 5))
    assert len(list(tmp_path.iterdir())) == 1
    assert find_shard(tmp_path, 1) is None
