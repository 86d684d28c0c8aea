"""The command line: its JSON forms, its tables, and every kind of bad input."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from lavise.bundle import open_bundle
from lavise.cli import app
from lavise.cli.errors import exit_status
from lavise.cli.output import shown
from lavise.v1.explain_pb2 import DescribeFiltersResponse, ExplainResponse, GetModelResponse
from lavise_service.client import RestClient
from lavise_service.torchserve import Ports
from tests.tiny_cnn import CHANNELS, DEAD_FILTER, LAYERS, SPEC, write_words

LAVISE = Path(sys.executable).with_name("lavise")
M = TypeVar("M", bound=Message)


def lavise(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def parsed(result: Result, message: M) -> M:
    """The whole of stdout as a message: nothing else may be there."""
    assert result.exit_code == 0, result.stderr
    return json_format.Parse(result.stdout, message)


def program(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the installed program, as a shell would."""
    return subprocess.run(
        [LAVISE, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture(scope="session")
def tomato(tiny_pictures: Path) -> Path:
    return tiny_pictures / "tomato" / "00.png"


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


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
    assert "uninterpretable" in active
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
    assert "uninterpretable" in filters


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--layer", "stern"], "unknown layer 'stern'; accepted: stem, body"),
        (["--filters", "8"], "filter 8 is out of range; layer 'stem' has filters 0 to 7"),
        (["--filters", "-1"], "filter -1 is out of range"),
        (["--filters", "99999999999"], "filter 99999999999 is out of range"),
        (["--filters", "3,3"], "filter 3 is asked for more than once"),
        (["--filters", "3,x"], "--filters is '3,x'; accepted: indices"),
        (["--filters", ""], "--filters is ''; accepted: indices"),
        (["--filters", "1", "--all-filters"], "give one of filters, most_active and all_filters"),
        (["--most-active", "0"], "most_active is 0; accepted: 1 to 8"),
        (["--top-k", "0"], "top_k is 0; accepted: 1 to 16"),
        (["--top-k", "17"], "top_k is 17; accepted: 1 to 16"),
        (["--method", "guess"], "unknown method 'guess'; accepted: attention"),
    ],
)
def test_explain_refuses(tiny_bundle: Path, tomato: Path, options: list[str], said: str) -> None:
    refused(lavise("explain", tiny_bundle, tomato, *options), said)


@pytest.mark.parametrize("options", [["--filters", "99999999999"], ["--layer", "stern"]])
def test_inspect_refuses(tiny_bundle: Path, options: list[str]) -> None:
    refused(lavise("inspect", tiny_bundle, *options), options[1])


@pytest.mark.parametrize("command", ["explain", "inspect", "catalog", "archive", "serve"])
def test_a_missing_bundle(command: str, tomato: Path, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    words: dict[str, list[str | Path]] = {
        "explain": [missing, tomato],
        "catalog": [missing, "--images", tomato.parent],
        "serve": ["--bundle", missing],
    }
    result = lavise(command, *words.get(command, [missing]))

    refused(result, f"'{missing}' is no bundle", "make one with `lavise teach`")


def test_a_damaged_bundle(own_bundle: Path, tomato: Path) -> None:
    file = own_bundle / "cnn.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)

    refused(lavise("explain", own_bundle, tomato), "cnn.onnx", "is damaged")


def test_a_bundle_without_catalog(own_bundle: Path, tomato: Path) -> None:
    from lavise import bundle as bundles

    manifest = open_bundle(own_bundle).manifest.model_copy(update={"catalogs": ()})
    for file in own_bundle.glob("catalog.*"):
        file.unlink()
    bundles.write_manifest(own_bundle, manifest)

    [image] = parsed(lavise("explain", own_bundle, tomato, "--json"), ExplainResponse()).images
    assert not image.filters[0].HasField("threshold")
    assert "T_f" not in lavise("explain", own_bundle, tomato).stdout
    refused(lavise("explain", own_bundle, tomato, "--method", "activation"), "lavise catalog")
    refused(lavise("inspect", own_bundle, "--layer", "stem"), "has no catalog")
    assert "none; make one with `lavise catalog`" in lavise("inspect", own_bundle).stdout


TEACH = {
    "--cnn": SPEC,
    "--layer": "body",
    "--dataset": "folder:{pictures}",
    "--words": "file:{words}",
    "--vocabulary": "all",
}


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--cnn", "resnet", "unknown CNN spec 'resnet'; accepted: efficientnet_lite0"),
        ("--cnn", "onnx:{tmp}/none.onnx", "there is no file"),
        ("--cnn", "python:tests.tiny_cnn:no_such", "no_such"),
        ("--layer", "nobody", "no layer 'nobody'; layers of"),
        ("--tap", "nothing", "no layer 'nothing'"),
        ("--dataset", "photos", "unknown dataset spec 'photos'; accepted: own-classes"),
        ("--dataset", "folder:{tmp}", "has no usable category; accepted: one folder of images"),
        ("--layer", "stem --dataset own-classes", "needs a layer that feeds the classifier"),
        ("--words", "glove", "word vectors 'glove' are unknown; accepted are glove-50d"),
        ("--words", "file:{tmp}/none.txt", "none.txt"),
        ("--vocabulary", "nouns", "vocabulary 'nouns' is unknown; accepted are concrete-nouns"),
        ("--mean", "0.5,0.5", "--mean is '0.5,0.5'; accepted: three numbers from 0 to 1"),
        ("--mean", "123.7,116.3,103.5", "accepted: three numbers from 0 to 1"),
        ("--std", "0.2,0.2,0", "0 excluded"),
        ("--std", "0.2,0.2,nan", "--std is '0.2,0.2,nan'"),
        ("--class-names", "{tmp}/none.txt", "none.txt' cannot be read"),
        ("--class-names", "{gap}", "no name in line 2"),
    ],
)
def test_teach_refuses(
    tiny_pictures: Path, tiny_words: Path, tmp_path: Path, option: str, value: str, said: str
) -> None:
    gap = tmp_path / "gap.txt"
    gap.write_text("one\n\nthree\n")
    out = tmp_path / "bundle"
    places = {"pictures": tiny_pictures, "words": tiny_words, "tmp": tmp_path, "gap": gap}
    chosen = TEACH | {option: value}
    words = " ".join(text for pair in chosen.items() for text in pair).format(**places).split()

    result = lavise("teach", *words, "--out", out)

    refused(result, said)
    assert result.stdout == ""
    assert not out.exists()
    assert not list(tmp_path.glob(".bundle*"))


def test_teach_keeps_what_is_no_bundle(tmp_path: Path, tiny_pictures: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    spec = ["--cnn", SPEC, "--layer", "body", "--dataset", f"folder:{tiny_pictures}"]
    words = ["--words", f"file:{write_words(tmp_path / 'words.txt')}", "--vocabulary", "all"]

    refused(lavise("teach", *spec, *words, "--out", tmp_path), "exists and is no bundle")

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_catalog_refuses_a_folder_without_images(own_bundle: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    before = open_bundle(own_bundle).digest

    refused(lavise("catalog", own_bundle, "--images", empty), str(empty))

    assert open_bundle(own_bundle).digest == before


def test_archive_refuses_a_name(tiny_bundle: Path, tmp_path: Path) -> None:
    result = lavise("archive", tiny_bundle, "--export-path", tmp_path, "--name", "a/b")

    refused(result, "model name 'a/b' is not accepted")


def test_serve_refuses_two_sources(tiny_bundle: Path, tmp_path: Path) -> None:
    result = lavise("serve", "--bundle", tiny_bundle, "--model-store", tmp_path)

    refused(result, "give one of --bundle and --model-store")


def test_serve_says_that_a_store_is_empty(tmp_path: Path) -> None:
    result = lavise("serve", "--model-store", tmp_path)

    assert result.exit_code == 1  # as when Java is missing: no other option would help
    assert "error: " in result.stderr
    assert "holds no .mar file" in result.stderr


def refused(result: Result, *said: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.output
    for text in said:
        assert text in result.stderr


def test_the_program_ends_as_documented(tiny_bundle: Path, tomato: Path, tmp_path: Path) -> None:
    good = program("explain", tiny_bundle, tomato)
    bad_option = program("explain", tiny_bundle, tomato, "--device", "abacus")
    no_bundle = program("explain", tmp_path, tomato)
    full = subprocess.run(
        ["/bin/sh", "-c", '"$0" "$@" > /dev/full', LAVISE, "explain", tiny_bundle, tomato],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (good.returncode, good.stderr) == (0, "")
    assert "tomato" in good.stdout
    assert (bad_option.returncode, bad_option.stdout) == (2, "")
    assert "abacus" in bad_option.stderr
    assert (no_bundle.returncode, no_bundle.stdout) == (2, "")
    assert no_bundle.stderr.startswith("error: ")
    assert no_bundle.stderr.count("\n") == 1
    assert (full.returncode, full.stderr) == (1, f"error: {os.strerror(errno.ENOSPC)}\n")


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    ended = program("inspect", tmp_path, LAVISE_DEBUG="1")

    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


def test_a_reader_that_leaves_is_no_error(tiny_bundle: Path, tomato: Path) -> None:
    with subprocess.Popen(
        [LAVISE, "explain", tiny_bundle, *[tomato] * 40, "--all-filters"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.teach
def test_a_signal_ends_teaching_and_leaves_nothing(tmp_path: Path) -> None:
    spec = ["--cnn", SPEC, "--layer", "body", "--dataset", "demo"]
    with subprocess.Popen(
        [LAVISE, "teach", *spec, "--out", tmp_path / "bundle"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while process.poll() is None and not list(tmp_path.glob(".bundle*/cnn.onnx")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)  # in the middle of an import, often
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_serve_a_bundle_until_a_signal(tiny_bundle: Path, tomato: Path) -> None:
    ports = Ports.free()
    options = {
        "--port": ports.rest,
        "--management-port": ports.management,
        "--metrics-port": ports.metrics,
        "--grpc-port": ports.grpc,
        "--grpc-management-port": ports.grpc_management,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with subprocess.Popen(
        [LAVISE, "serve", "--bundle", tiny_bundle, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        example = next(line.split() for line in process.stdout if line.startswith("  curl "))
        with RestClient(example[-1].removesuffix("/predictions/lavise")) as rest:
            answer = rest.explain([tomato.read_bytes()], {"mostActive": 1})
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate()
    assert answer["bundleDigest"] == open_bundle(tiny_bundle).digest
    assert (process.returncode, log.splitlines()[-1]) == (0, "stopped")
    ports.check()  # all free again


def test_what_is_imported(tiny_bundle: Path, tomato: Path) -> None:
    # Loading torch takes seconds: commands that only answer must not.
    code = (
        "import sys; from lavise.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "sys.exit(sorted({'torch', 'onnx', 'gensim', 'grpc'} & sys.modules.keys()) or 0)"
    )
    for words in (["--help"], ["explain", tiny_bundle, tomato], ["inspect", tiny_bundle]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def test_unexpected_errors_ask_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("lavise.explainer.Explainer.open", fail)
    result = lavise("inspect", "anything")

    assert result.exit_code == 1
    assert result.stderr.startswith("error: unexpected ZeroDivisionError: two lines. ")
    assert "report" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lavise.catalog", None)
    monkeypatch.delitem(sys.modules, "lavise_service.archive", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "lavise_service.torchserve", raising=False)
    monkeypatch.delitem(sys.modules, "lavise_service.torchserve.process", raising=False)
    result = lavise("serve", "--model-store", tmp_path)

    assert result.exit_code == 1
    assert "needs the package 'httpx', which is not installed: pip install" in result.stderr


def test_exit_status_of_operating_system_errors() -> None:
    assert exit_status(PermissionError(errno.EACCES, "no", "file")) == 2
    assert exit_status(OSError(errno.ENOSPC, "full", "file")) == 1


def test_shown_names_are_printable() -> None:
    assert shown("cat\x1b[2J.jpg") == "cat�[2J.jpg"
    assert shown(os.fsdecode(b"\xff.jpg")) == "�.jpg"
    assert shown("Zürich 猫.jpg") == "Zürich 猫.jpg"
