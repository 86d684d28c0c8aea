import errno
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from lavise.bundle import open_bundle
from lavise.errors import BundleError, EnvironmentProblem, RequestError, SpecError
from lavise_service.archive import WorkerConfig, write_archive


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_holds_handler_config_and_bundle(bundle: Path, tmp_path: Path) -> None:
    (bundle / "notes.txt").write_text("not of the bundle")
    config = WorkerConfig(workers=2, batch_size=4, max_batch_delay_ms=3, threads=1)
    path = write_archive(bundle, tmp_path / "store", name="birds", config=config)
    assert path == tmp_path / "store" / "birds.mar"
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        settings = yaml.safe_load(archive.read(manifest["model"]["configFile"]))
        assert manifest["model"]["modelName"] == "birds"
        assert b"def handle(" in archive.read(manifest["model"]["handler"])
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert not [name for name in archive.namelist() if "notes" in name]
        archive.extractall(tmp_path / "unpacked")
    assert open_bundle(tmp_path / "unpacked" / "bundle").digest == open_bundle(bundle).digest
    assert settings == {
        "minWorkers": 2,
        "maxWorkers": 2,
        "batchSize": 4,
        "maxBatchDelay": 3,
        "responseTimeout": 120,
        "lavise": {"threads": 1},
    }


@pytest.mark.parametrize("field", ["workers", "batch_size", "max_batch_delay_ms"])
def test_a_setting_that_torchserve_would_ignore_is_refused(field: str) -> None:
    with pytest.raises(SpecError, match=f"{field} is 0; accepted: 1 or more"):
        WorkerConfig(**{field: 0})


def test_the_same_bundle_makes_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    first = write_archive(bundle, tmp_path / "a").read_bytes()
    (bundle / "cnn.onnx").touch()
    assert write_archive(bundle, tmp_path / "b").read_bytes() == first


def test_no_bundle_and_a_damaged_one_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="lavise teach"):
        write_archive(tmp_path, tmp_path / "store")
    with (bundle / "vocabulary.txt").open("a") as words:
        words.write("x")
    with pytest.raises(BundleError, match=r"vocabulary\.txt"):
        write_archive(bundle, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../a", "-a", "ä", "a b", "a\n"])
def test_a_name_that_torchserve_refuses_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is not accepted"):
        write_archive(bundle, tmp_path / "store", name=name)


def test_a_full_disk_leaves_the_older_archive(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = write_archive(bundle, tmp_path / "store")
    before = older.read_bytes()

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        write_archive(bundle, tmp_path / "store")
    assert older.read_bytes() == before
    assert list((tmp_path / "store").iterdir()) == [older]
