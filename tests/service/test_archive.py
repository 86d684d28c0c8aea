import errno
import json
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from lavise.errors import BundleError, EnvironmentProblem, RequestError
from lavise_service.archive import WorkerConfig, write_archive


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the archive takes for a bundle: a folder with a manifest."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    (bundle / "cnn.onnx").write_bytes(bytes(range(256)) * 64)
    return bundle


def test_holds_handler_config_and_bundle(folder: Path, tmp_path: Path) -> None:
    config = WorkerConfig(workers=2, batch_size=4, max_batch_delay_ms=3, threads=1)
    path = write_archive(folder, tmp_path / "store", name="birds", config=config)
    assert path == tmp_path / "store" / "birds.mar"
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        settings = yaml.safe_load(archive.read(manifest["model"]["configFile"]))
        assert manifest["model"]["modelName"] == "birds"
        assert b"def handle(" in archive.read(manifest["model"]["handler"])
        assert archive.read("bundle/cnn.onnx") == (folder / "cnn.onnx").read_bytes()
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    assert settings == {
        "minWorkers": 2,
        "maxWorkers": 2,
        "batchSize": 4,
        "maxBatchDelay": 3,
        "responseTimeout": 120,
        "lavise": {"threads": 1},
    }


def test_the_same_bundle_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first = write_archive(folder, tmp_path / "a").read_bytes()
    (folder / "cnn.onnx").touch()
    assert write_archive(folder, tmp_path / "b").read_bytes() == first


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no manifest\.json.*lavise teach"):
        write_archive(tmp_path, tmp_path / "store")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "-a", "ä", "a b", "a\n"])
def test_a_name_that_torchserve_refuses_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="is not accepted"):
        write_archive(folder, tmp_path / "store", name=name)


def test_a_full_disk_leaves_the_older_archive(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = write_archive(folder, tmp_path / "store")
    before = older.read_bytes()
    (folder / "cnn.onnx").write_bytes(b"newer")

    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        write_archive(folder, tmp_path / "store")
    assert older.read_bytes() == before
    assert list((tmp_path / "store").iterdir()) == [older]
