"""The command line and bad input: exit status 2, one line that helps, nothing lost."""

import shutil
from pathlib import Path

import pytest

from lavise.bundle import open_bundle
from lavise.v1.explain_pb2 import ExplainResponse
from tests.command_line import lavise, parsed, refused
from tests.tiny_cnn import SPEC, write_words


@pytest.fixture
def own_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


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
        ("--loss", "hinge", "a concepts mapper is not taught with hinge; accepted for it: cross-"),
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


@pytest.mark.parametrize(
    ("option", "said"),
    [("--cache", "features could not be kept in"), ("--log", "is no log of a training")],
)
def test_teach_cannot_write_there(
    tiny_pictures: Path, tiny_words: Path, tmp_path: Path, option: str, said: str
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    chosen = TEACH | {option: str(tmp_path / "thesis.txt")}
    words = " ".join(text for pair in chosen.items() for text in pair)
    places = {"pictures": tiny_pictures, "words": tiny_words}

    result = lavise("teach", *words.format(**places).split(), "--out", tmp_path / "bundle")

    assert result.exit_code == 1
    assert said in result.stderr.splitlines()[-1]
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


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
