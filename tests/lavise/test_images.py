import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile
from skimage import data as photographs

from lavise.errors import DatasetError, ImageError
from lavise.image_header import open_header
from lavise.images import ImageLimits, decode, list_images, prepare, resize_crop
from tests.corpus import encode, grey_ramp, odd_images, scene, translucent

ODD = odd_images()
ACCEPTED = sorted(name for name, image in ODD.items() if image.accepted)
REFUSED = sorted(name for name, image in ODD.items() if not image.accepted)
SCENE = np.asarray(scene())
KINDS = ("plain", "progressive", "lzw", "orientation", "animated", "two", "cmyk", "unread", "bytes")
SHOWING_THE_SCENE = [
    name for name in ACCEPTED if name.startswith(KINDS) and not name.endswith(".gif")
]
ON_WHITE = np.where(np.asarray(translucent())[..., 3:] > 0, SCENE, 255)


def distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean absolute difference, in grey levels."""
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b).mean())


def is_rgb(array: NDArray[np.uint8]) -> bool:
    return array.dtype == np.dtype(np.uint8) and array.ndim == 3 and array.shape[2] == 3


def mosaic(width: int, height: int) -> Image.Image:
    """Photographs side by side, at their own resolution: large, with real detail everywhere."""
    names = ("astronaut", "coffee", "chelsea")
    tiles = [np.asarray(getattr(photographs, name)())[:300, :400] for name in names]
    rows = [np.concatenate(tiles[i:] + tiles[:i], axis=1) for i in (0, 1)]
    whole = np.tile(np.concatenate(rows), (height // 600 + 1, width // 1200 + 1, 1))
    return Image.fromarray(whole[:height, :width].copy())


@pytest.mark.parametrize("name", ACCEPTED)
def test_reads_what_is_accepted(name: str) -> None:
    rgb = decode(ODD[name].data, name=name)
    assert is_rgb(rgb)
    assert rgb.flags.writeable
    square = prepare(ODD[name].data, 24, name=name)
    assert is_rgb(square)
    assert square.shape[:2] == (24, 24)
    assert square.flags.c_contiguous


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("filters", ["error", "ignore"])
@pytest.mark.parametrize("half", [False, True])
def test_refuses_the_rest_and_says_what_is_accepted(name: str, filters: str, *, half: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if filters == "error" else "ignore")
        with pytest.raises(ImageError) as caught:
            prepare(ODD[name].data, 8, name=name) if half else decode(ODD[name].data, name=name)
    assert caught.value.field == name
    assert caught.value.message.startswith(f"{name}: ")
    assert re.search("accepted|save it again", caught.value.message, re.IGNORECASE)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "0 bytes"),
        ("text.jpg", "not an image of an accepted format"),
        ("over_20_mib.jpg", "at most 20,971,520"),
        ("half_of.jpg", "truncated"),
        ("bomb_100_megapixels.png", "10,000 x 10,000 pixels; at most 50,000,000"),
        # Its pixel data fits no such size: the refusal comes before any of it is decoded.
        ("bomb_4_gigapixels.png", "65,535 x 65,535 pixels"),
        ("bomb_10000_scans.jpg", "scans"),
        ("bomb_exif_segments.jpg", "segments"),
        ("bomb_empty_segments.jpg", "segments"),
        ("bomb_junk.jpg", "segments"),
        ("bomb_colour_profiles.png", "colour profiles"),
        ("bomb_overlapping_strips.tiff", "overlap"),
        ("bomb_huge_tile.tiff", "tiles"),
        ("strip_missing.tiff", "do not cover"),
        ("floating_point.tiff", "floating-point"),
    ],
)
def test_says_what_is_wrong(name: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode(ODD[name].data)


@pytest.mark.parametrize("name", SHOWING_THE_SCENE)
def test_shows_the_scene_upright_first_frame_in_its_colours(name: str) -> None:
    lossy = name.endswith(".jpg") or name == "plain.webp"
    assert distance(decode(ODD[name].data), SCENE) <= (6 if lossy else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_applies_every_orientation(orientation: int, kind: str) -> None:
    # What EXIF calls 6, for one, is stored turned by 90 degrees anticlockwise.
    stored = {
        1: SCENE,
        2: SCENE[:, ::-1],
        3: SCENE[::-1, ::-1],
        4: SCENE[::-1],
        5: SCENE.swapaxes(0, 1),
        6: np.rot90(SCENE),
        7: SCENE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(SCENE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    np.testing.assert_array_equal(decode(turned), SCENE)
    # The two passes of a resize round in the other order.
    assert distance(prepare(turned, 20), prepare(ODD["plain.png"].data, 20)) < 0.5


def test_animated_gif_shows_its_first_frame() -> None:
    np.testing.assert_array_equal(
        decode(ODD["animated.gif"].data), np.asarray(scene().quantize(16).convert("RGB"))
    )


def test_grey_becomes_three_equal_channels() -> None:
    for name in ("grey.jpg", "one_bit.png", "one_bit.bmp", "grey_alpha.png"):
        rgb = decode(ODD[name].data)
        assert (rgb == rgb[..., :1]).all()
    assert set(np.unique(decode(ODD["one_bit.png"].data))) == {0, 255}


def test_transparent_pixels_are_white() -> None:
    for name in ("rgba.png", "lossless_alpha.webp"):
        np.testing.assert_array_equal(decode(ODD[name].data), ON_WHITE)
    assert (decode(ODD["grey_alpha.png"].data)[:, 48:] == 255).all()
    key = (SCENE == (250, 10, 10)).all(-1)
    assert (decode(ODD["key_colour.png"].data)[key] == 255).all()
    assert (decode(ODD["key_colour.png"].data)[~key] == SCENE[~key]).all()
    entries = np.asarray(scene().quantize(16))
    colours = np.asarray(scene().quantize(16).convert("RGB"))
    for name in ("palette_key_colour.png", "transparent.gif"):
        expected = np.where(entries[..., None] == 3, 255, colours)
        np.testing.assert_array_equal(decode(ODD[name].data), expected)
    alpha = entries[..., None] * 16 / 255
    blended = colours * alpha + 255 * (1 - alpha)
    assert np.abs(decode(ODD["palette_alpha.png"].data) - blended).max() <= 1


def test_premultiplied_grey_lies_on_white() -> None:
    assert decode(ODD["grey_premultiplied.tiff"].data)[0, :, 0].tolist() == [255, 191, 0, 255]


@pytest.mark.parametrize("kind", ["png", "tiff", "big_endian.tiff", "zero_is_white.tiff"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    name = f"grey_16_bit{'_' if '_' in kind else '.'}{kind}"
    expected = np.round(grey_ramp() / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode(ODD[name].data), np.stack([expected] * 3, -1))


def test_sixteen_bit_key_colour_is_white() -> None:
    rgb = decode(ODD["grey_16_bit_key_colour.png"].data)
    assert (rgb[0, 0] == 255).all()  # the key
    assert (rgb[0, 1] == 0).all()  # one step further, black


def test_twelve_bits_are_scaled() -> None:
    assert decode(ODD["grey_12_bit.tiff"].data)[0, :, 0].tolist() == [0, 255, 128, 0]


def test_limits_are_the_callers() -> None:
    data = ODD["plain.png"].data
    decode(data, limits=ImageLimits(max_bytes=len(data), max_pixels=96 * 64))
    with pytest.raises(ImageError, match="bytes"):
        decode(data, limits=ImageLimits(max_bytes=len(data) - 1))
    with pytest.raises(ImageError, match="96 x 64 pixels; at most 6,143"):
        prepare(data, 8, limits=ImageLimits(max_pixels=96 * 64 - 1))
    # Pillow's own, smaller limit on pixels does not get in the way of a larger one.
    bomb = ODD["bomb_100_megapixels.png"].data
    header, _ = open_header(bomb, name="bomb", limits=ImageLimits(max_pixels=10**8))
    assert header.size == (10_000, 10_000)


@pytest.mark.parametrize("buffer", [bytearray, memoryview])
def test_takes_any_buffer(buffer: type[bytearray | memoryview]) -> None:
    np.testing.assert_array_equal(decode(buffer(ODD["plain.png"].data)), SCENE)


def test_a_large_jpeg_is_decoded_at_a_reduced_scale() -> None:
    data = encode(mosaic(1601, 1203), "JPEG")
    assert decode(data).shape == (1203, 1601, 3)
    assert decode(data, min_side=64).shape == (151, 201, 3)
    assert decode(data, min_side=224).shape == (602, 801, 3)
    assert decode(data, min_side=400).shape == (1203, 1601, 3)
    assert decode(encode(mosaic(1601, 1203), "BMP"), min_side=64).shape == (1203, 1601, 3)


@pytest.mark.parametrize("size", [32, 64, 128, 224, 299])
@pytest.mark.parametrize("shape", [(1501, 1103), (1103, 1510)])
def test_the_reduced_scale_changes_little(size: int, shape: tuple[int, int]) -> None:
    data = encode(mosaic(*shape), "JPEG", quality=90)
    exact = exact_square(Image.open(BytesIO(data)), size)
    fast = prepare(data, size)
    assert distance(fast, exact) < 1
    assert np.percentile(np.abs(fast.astype(float) - exact), 99.9) <= 8


def exact_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """From every pixel of the full decode, in one step without a shortcut."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


@given(
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    size=st.integers(1, 40),
    seed=st.integers(0),
)
@settings(max_examples=50, deadline=None)
def test_resize_crop_takes_the_centre(width: int, height: int, size: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    square = resize_crop(rgb, size)
    assert square.shape == (size, size, 3)
    assert square.flags.c_contiguous
    np.testing.assert_array_equal(square, resize_crop(Image.fromarray(rgb), size))
    if size == min(width, height) and (width - height) % 2 == 0:
        top, left = (height - size) // 2, (width - size) // 2
        np.testing.assert_array_equal(square, rgb[top : top + size, left : left + size])


def test_resize_crop_is_resize_then_crop() -> None:
    whole = scene(192, 128).resize((48, 32), Image.Resampling.BICUBIC)
    expected = np.asarray(whole)[:, 8:40]
    assert distance(resize_crop(np.asarray(scene(192, 128)), 32), expected) < 1


MAGICS = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"BM"]
MAGICS += [b"II*\0", b"MM\0*", b"II+\0"]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An accepted image with some bytes changed, left out, doubled, or cut off."""
    data = bytearray(ODD[draw(st.sampled_from(ACCEPTED))].data)
    # Headers are where the decisions are.
    place = st.one_of(st.integers(0, min(200, len(data))), st.integers(0, len(data)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(place)
        match draw(st.sampled_from(["overwrite", "delete", "double", "cut"])):
            case "overwrite":
                data[start : start + 4] = draw(st.binary(min_size=1, max_size=4))
            case "delete":
                del data[start : start + draw(st.integers(1, 50))]
            case "double":
                data[start:start] = data[start : start + draw(st.integers(1, 50))]
            case _:
                del data[start:]
    return bytes(data)


def reads_or_refuses(data: bytes) -> None:
    # A smaller limit keeps a claimed size from taking the time of a real large image.
    limits = ImageLimits(max_pixels=2_000_000)
    outcomes = []
    for size in (None, 8):
        try:
            if size is None:
                rgb = decode(data, name="wild", limits=limits)
            else:
                rgb = prepare(data, size, name="wild", limits=limits)
        except ImageError as error:
            outcomes.append(error.field)
        else:
            assert is_rgb(rgb)
            assert rgb.shape[0] * rgb.shape[1] <= limits.max_pixels
            outcomes.append("read")
    assert outcomes in (["read", "read"], ["wild", "wild"])


@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_wild_bytes_are_read_or_refused(magic: bytes, rest: bytes) -> None:
    reads_or_refuses(magic + rest)


@pytest.mark.parametrize("filters", ["error", "ignore"])
@given(data=damaged())
@settings(max_examples=500, deadline=None)
def test_damaged_images_are_read_or_refused(filters: str, data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if filters == "error" else "ignore")
        reads_or_refuses(data)


def test_threads_get_the_same_and_nothing_global_changes() -> None:
    def state() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    before = state()
    alone = [prepare(ODD[name].data, 32) for name in ACCEPTED]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: prepare(ODD[name].data, 32), ACCEPTED * 8))
    for i, square in enumerate(together):
        np.testing.assert_array_equal(square, alone[i % len(alone)])
    assert state() == before


def test_lists_images_of_all_subfolders_in_order(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "sub/deep/d.TIFF", "sub.gif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("notes.txt", "._a.jpg", ".thumbnails/e.jpg", "jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "sub/c.webp", "sub/deep/d.TIFF", "sub.gif"]


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        folder.mkdir()
        (folder / "real.jpg").touch()
    (inside / "link_out.jpg").symlink_to(outside / "real.jpg")
    (inside / "link_in.jpg").symlink_to("real.jpg")
    (inside / "dangling.jpg").symlink_to("nowhere.jpg")
    (inside / "folder_out").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    assert list_images(inside) == [inside / "link_in.jpg", inside / "real.jpg"]
    # The folder itself may be a link: the user named it.
    (tmp_path / "named").symlink_to(inside)
    assert len(list_images(tmp_path / "named")) == 2


def test_refuses_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    for folder, reason in [
        (tmp_path, "no image"),
        (tmp_path / "missing", "no such folder"),
        (tmp_path / "notes.txt", "no such folder"),
    ]:
        with pytest.raises(DatasetError, match=reason) as caught:
            list_images(folder)
        assert ".jpg, .jpeg, .png" in caught.value.message
        assert caught.value.field == str(folder)
