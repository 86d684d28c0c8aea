import base64
import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from lavise.errors import ImageError
from lavise.report.pictures import PICTURE_SIDE, heat_colours, overlay_uri, picture_uri
from tests.lavise.report.sample_pictures import encoded


def opened(uri: str, kind: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == f"data:image/{kind};base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def spot(shape: tuple[int, int] = (7, 7), at: tuple[int, int] = (2, 5)) -> np.ndarray:
    heat = np.zeros(shape, np.float32)
    heat[at] = 3.5
    return heat


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_becomes_a_small_jpeg(kind: str) -> None:
    picture = opened(picture_uri(encoded(300, kind), name="x"), "jpeg")
    assert picture.size == (PICTURE_SIDE, PICTURE_SIDE)
    np.testing.assert_allclose(np.asarray(picture)[50, 50], (0, 128, 128), atol=3)


def test_what_a_camera_wrote_beside_the_pixels_is_gone() -> None:
    exif = Image.Exif()
    exif[0x010E] = "at home"
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "JPEG", exif=exif)
    assert b"at home" in out.getvalue()
    uri = picture_uri(out.getvalue(), name="x")
    assert b"at home" not in base64.b64decode(uri.split(",")[1])


@pytest.mark.parametrize("data", [b"", b"<svg onload=alert(1)>", encoded()[:80]])
def test_what_is_no_picture_is_named(data: bytes) -> None:
    with pytest.raises(ImageError, match="image 3 of set B"):
        picture_uri(data, name="image 3 of set B")


def test_a_spot_glows_where_it_is() -> None:
    overlay = opened(overlay_uri(spot(), strength=1, name="x"), "png")
    alpha = np.asarray(overlay)[..., 3]
    row, column = divmod(int(alpha.argmax()), alpha.shape[1])
    assert (row // 8, column // 8) == (2, 5)
    assert alpha[30:, :30].max() == 0
    assert 150 < alpha.max() < 255  # the picture stays readable under it


def test_more_active_is_more_opaque_and_lighter() -> None:
    ramp = np.tile(np.linspace(0, 1, 40, dtype=np.float32), (40, 1))
    middle = heat_colours(ramp, strength=1, name="x")[28, 3:-3].astype(int)
    assert (np.diff(middle[:, 3]) >= 0).all()
    assert (np.diff(middle[:, :3] @ [2126, 7152, 722]) >= 0).all()
    assert middle[0, 3] <= 1


def test_strength_dims_the_whole_map() -> None:
    strong, weak, none = (
        heat_colours(spot(), strength=strength, name="x")[..., 3].max()
        for strength in (1.0, 0.3, 0.0)
    )
    assert strong > weak > none == 0


@pytest.mark.parametrize(
    "heat", [np.zeros((7, 7)), np.full((7, 7), -2.0), np.full((7, 7), np.nan)], ids=str
)
def test_an_inactive_filter_shows_nothing(heat: np.ndarray) -> None:
    assert not heat_colours(heat, strength=1, name="x")[..., 3].any()


def test_bytes_and_floats_look_the_same() -> None:
    levels = np.arange(49, dtype=np.uint8).reshape(7, 7) * 5
    np.testing.assert_allclose(
        heat_colours(levels, strength=1, name="x").astype(int),
        heat_colours(levels.astype(np.float64) / 7, strength=1, name="x").astype(int),
        atol=1,  # rounding
    )


@pytest.mark.parametrize("shape", [(7,), (7, 7, 1), (0, 7), (513, 7)])
def test_what_is_no_map_is_named(shape: Sequence[int]) -> None:
    with pytest.raises(ImageError, match="filter 4 of image 3"):
        overlay_uri(np.ones(shape), strength=1, name="filter 4 of image 3")
