import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lavise.errors import RequestError
from lavise.profile import (
    Profile,
    fingerprint,
    profile_of,
    profile_of_answer,
    profile_schema,
    profile_table,
)
from tests.profiles import make_profile

NAMES = (("word1",), ("word2", "word0"), ())


def assert_same(one: Profile, other: Profile) -> None:
    for field in dataclasses.fields(Profile):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


@pytest.mark.parametrize("n", [0, 1, 9])
@pytest.mark.parametrize("catalog", [True, False])
@pytest.mark.parametrize("thumbnails", [True, False])
def test_a_profile_survives_parquet(
    n: int, *, catalog: bool, thumbnails: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(n)
    profile = make_profile(
        rng.random((n, 4)),
        rng.random((n, 3)),
        qualified=rng.random((n, 3)) > 0.5 if catalog else None,
        filter_words=NAMES if catalog else (),
        thumbnails=thumbnails,
    )
    pq.write_table(profile_table(profile), tmp_path / "profile.parquet")
    assert_same(profile_of(pq.read_table(tmp_path / "profile.parquet")), profile)


def test_parts_concatenate() -> None:
    whole = make_profile(thumbnails=True)
    table = profile_table(whole)
    parts = [profile_table(profile_of(table.slice(start, 2))) for start in (0, 2, 4)]
    assert_same(profile_of(pa.concat_tables(parts)), whole)


def test_another_table_is_refused() -> None:
    with pytest.raises(RequestError, match="no profile"):
        profile_of(pa.table({"x": [1]}))
    with pytest.raises(RequestError, match="no profile"):
        profile_of(profile_table(make_profile()).drop_columns(["activation"]))


def test_fingerprints_are_of_pixels() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert fingerprint(image) == fingerprint(image.copy())
    assert fingerprint(image) == fingerprint(image[::-1][::-1])
    assert fingerprint(image) != fingerprint(image[::-1])
    assert len(fingerprint(image)) == 16


def test_an_answer_of_another_bundle_is_refused() -> None:
    answer = {"bundleDigest": "b", "layer": "l", "words": ["x"], "images": [], "filters": []}
    schema = profile_schema(answer)
    with pytest.raises(RequestError, match="another bundle"):
        profile_of_answer(answer | {"bundleDigest": "c"}, schema, [], [])
