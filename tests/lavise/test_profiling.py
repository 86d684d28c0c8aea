from pathlib import Path

import numpy as np
import pytest

from lavise.errors import DatasetError, RequestError
from lavise.explainer import Explainer
from lavise.image_set import ImageSet, folder_images
from lavise.images import decode, prepare
from lavise.options import ExplainOptions
from lavise.profiling import profile_images
from tests.bundle_copies import without_catalog
from tests.tiny_cnn import CHANNELS, DEAD_FILTER, INPUT_SIZE


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Explainer:
    return Explainer.open(tiny_bundle, device="cpu", threads=1)


def test_a_folder_becomes_a_profile(explainer: Explainer, tiny_pictures: Path) -> None:
    images = folder_images(tiny_pictures, INPUT_SIZE)
    found = profile_images(explainer, images, layer="body", thumbnails=True)
    assert len(found) == len(images.sources) > 16, "more than one batch"
    assert found.sources == list(images.sources)
    assert found.index.tolist() == list(range(len(found)))
    assert found.schema.layer == "body"
    assert found.schema.bundle_digest == explainer.digest
    assert found.schema.words == tuple(explainer.vocabulary)
    # The same numbers as explaining gives.
    for row in (0, 17):
        [one] = explainer.explain(
            [images.fetch(row)], ExplainOptions(layer="body", all_filters=True)
        )
        np.testing.assert_allclose(found.activation[row], one.activation, rtol=1e-5)
        assert found.qualified is not None
        assert one.qualified is not None
        np.testing.assert_array_equal(found.qualified[row], one.qualified)
        small = decode(found.thumbnails[row]).astype(float)
        assert small.shape == (INPUT_SIZE, INPUT_SIZE, 3)
        assert np.abs(small - images.fetch(row)).mean() < 12
    assert (found.activation[:, DEAD_FILTER] == 0).all()


def test_word_scores_tell_the_colours_apart(explainer: Explainer, tiny_pictures: Path) -> None:
    scores = {
        colour: profile_images(
            explainer, folder_images(tiny_pictures / colour, INPUT_SIZE), layer="body"
        ).word_scores.mean(axis=0, dtype=np.float64)
        for colour in ("tomato", "snow")
    }
    difference = scores["tomato"] - scores["snow"]
    ordered = [explainer.vocabulary[i] for i in np.argsort(difference)]
    assert "tomato" in ordered[-3:]
    assert "snow" in ordered[:3]


def test_what_cannot_be_read_is_left_out_and_said(
    explainer: Explainer, tiny_pictures: Path, tmp_path: Path
) -> None:
    good = (tiny_pictures / "snow" / "00.png").read_bytes()
    (tmp_path / "a.png").write_bytes(good)
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.png").write_bytes(good)
    said: list[str] = []
    found = profile_images(explainer, folder_images(tmp_path, INPUT_SIZE), say=said.append)
    assert found.sources == ["a.png", "c.png"]
    assert found.index.tolist() == [0, 2]
    assert found.fingerprints[0] == found.fingerprints[1]
    assert len(said) == 1
    assert "b.png" in said[0]
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").unlink()
    with pytest.raises(DatasetError, match="no readable image"):
        profile_images(explainer, folder_images(tmp_path, INPUT_SIZE))


def test_without_a_catalog_nothing_is_qualified(
    tiny_bundle: Path, tomato: Path, tmp_path: Path
) -> None:
    plain = Explainer.open(without_catalog(tiny_bundle, tmp_path / "bundle"), device="cpu")
    pixels = prepare(tomato.read_bytes(), INPUT_SIZE)
    found = profile_images(plain, ImageSet("one", ["tomato"], lambda _: pixels))
    assert found.qualified is None
    assert found.schema.filter_words == ()
    assert found.schema.channels == CHANNELS["stem"]


def test_an_unknown_layer_is_refused(explainer: Explainer, tiny_pictures: Path) -> None:
    with pytest.raises(RequestError, match="stem, body"):
        profile_images(explainer, folder_images(tiny_pictures, INPUT_SIZE), layer="nose")


def test_too_many_words_to_score(
    explainer: Explainer, monkeypatch: pytest.MonkeyPatch, tomato: Path
) -> None:
    monkeypatch.setattr("lavise.explainer.MAX_PROFILE_WORDS", 5)
    with pytest.raises(RequestError, match="accept up to 5"):
        explainer.profile([prepare(tomato.read_bytes(), INPUT_SIZE)])


def test_heat_maps_are_the_positive_maps(explainer: Explainer, tomato: Path) -> None:
    pixels = prepare(tomato.read_bytes(), INPUT_SIZE)
    options = ExplainOptions(layer="body", all_filters=True, heatmaps=True)
    [found] = explainer.explain([pixels], options)
    assert found.heatmaps is not None
    layer = explainer.layer("body")
    assert found.heatmaps.shape == (layer.channels, layer.height, layer.width)
    top = found.heatmaps.max(axis=(1, 2))
    assert (top[found.activation > 0] == 255).all()
    assert (top[found.activation <= 0] == 0).all()
    [plain] = explainer.explain([pixels], ExplainOptions(layer="body"))
    assert plain.heatmaps is None
