"""The command line's answers: JSON forms of the messages, and tables."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format

from lavise.bundle import open_bundle
from lavise.catalog_table import read_catalog
from lavise.v1.explain_pb2 import DescribeFiltersResponse, ExplainResponse, GetModelResponse
from tests.command_line import lavise, parsed
from tests.tiny_cnn import CHANNELS, DEAD_FILTER, LAYERS, SPEC


def verdict_of(bundle: Path, index: int) -> str:
    catalog = read_catalog(open_bundle(bundle), "body")
    assert catalog is not None
    return catalog.verdict[index]


def test_explain_json_is_an_explain_response(
    tiny_bundle: Path, tiny_pictures: Path, tomato: Path
) -> None:
    snow = tiny_pictures / "snow" / "01.png"
    asked = ["--layer", "body", "--filters", f"3,{DEAD_FILTER}", "--top-k", "2", "--json"]
    result = lavise("explain", tiny_bundle, tomato, snow, *asked)

    response = parsed(result, ExplainResponse())
    assert [image.source for image in response.images] == [str(tomato), str(snow)]
    assert response.bundle_digest == open_bundle(tiny_bundle).digest
    first = response.images[0]
    assert [p.label for p in first.predictions][:1] == ["lemon"]
    active, dead = first.filters
    assert (active.layer, active.index, active.inactive) == ("body", 3, False)
    assert active.words[0].word == "tomato"
    assert len(active.words) == 2
    assert (dead.index, dead.inactive, list(dead.words)) == (DEAD_FILTER, True, [])
    assert active.HasField("threshold")
    assert active.HasField("qualified")
    assert {row["verdict"] for row in json.loads(result.stdout)["images"][0]["filters"]} <= {
        "described",
        "uninterpretable",
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], CHANNELS["stem"]),  # the ten most active filters, of a layer that has eight
        (["--layer", "body"], 10),
        (["--most-active", "3"], 3),
        (["--all-filters", "--layer", "body"], CHANNELS["body"]),
        (["--filters", "7,0"], 2),
    ],
)
def test_explain_selects_filters(
    tiny_bundle: Path, tomato: Path, options: list[str], expected: int
) -> None:
    result = lavise("explain", tiny_bundle, tomato, "--json", *options)

    [image] = parsed(result, ExplainResponse()).images
    assert len(image.filters) == expected
    if "--filters" in options:
        assert [row.index for row in image.filters] == [7, 0]


def test_explain_prints_a_table(tiny_bundle: Path, tomato: Path) -> None:
    result = lavise("explain", tiny_bundle, tomato, "--layer", "body", "--all-filters")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == str(tomato)
    assert lines[1].startswith("the CNN says: lemon 0.5")
    [active] = [line for line in lines if "body/3 " in line]
    [dead] = [line for line in lines if f"body/{DEAD_FILTER} " in line]
    assert "tomato 1.00" in active
    assert verdict_of(tiny_bundle, 3) in active
    assert "(inactive on this image)" in dead


def test_explain_leaves_out_what_it_cannot_read(
    tiny_bundle: Path, tomato: Path, tmp_path: Path
) -> None:
    text = tmp_path / "note.jpg"
    text.write_text("no picture")
    missing = tmp_path / "missing.jpg"
    images = (text, tomato, missing, tmp_path)

    result = lavise("explain", tiny_bundle, *images, "--json")

    assert result.exit_code == 2
    errors = result.stderr.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)
    for line, image in zip(errors, (text, missing, tmp_path), strict=True):
        assert str(image) in line
    response = json_format.Parse(result.stdout, ExplainResponse())
    assert [image.source for image in response.images] == [str(tomato)]


def test_explain_without_any_readable_image_prints_nothing(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    result = lavise("explain", tiny_bundle, tmp_path / "missing.jpg", "--json")

    assert (result.exit_code, result.stdout) == (2, "")


def test_inspect_json_is_a_get_model_response(tiny_bundle: Path) -> None:
    response = parsed(lavise("inspect", tiny_bundle, "--json"), GetModelResponse())

    assert response.model == "tiny"
    assert [layer.name for layer in response.layers] == list(LAYERS)
    assert all(layer.catalog_images == 72 for layer in response.layers)
    assert response.vocabulary_size == 16


def test_inspect_filters_json_is_a_describe_filters_response(tiny_bundle: Path) -> None:
    chosen = lavise("inspect", tiny_bundle, "--layer", "body", "--filters", "3,0", "--json")
    whole = lavise("inspect", tiny_bundle, "--layer", "body", "--json")

    assert [f.index for f in parsed(chosen, DescribeFiltersResponse()).filters] == [3, 0]
    every = parsed(whole, DescribeFiltersResponse())
    assert [f.index for f in every.filters] == list(range(CHANNELS["body"]))
    assert every.next_page_token == ""
    assert every.filters[3].top_images[0].source.endswith(".png")


def test_inspect_says_what_a_bundle_is(tiny_bundle: Path) -> None:
    bundle = lavise("inspect", tiny_bundle).stdout
    filters = lavise("inspect", tiny_bundle, "--layer", "body", "--filters", "3").stdout

    for said in (
        open_bundle(tiny_bundle).digest,
        SPEC,
        "recall@1 1",
        "over 72 images",
        "12 filters",
    ):
        assert said in bundle
    assert "body/3" in filters
    assert verdict_of(tiny_bundle, 3) in filters


@pytest.mark.teach
def test_teach_then_catalog(tiny_pictures: Path, tiny_words: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue\nyellow\n")
    spec = ["--cnn", SPEC, "--layer", "body", "--dataset", f"folder:{tiny_pictures}"]
    words = ["--words", f"file:{tiny_words}", "--vocabulary", "all", "--name", "mine"]
    norm = ["--mean", "0.5,0.5,0.5", "--std", "0.25,0.25,0.5", "--input-size", "48"]
    more: list[str | Path] = ["--class-names", names, "--seed", "3", "--out", out, "--json"]

    taught = parsed(lavise("teach", *spec, *words, *norm, *more), GetModelResponse())

    assert (taught.model, taught.input_size, taught.layers[0].catalog_images) == ("mine", 48, 0)
    manifest = open_bundle(out).manifest
    assert manifest.cnn.std == (63.75, 63.75, 127.5)
    assert manifest.cnn.class_names == ("red", "green", "blue", "yellow")
    assert manifest.mappers[0].seed == 3

    probe = tmp_path / "probe"
    shutil.copytree(tiny_pictures / "ocean", probe)
    (probe / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    described = lavise("catalog", out, "--images", probe, "--json")

    assert parsed(described, GetModelResponse()).layers[0].catalog_images == 12
    assert "broken.png" in described.stderr
    assert parsed(lavise("inspect", out, "--layer", "body", "--json"), DescribeFiltersResponse())


@pytest.mark.teach
def test_teach_taps_an_onnx_file(tiny_pictures: Path, tiny_words: Path, tmp_path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = tmp_path / "colours.onnx"
    W = numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "W")
    shape: list[str | int | None] = ["batch", 3, 32, 32]
    nodes = [
        helper.make_node("Conv", ["x", "W"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["seen"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "seen")]
    made = helper.make_graph(nodes, "colours", ends[:1], ends[1:], [W])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]), graph)
    out = tmp_path / "bundle"
    options = ["--cnn", f"onnx:{graph}", "--tap", "seen", "--dataset", f"folder:{tiny_pictures}"]

    result = lavise(
        "teach", *options, "--words", f"file:{tiny_words}", "--vocabulary", "all", "--out", out
    )

    assert result.exit_code == 0, result.stderr
    assert str(out) in result.stdout
    [layer] = open_bundle(out).manifest.cnn.layers
    assert (layer.name, layer.channels) == ("seen", 3)


def test_archive_json(tiny_bundle: Path, tmp_path: Path) -> None:
    result = lavise("archive", tiny_bundle, "--export-path", tmp_path, "--name", "m", "--json")

    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer == {
        "archive": str(tmp_path / "m.mar"),
        "model": "m",
        "bundleDigest": open_bundle(tiny_bundle).digest,
    }
    assert (tmp_path / "m.mar").is_file()


def test_archive_tells_the_workers_how_to_run(tiny_bundle: Path, tmp_path: Path) -> None:
    asked = ["--workers", "2", "--batch-size", "4", "--threads", "3"]
    result = lavise("archive", tiny_bundle, "--export-path", tmp_path, *asked)

    assert result.exit_code == 0, result.stderr
    with zipfile.ZipFile(tmp_path / "lavise.mar") as archive:
        config = yaml.safe_load(archive.read("model-config.yaml"))
    assert (config["maxWorkers"], config["batchSize"], config["lavise"]) == (2, 4, {"threads": 3})
