"""Masks against the definition (a pixel's centre), and against what prepare does to the image."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from lavise.errors import ImageError
from lavise.teach.geometry import Square, prepare_annotated

SIDES = st.integers(1, 40)


def encoded(pixels: np.ndarray, kind: str = "PNG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = BytesIO()
    Image.fromarray(pixels).save(data, kind, exif=exif)
    return data.getvalue()


def centres(square: Square) -> list[list[tuple[float, float]]]:
    """Straight from the definition: where the centre of each pixel lies in the frame."""
    side = min(square.width, square.height)
    left, top = (square.width - side) / 2, (square.height - side) / 2
    scale = side / square.size
    return [
        [(left + (j + 0.5) * scale, top + (i + 0.5) * scale) for j in range(square.size)]
        for i in range(square.size)
    ]


@given(SIDES, SIDES, st.integers(1, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_labels_are_those_under_the_centres(width: int, height: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.5, 1, 3])
    labels = rng.integers(0, 9, (int(height * 6 * scale), int(width * 6 * scale)))
    square = Square(size, width, height)
    slow = [
        [
            labels[int(y * labels.shape[0] / height), int(x * labels.shape[1] / width)]
            for x, y in row
        ]
        for row in centres(square)
    ]
    np.testing.assert_array_equal(square.sample(labels), slow)


@given(
    SIDES,
    SIDES,
    st.integers(1, 20),
    st.tuples(*[st.floats(-60, 60)] * 2, *[st.floats(0.01, 90)] * 2),
)
@settings(max_examples=100, deadline=None)
def test_boxes_hold_the_centres_inside(
    width: int, height: int, size: int, box: tuple[float, float, float, float]
) -> None:
    x, y, w, h = box
    square = Square(size, width, height)
    slow = [[x <= cx < x + w and y <= cy < y + h for cx, cy in row] for row in centres(square)]
    np.testing.assert_array_equal(square.box(*box), slow)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("frame_is", ["stored", "stored at double size", "upright", "not given"])
def test_masks_turn_with_the_image(orientation: int, frame_is: str) -> None:
    """The image shows its own mask: white where the region is."""
    stored = np.zeros((40, 60), dtype=np.uint8)
    stored[6:20, 14:30] = 255
    stored[20:32, 14:20] = 255  # an L: no two turns of it are alike
    data = encoded(np.stack([stored] * 3, axis=2), orientation=orientation)
    upright = np.asarray(
        Image.fromarray(stored)
        if orientation == 1
        else Image.fromarray(stored).transpose(
            {
                2: Image.Transpose.FLIP_LEFT_RIGHT,
                3: Image.Transpose.ROTATE_180,
                4: Image.Transpose.FLIP_TOP_BOTTOM,
                5: Image.Transpose.TRANSPOSE,
                6: Image.Transpose.ROTATE_270,
                7: Image.Transpose.TRANSVERSE,
                8: Image.Transpose.ROTATE_90,
            }[orientation]
        )
    )
    if frame_is == "upright" and orientation in {2, 3, 4}:
        return  # stored and upright have one shape; the stored frame is what is taken
    labels = upright if frame_is == "upright" else stored
    if "double" in frame_is:
        labels = np.kron(labels, np.ones((2, 2), dtype=np.uint8))
    frame = None if frame_is == "not given" else (labels.shape[1], labels.shape[0])

    pixels, square = prepare_annotated(data, 20, name="it", frame=frame)

    np.testing.assert_array_equal(square.sample(labels) > 0, pixels[..., 0] > 127)
    assert square.whole().all()
    if frame_is in {"stored", "not given"}:
        box = square.box(14, 6, 16, 14) | square.box(14, 20, 6, 12)
        np.testing.assert_array_equal(box, pixels[..., 0] > 127)


def test_tiff_is_turned_by_pillow() -> None:
    stored = np.zeros((40, 60, 3), dtype=np.uint8)
    stored[6:20, 14:30] = 255
    data = encoded(stored, "TIFF", orientation=6)
    pixels, square = prepare_annotated(data, 20, name="it", frame=(40, 60))
    upright = np.rot90(stored[..., 0], -1)
    np.testing.assert_array_equal(square.sample(upright) > 0, pixels[..., 0] > 127)


@pytest.mark.parametrize(
    ("frame", "fits"),
    [
        ((60, 40), True),
        ((30, 20), True),
        ((600, 400), True),
        ((640, 427), True),  # sides rounded to whole pixels when scaled
        ((60, 60), False),
        ((40, 60), False),
        ((61, 30), False),
    ],
)
def test_another_image_is_refused(frame: tuple[int, int], *, fits: bool) -> None:
    data = encoded(np.zeros((40, 60, 3), dtype=np.uint8))
    if fits:
        assert prepare_annotated(data, 8, name="it", frame=frame)[1].width == frame[0]
    else:
        with pytest.raises(ImageError, match=rf"it: 60 x 40 .* {frame[0]} x {frame[1]}"):
            prepare_annotated(data, 8, name="it", frame=frame)
