"""soft-WPMI's labels beside the others, from a table that the caller gives."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from lavise.bundle import open_bundle
from lavise.errors import DatasetError
from lavise.evaluate.evaluation import EvaluationOptions, evaluate
from lavise.evaluate.page import render_page
from lavise.evaluate.similarities import read_similarities
from tests.lavise.evaluate.patches import Patches
from tests.tiny_cnn import COLOURS, INPUT_SIZE

IMAGES = 24


def write(file: Path, columns: dict[str, np.ndarray]) -> Path:
    table = pa.table(columns)
    if file.suffix == ".parquet":
        parquet.write_table(table, file)
    else:
        csv.write_csv(table, file)
    return file


@pytest.mark.parametrize("name", ["similarities.csv", "similarities.parquet"])
def test_labels_of_a_model_that_knows_everything(
    name: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    dataset = Patches(IMAGES)
    shown = [{r.category for r in dataset.fetch(i, INPUT_SIZE).regions} for i in range(IMAGES)]
    columns = {c.upper(): np.array([float(c in one) for one in shown]) for c in COLOURS}
    columns["nothing of the dataset"] = np.zeros(IMAGES)
    file = write(tmp_path / name, columns)
    options = EvaluationOptions(similarities=file)
    found = evaluate(open_bundle(tiny_bundle), dataset, options, device="cpu")
    for layer in found.layers:
        sources = [row.source for row in layer.filter_words]
        assert sources == ["catalog", "netdissect", "soft-wpmi"]
        value = layer.filter_words[-1].hit["5"].value
        assert value is not None
        assert value >= 0.5
        [labels] = [row for row in layer.labels if row.source == "soft-wpmi"]
        assert labels.filters
        assert labels.scores["auprc"].value is not None
    page = render_page(found, {}, {})
    assert "CLIP-Dissect, soft-WPMI" in page
    assert "Oikarinen and Weng" in page


def test_only_the_images_that_were_drawn(tiny_bundle: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = write(tmp_path / "all.parquet", {c: rng.normal(size=IMAGES) for c in COLOURS})
    options = EvaluationOptions(similarities=file, images=9)
    found = evaluate(open_bundle(tiny_bundle), Patches(IMAGES), options, device="cpu")
    assert found.measured.images == 9
    assert all(layer.filter_words[-1].source == "soft-wpmi" for layer in found.layers)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"snow": [0.1, 0.2]}, "2 rows and 1 columns"),
        ({"snow": [0.1, 0.2, np.nan]}, "'snow' that is no finite number"),
        ({"snow": ["a", "b", "c"]}, "a column 'snow' of string"),
        ({"fog": [1.0, 2.0, 3.0], "snow": [1.0, None, 2.0]}, "'snow' that is no finite number"),
    ],
)
@pytest.mark.parametrize("name", ["wrong.csv", "wrong.parquet"])
def test_tables_that_do_not_fit(
    columns: dict[str, list[object]], why: str, name: str, tmp_path: Path
) -> None:
    file = write(tmp_path / name, columns)  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=why) as caught:
        read_similarities(file, 3)
    assert caught.value.field == "similarities"
    assert "a row for each of the dataset's 3 images" in caught.value.message


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_similarities(tmp_path / name, 3)
    for name in ("noise.csv", "noise.parquet"):
        (tmp_path / name).write_bytes(b"\x00\xff\n\x80" * 50)
        with pytest.raises(DatasetError):
            read_similarities(tmp_path / name, 3)
