import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise import bundle as bundles
from lavise.bundle import MANIFEST, layer_file, open_bundle, write_manifest, writing
from lavise.errors import BundleError, EnvironmentProblem, LaviseError
from lavise.explainer import Explainer
from lavise.graph_terms import GRAPH_METHODS
from lavise.manifest import SCHEMA_VERSION, Manifest
from lavise.tensors import write_tensors
from tests.full_disk import no_file_over
from tests.tiny_cnn import LAYERS


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle to spoil."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def files_of(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def open_manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / MANIFEST).read_bytes())


def rewrite_manifest(folder: Path, change: Callable[[Manifest], dict[str, object]]) -> None:
    """Changes a manifest and gives it the checksum that goes with it, as a forger would."""
    manifest = open_manifest(folder)
    changed = manifest.model_copy(update=change(manifest) | {"checksum": ""})
    text = changed.model_dump_json(indent=2)
    checksum = bundles._checksum(text.encode())
    (folder / MANIFEST).write_text(text.replace('"checksum": ""', f'"checksum": "{checksum}"'))


def test_what_was_written_is_what_opens(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert files_of(tiny_bundle) == sorted([*bundle.manifest.files, MANIFEST])
    assert bundle.digest == bundles.sha256(tiny_bundle / MANIFEST)
    assert len(bundle.words()) == bundle.manifest.vocabulary.size
    for layer in LAYERS:
        assert bundle.file("mapper", layer, "safetensors").is_file()
        for method in GRAPH_METHODS:
            assert bundle.file("words", layer, f"{method}.onnx").is_file()
            assert bundle.file("words", layer, f"{method}.many.onnx").is_file()
    assert not [file for file in tiny_bundle.iterdir() if b"cpickle" in file.read_bytes().lower()]


def test_one_byte_flipped_in_any_file_is_found(copy: Path) -> None:
    rng = np.random.default_rng(0)
    for name in files_of(copy):
        whole = (copy / name).read_bytes()
        places = {0, len(whole) // 2, len(whole) - 2, *rng.integers(0, len(whole), 3).tolist()}
        for place in places:
            spoilt = bytearray(whole)
            spoilt[place] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(spoilt)
            with pytest.raises(BundleError) as caught:
                open_bundle(copy)
            assert name in {MANIFEST, caught.value.field}
        (copy / name).write_bytes(whole)
    open_bundle(copy)


def test_no_byte_of_the_manifest_can_change_unseen(copy: Path) -> None:
    whole = (copy / MANIFEST).read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(0, len(whole), 300).tolist():
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        (copy / MANIFEST).write_bytes(spoilt)
        with pytest.raises(BundleError):
            open_bundle(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    for name in files_of(copy):
        (copy / name).rename(copy / "elsewhere")
        with pytest.raises(BundleError, match=f"{MANIFEST}|lacks its file {name}") as caught:
            open_bundle(copy)
        assert caught.value.field == name
        (copy / "elsewhere").rename(copy / name)


def test_a_file_cut_short_is_named(copy: Path) -> None:
    for name in files_of(copy):
        whole = (copy / name).read_bytes()
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            (copy / name).write_bytes(whole[:length])
            with pytest.raises(BundleError) as caught:
                open_bundle(copy)
            assert caught.value.field == name
        (copy / name).write_bytes(whole)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[1]", b'"schema_version"', b"null", b"{}", b"[" * 100_000, b"{" * 10],
)
def test_manifest_that_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(tmp_path)


def test_no_bundle_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        with pytest.raises(BundleError, match=r"is no bundle.*lavise teach"):
            open_bundle(path)


@pytest.mark.parametrize("version", [0, 1, 99, "1.1", None])
def test_another_schema_is_refused(version: object, copy: Path) -> None:
    text = json.loads((copy / MANIFEST).read_text())
    text["schema_version"] = version
    (copy / MANIFEST).write_text(json.dumps(text))
    with pytest.raises(
        BundleError, match=f"schema version {version}; this LaViSE reads {SCHEMA_VERSION}"
    ):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/b", "..", ".", "", "a\0b"])
def test_no_name_leads_out_of_the_bundle(name: str, copy: Path) -> None:
    (copy.parent / "secret").write_text("x")
    rewrite_manifest(copy, lambda m: {"files": m.files | {name: "0" * 64}})
    with pytest.raises(BundleError) as caught:
        open_bundle(copy)
    assert caught.value.field == name


def test_a_file_that_serving_opens_must_be_listed(copy: Path) -> None:
    """Else it would be read unchecked."""
    manifest = (copy / MANIFEST).read_bytes()
    for name in set(files_of(copy)) - {MANIFEST}:

        def without(m: Manifest, name: str = name) -> dict[str, object]:
            return {"files": {other: sha for other, sha in m.files.items() if other != name}}

        rewrite_manifest(copy, without)
        with pytest.raises(BundleError, match=f"does not list {name}"):
            open_bundle(copy)
        (copy / MANIFEST).write_bytes(manifest)


def test_words_with_odd_separators_stay_whole(copy: Path) -> None:
    """GloVe has words with a no-break space; other vectors have worse."""
    odd = ["next\x85line", "line\u2028separator", "form\x0cfeed", "carriage\rreturn", "\u00a0"]
    (copy / "vocabulary.txt").write_bytes("".join(f"{word}\n" for word in odd).encode())
    rewrite_manifest(
        copy,
        lambda m: {"files": m.files | {"vocabulary.txt": bundles.sha256(copy / "vocabulary.txt")}},
    )
    assert open_bundle(copy).words() == odd


@given(a=st.text(min_size=1), b=st.text(min_size=1))
def test_layers_never_share_a_file(a: str, b: str) -> None:
    name = layer_file("mapper", a, "safetensors")
    assert (name == layer_file("mapper", b, "safetensors")) == (a == b)
    assert Path(name).name == name
    assert name.isascii()
    assert name.isprintable()


class CrashError(Exception):
    """Something went wrong in the middle."""


def write_half(path: Path, crash: type[BaseException]) -> None:
    with writing(path) as folder:
        (folder / "cnn.onnx").write_bytes(b"half of it")
        raise crash("stop")


@pytest.mark.parametrize("crash", [CrashError, KeyboardInterrupt, BundleError])
def test_a_crash_keeps_the_old_bundle(crash: type[BaseException], copy: Path) -> None:
    digest = open_bundle(copy).digest
    with pytest.raises(crash):
        write_half(copy, crash)
    assert open_bundle(copy).digest == digest
    assert files_of(copy.parent) == ["bundle"]


def test_a_crash_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        write_half(tmp_path / "a" / "b", CrashError)
    assert files_of(tmp_path / "a") == []


def write_tensors_into(folder: Path) -> None:
    write_tensors(folder / "vocabulary.safetensors", {"vocabulary": np.zeros(100_000)})


def write_bytes_into(folder: Path) -> None:
    (folder / "cnn.onnx").write_bytes(bytes(400_000))


@pytest.mark.parametrize("write", [write_tensors_into, write_bytes_into])
def test_a_full_disk_keeps_the_old_bundle(write: Callable[[Path], None], copy: Path) -> None:
    digest = open_bundle(copy).digest
    with (
        no_file_over(100_000),
        pytest.raises(EnvironmentProblem, match="could not be written") as caught,
        writing(copy) as folder,
    ):
        write(folder)
    assert caught.value.field == "out"
    assert open_bundle(copy).digest == digest
    assert files_of(copy.parent) == ["bundle"]


def test_a_disk_that_fills_up_late_keeps_the_old_bundle(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    digest = open_bundle(copy).digest
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match="No space left on device"), writing(copy) as new:
        (new / MANIFEST).write_text("{}")
    assert open_bundle(copy).digest == digest
    assert files_of(copy.parent) == ["bundle"]


def test_a_rename_that_fails_brings_the_old_bundle_back(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, rename = open_bundle(copy).digest, Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if target == copy and not self.name.endswith(".old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(EnvironmentProblem), writing(copy) as new:
        (new / MANIFEST).write_text("{}")
    assert open_bundle(copy).digest == digest
    assert files_of(copy.parent) == ["bundle"]


def test_the_old_bundle_is_replaced(copy: Path) -> None:
    before = open_bundle(copy)
    with writing(copy) as folder:
        for name in before.manifest.files:
            shutil.copy(copy / name, folder / name)
        write_manifest(folder, before.manifest.model_copy(update={"name": "other"}))
    after = open_bundle(copy)
    assert after.manifest.name == "other"
    assert after.digest != before.digest
    assert after.manifest.files == before.manifest.files
    assert files_of(copy.parent) == ["bundle"]
    assert copy.stat().st_mode & 0o777 == 0o755


def test_what_a_link_leads_to_is_replaced(copy: Path) -> None:
    link = copy.parent / "current"
    link.symlink_to("bundle")
    with writing(link) as folder:
        (folder / MANIFEST).write_text("{}")
    assert link.is_symlink()
    assert (copy / MANIFEST).read_text() == "{}"
    assert files_of(copy.parent) == ["bundle", "current"]


def test_other_peoples_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("likewise")
    for name in ("folder", "file"):
        with pytest.raises(BundleError, match="is no bundle") as caught, writing(tmp_path / name):
            pytest.fail("a folder was given out")
        assert caught.value.field == "out"
    assert files_of(tmp_path) == ["file", "folder"]


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with writing(tmp_path / "out") as folder:
        (folder / MANIFEST).write_text("{}")
    assert files_of(tmp_path / "out") == [MANIFEST]


def test_a_parent_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaviseError, match="could not be written"), writing(tmp_path / "file" / "b"):
        pytest.fail("a folder was given out")


def test_a_wrong_catalog_is_named(copy: Path) -> None:
    """Listed and unchanged, but not what its name says."""
    name = layer_file("catalog", LAYERS[0], "parquet")
    shutil.copy(copy / layer_file("catalog", LAYERS[1], "parquet"), copy / name)
    write_manifest(copy, open_manifest(copy))
    with pytest.raises(BundleError, match="has 12 filters; layer 'stem' has 8"):
        Explainer.open(copy, device="cpu")
    (copy / name).write_bytes(b"PAR1")
    write_manifest(copy, open_manifest(copy))
    with pytest.raises(BundleError, match="no readable catalog"):
        Explainer.open(copy, device="cpu")
