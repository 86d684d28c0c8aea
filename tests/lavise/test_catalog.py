import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise import catalog
from lavise.bundle import MANIFEST, Bundle, open_bundle
from lavise.catalog import (
    EXCEEDED,
    LayerStatistics,
    load_mapper,
    load_vocabulary,
    make_catalog,
    stream,
)
from lavise.catalog_table import CatalogTable, read_catalog, write_catalog
from lavise.errors import DatasetError, EnvironmentProblem, ImageError
from lavise.image_set import ImageSet, folder_images
from lavise.images import list_images, prepare
from lavise.manifest import SKILL, LayerEntry
from lavise.quantiles import RELATIVE_ERROR
from lavise.runtime import open_session
from tests.full_disk import no_file_over
from tests.oracle import cells_of, matched_projection
from tests.tiny_cnn import CHANNELS, DEAD_FILTER, INPUT_SIZE, LAYERS

MAPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "rare": lambda x: np.maximum(x - 1.5, 0),
    "saturated": lambda x: np.clip(8 * x, 0, 6),
    "dead": lambda x: np.minimum(x, 0),
    "constant": np.ones_like,
}


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(sorted(MAPS)),
    batches=st.lists(st.integers(1, 7), min_size=1, max_size=8),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    ceiling=st.sampled_from([None, 6.0]),
    top=st.integers(1, 6),
    held=st.integers(1, 2000),
)
def test_stream_equals_having_all_images_at_once(
    seed: int,
    kind: str,
    batches: list[int],
    shape: tuple[int, int, int],
    ceiling: float | None,
    top: int,
    held: int,
) -> None:
    rng = np.random.default_rng(seed)
    C, H, W = shape
    maps = MAPS[kind](rng.normal(size=(sum(batches), *shape))).astype(np.float32)
    layer = LayerEntry(name="layer", channels=C, height=H, width=W, ceiling=ceiling)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "TOP_IMAGES", top)
        patch.setattr(catalog, "NULL_IMAGES", 5)
        patch.setattr(catalog, "_HELD_BYTES", held)
        found = LayerStatistics(layer, seed=seed)
        for batch in np.split(maps, np.cumsum(batches)[:-1]):
            found.update(batch)

    assert found.images == len(maps)
    activation = maps.mean((2, 3)) if ceiling else maps.max((2, 3))  # (n, C)
    for f in range(C):
        check_top_images(found, f, maps, activation[:, f], top)
    exact = np.quantile(
        maps.transpose(1, 0, 2, 3).reshape(C, -1), 1 - EXCEEDED, axis=1, method="inverted_cdf"
    )
    np.testing.assert_allclose(
        found.thresholds(), np.maximum(exact, 0), rtol=RELATIVE_ERROR * 1.001, atol=2**-24
    )
    check_sample(found, maps)


def check_top_images(
    found: LayerStatistics, f: int, maps: np.ndarray, activation: np.ndarray, top: int
) -> None:
    """The images of the largest positive activations; which of equal ones is open."""
    kept = found.image[f] >= 0
    images = found.image[f, kept]
    best = np.sort(activation[activation > 0])[::-1][:top]
    assert len(set(images.tolist())) == len(images) == len(best)
    np.testing.assert_allclose(np.sort(found.activation[f, kept])[::-1], best, rtol=1e-5)
    for place in np.flatnonzero(kept):
        image = found.image[f, place]
        assert found.activation[f, place] == pytest.approx(activation[image], rel=1e-5)
        expected = matched_projection(cells_of(maps[image]), f, 0.0)
        assert expected is not None
        np.testing.assert_allclose(found.attended[f, place], expected, rtol=2e-3, atol=2e-3)


def check_sample(found: LayerStatistics, maps: np.ndarray) -> None:
    """Some of the images, none twice."""
    n = min(len(found.sample), len(maps))
    flat = maps.reshape(len(maps), maps.shape[1], -1)
    drawn = [
        [i for i, image in enumerate(flat) if np.array_equal(image, one)]
        for one in found.sample[:n]
    ]
    assert all(drawn)
    if len(np.unique(flat, axis=0)) == len(flat):
        assert len({one for [one] in drawn}) == n


def test_every_image_is_sampled_with_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "TOP_IMAGES", 2)
    monkeypatch.setattr(catalog, "NULL_IMAGES", 4)
    layer = LayerEntry(name="layer", channels=1, height=1, width=1)
    maps = np.arange(20, dtype=np.float32).reshape(20, 1, 1, 1)
    hits = np.zeros(20)
    for seed in range(400):
        found = LayerStatistics(layer, seed=seed)
        for batch in np.split(maps, [3, 9, 10, 17]):
            found.update(batch)
        assert len(found.sample) == 4
        hits[found.sample.ravel().astype(int)] += 1
    # 80 expected each, deviation 8: five of them
    assert np.abs(hits - 80).max() < 40


def test_nothing_grows_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def held(found: LayerStatistics) -> int:
        values = [*vars(found).values(), *vars(found._histogram).values(), *found._held]
        return sum(value.nbytes for value in values if isinstance(value, np.ndarray))

    limit = 1000
    monkeypatch.setattr(catalog, "_HELD_BYTES", limit)
    rng = np.random.default_rng(0)
    found = LayerStatistics(LayerEntry(name="layer", channels=3, height=2, width=2))
    before = held(found)
    for _ in range(200):
        found.update(rng.normal(size=(5, 3, 2, 2)).astype(np.float32))
        assert held(found) <= before + limit
    assert found.images == 1000


def test_large_features_do_not_overflow_their_store() -> None:
    found = LayerStatistics(LayerEntry(name="layer", channels=2, height=1, width=1))
    found.update(np.full((1, 2, 1, 1), 1e6, dtype=np.float32))
    assert np.isfinite(found.attended).all()


def picture_maps(bundle: Path, files: list[Path], layer: int) -> np.ndarray:
    session = open_session(bundle / "cnn.onnx", device="cpu")
    images = np.stack([prepare(file.read_bytes(), INPUT_SIZE) for file in files])
    return np.asarray(session.run([f"map_{layer}"], {"images": images})[0])


@pytest.mark.parametrize("position", [0, 1])
def test_catalog_of_a_folder(position: int, tiny_bundle: Path, tiny_pictures: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    table = read_catalog(bundle, LAYERS[position])
    assert table is not None
    files = list_images(tiny_pictures)
    names = [str(file.relative_to(tiny_pictures)) for file in files]
    maps = picture_maps(tiny_bundle, files, position)
    peaks = maps.max((2, 3))
    for f in range(CHANNELS[LAYERS[position]]):
        best = sorted((-peaks[i, f], i) for i in range(len(files)) if peaks[i, f] > 0)[:10]
        assert [a for _, a in table.top_images[f]] == pytest.approx([-a for a, _ in best], rel=1e-4)
        for source, activation in table.top_images[f]:
            assert peaks[names.index(source), f] == pytest.approx(activation, rel=1e-4)
        words = dict(table.words[f])
        assert words.keys() <= set(bundle.words())
        assert sum(words.values()) <= 1 + 1e-6
    [entry] = [c for c in bundle.manifest.catalogs if c.layer == LAYERS[position]]
    assert entry.images == len(files)
    assert entry.probe == tiny_pictures.name
    assert entry.described == table.verdict.count("described")


def test_a_dead_filter_has_no_words(tiny_bundle: Path) -> None:
    table = read_catalog(open_bundle(tiny_bundle), "body")
    assert table is not None
    assert table.words[DEAD_FILTER] == table.top_images[DEAD_FILTER] == []
    assert table.verdict[DEAD_FILTER] == "uninterpretable"
    assert table.threshold[DEAD_FILTER] == 0


def test_table_survives_the_disk(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    table = CatalogTable(
        threshold=np.arange(8, dtype=np.float32),
        verdict=["described", "uninterpretable"] * 4,
        q_value=np.linspace(0, 1, 8).astype(np.float32),
        words=[[("näme", 0.5), ("b", 0.25)], *[[] for _ in range(7)]],
        top_images=[[] for _ in range(8)],
    )
    write_catalog(path / "catalog.stem.parquet", table)
    bundle = open_bundle(tiny_bundle)
    read = read_catalog(Bundle(path, bundle.manifest, bundle.digest), "stem")
    assert read is not None
    np.testing.assert_array_equal(read.threshold, table.threshold)
    np.testing.assert_array_equal(read.q_value, table.q_value)
    assert (read.verdict, read.words, read.top_images) == (
        table.verdict,
        table.words,
        table.top_images,
    )


@pytest.mark.parametrize(
    ("threshold", "ceiling", "peak", "qualified"),
    [
        (2.0, None, 2.0, False),
        (2.0, None, 2.1, True),
        (6.0, 6.0, 6.0, True),
        (6.0, 6.0, 5.99, False),
        (2.0, 6.0, 2.0, False),
        (2.0, 6.0, 3.0, True),
        (0.0, None, 0.0, False),
    ],
)
def test_qualified(
    threshold: float, ceiling: float | None, peak: float, *, qualified: bool
) -> None:
    table = CatalogTable(np.array([0, threshold], dtype=np.float32), [], np.zeros(2), [], [])
    got = table.qualified(np.array([1]), np.array([peak], dtype=np.float32), ceiling)
    assert got.tolist() == [qualified]


def test_load_mapper_is_what_was_taught(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    for entry in bundle.manifest.mappers:
        mapper = load_mapper(bundle, entry)
        C = CHANNELS[entry.layer]
        assert mapper.W_first.shape == (C, entry.n_own + entry.n_hidden)
        assert mapper(np.zeros((2, C), dtype=np.float32)).shape == (2, 8)
    vectors = load_vocabulary(bundle).vectors
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(vectors) == len(bundle.words())


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def probe(tiny_pictures: Path, tmp_path: Path) -> Path:
    """Nine pictures and what may lie among them."""
    folder = tmp_path / "probe"
    folder.mkdir()
    for i, file in enumerate(list_images(tiny_pictures)[:9]):
        shutil.copy(file, folder / f"{i}.png")
    return folder


def test_what_cannot_be_read_is_left_out_and_told(copy: Path, probe: Path) -> None:
    (probe / "3.png").write_bytes(b"no image")
    (probe / "5.png").write_bytes((probe / "5.png").read_bytes()[:200])
    told: list[str] = []
    bundle = make_catalog(
        open_bundle(copy), folder_images(probe, INPUT_SIZE), device="cpu", say=told.append
    )
    assert len(told) == 2
    assert "3.png" in told[0]
    assert "5.png" in told[1]
    assert [entry.images for entry in bundle.manifest.catalogs] == [7, 7]
    table = read_catalog(bundle, "stem")
    assert table is not None
    shown = {source for row in table.top_images for source, _ in row}
    assert shown <= {f"{i}.png" for i in range(9)} - {"3.png", "5.png"}


def test_a_file_that_vanishes_is_left_out(copy: Path, probe: Path) -> None:
    found, told = folder_images(probe, INPUT_SIZE), list[str]()
    (probe / "4.png").unlink()
    make_catalog(open_bundle(copy), found, device="cpu", say=told.append)
    assert len(told) == 1
    assert "4.png" in told[0]


def test_no_readable_image_is_an_error_and_keeps_the_bundle(copy: Path, probe: Path) -> None:
    digest = open_bundle(copy).digest
    for file in probe.iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="no readable image") as caught:
        make_catalog(open_bundle(copy), folder_images(probe, INPUT_SIZE), device="cpu")
    assert caught.value.field == "images"
    assert open_bundle(copy).digest == digest


def test_names_that_are_no_utf_8(copy: Path, probe: Path) -> None:
    (probe / "0.png").rename(probe / "odd\udcff.png")
    bundle = make_catalog(open_bundle(copy), folder_images(probe, INPUT_SIZE), device="cpu")
    table = read_catalog(bundle, "stem")
    assert table is not None
    assert "odd?.png" in {source for row in table.top_images for source, _ in row}


def test_a_new_catalog_takes_the_place_of_the_old(copy: Path, probe: Path) -> None:
    before = open_bundle(copy)
    after = make_catalog(before, folder_images(probe, INPUT_SIZE), device="cpu")
    assert after.digest != before.digest
    assert after.manifest.files.keys() == before.manifest.files.keys()
    changed = {n for n, sha in after.manifest.files.items() if before.manifest.files[n] != sha}
    assert changed == {"catalog.stem.parquet", "catalog.body.parquet"}
    assert {entry.probe for entry in after.manifest.catalogs} == {"probe"}
    assert after.manifest.mappers == before.manifest.mappers


def test_words_of_a_mapper_that_is_hardly_ever_right_describe_nothing(
    copy: Path, tiny_pictures: Path
) -> None:
    bundle = open_bundle(copy)
    stem, body = bundle.manifest.mappers
    mappers = (
        stem.model_copy(update={"metrics": {SKILL: 0.09}}),
        body.model_copy(update={"metrics": {SKILL: 0.11}}),
    )
    bundle = replace(bundle, manifest=bundle.manifest.model_copy(update={"mappers": mappers}))
    told: list[str] = []
    after = make_catalog(
        bundle, folder_images(tiny_pictures, INPUT_SIZE), device="cpu", say=told.append
    )
    [line] = told
    assert "layer stem: on images held out from teaching the mapper is hardly better" in line
    before = {one.layer: one.described for one in open_bundle(copy).manifest.catalogs}
    assert [one.described for one in after.manifest.catalogs] == [0, before["body"]]


def test_the_same_images_make_the_same_catalog(copy: Path, probe: Path) -> None:
    once = make_catalog(open_bundle(copy), folder_images(probe, INPUT_SIZE), device="cpu").digest
    again = make_catalog(open_bundle(copy), folder_images(probe, INPUT_SIZE), device="cpu").digest
    assert once == again


def test_a_full_disk_keeps_the_bundle(copy: Path, probe: Path) -> None:
    digest = open_bundle(copy).digest
    with no_file_over(2000), pytest.raises(EnvironmentProblem, match="could not be written"):
        make_catalog(open_bundle(copy), folder_images(probe, INPUT_SIZE), device="cpu")
    assert open_bundle(copy).digest == digest
    assert sorted(file.name for file in copy.parent.iterdir()) == ["bundle", "probe"]
    assert (copy / MANIFEST).is_file()


class Session:
    """A CNN whose values are not finite for one image."""

    def run(self, names: list[str], fed: dict[str, np.ndarray]) -> list[np.ndarray]:
        maps = np.ones((len(fed["images"]), 2, 1, 1), dtype=np.float32)
        maps[fed["images"][:, 0, 0, 0] == 3, 1] = np.nan
        return [maps for _ in names]


def test_values_that_are_not_finite_name_the_image() -> None:
    def fetch(i: int) -> np.ndarray:
        return np.full((2, 2, 3), i, dtype=np.uint8)

    found = LayerStatistics(LayerEntry(name="layer", channels=2, height=1, width=1))
    session: Any = Session()
    with pytest.raises(ImageError, match=r"not finite for image 3"):
        stream(session, ImageSet("p", [f"image {i}" for i in range(5)], fetch), [found])
