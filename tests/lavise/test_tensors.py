from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.tensors import read_tensors, write_tensors
from tests.full_disk import no_file_over


@settings(deadline=None)
@given(
    shapes=st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.integers(0, 5), min_size=1, max_size=3), min_size=1
    )
)
def test_each_array_lies_where_it_is_said_to(
    shapes: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    file = tmp_path_factory.mktemp("t") / "x.safetensors"

    places = write_tensors(file, arrays)

    raw = file.read_bytes()
    assert places.keys() == arrays.keys()
    for name, place in places.items():
        assert place.file == file.name
        held = np.frombuffer(raw[place.offset : place.offset + place.length], dtype="<f4")
        np.testing.assert_array_equal(held.reshape(place.shape), arrays[name])
    for name, array in read_tensors(file).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_other_layouts_and_types_are_converted(tmp_path: Path) -> None:
    turned = np.arange(6.0).reshape(2, 3).T  # float64, not contiguous
    write_tensors(tmp_path / "x.safetensors", {"a": turned})
    [read] = read_tensors(tmp_path / "x.safetensors").values()
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, turned)


def test_others_may_read_the_file(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"a": np.zeros(1)})
    assert (tmp_path / "x.safetensors").stat().st_mode & 0o777 == 0o644


def test_full_disk_is_an_os_error(tmp_path: Path) -> None:
    with no_file_over(1000), pytest.raises(OSError, match=r"x\.safetensors"):
        write_tensors(tmp_path / "x.safetensors", {"a": np.zeros(10_000)})
