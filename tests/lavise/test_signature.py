"""Signed bundles: who opens what, and what a forger may do."""

import base64
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from lavise.bundle import MANIFEST, open_bundle
from lavise.catalog import make_catalog
from lavise.errors import BundleError, EnvironmentProblem, LaviseError, SpecError
from lavise.image_set import folder_images
from lavise.signature import SIGNATURE, VARIABLE
from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.torchserve import TorchServe
from tests.command_line import lavise, refused
from tests.forgery import sealed
from tests.tiny_cnn import INPUT_SIZE


@dataclass(frozen=True)
class Keys:
    """A pair of keys in files."""

    private: Path
    public: Path


def write_keys(
    folder: Path,
    name: str,
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | None = None,
    protection: KeySerializationEncryption | None = None,
) -> Keys:
    key = key or ed25519.Ed25519PrivateKey.generate()
    made = Keys(folder / f"{name}.pem", folder / f"{name}.pub")
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption())
    made.private.write_bytes(text)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    made.public.write_bytes(public)
    return made


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return write_keys(tmp_path, "own")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def signed(bundle: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signed bundle, and an environment that asks for the signature."""
    done = lavise("sign", bundle, "--key", keys.private)
    assert done.exit_code == 0, done.stderr
    monkeypatch.setenv(VARIABLE, str(keys.public))
    return bundle


def test_a_signed_bundle_opens(signed: Path) -> None:
    opened = open_bundle(signed)
    assert opened.verified
    assert SIGNATURE not in opened.manifest.files
    assert "of a key in LAVISE_BUNDLE_KEY" in lavise("inspect", signed).stdout


def test_nobody_needs_a_signature_who_asks_for_none(
    signed: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert not open_bundle(signed).verified
    assert "not verified" in lavise("inspect", signed).stdout
    assert not open_bundle(tiny_bundle).verified


def test_an_unsigned_bundle_is_refused(signed: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="is not signed") as caught:
        open_bundle(tiny_bundle)
    assert caught.value.field == SIGNATURE
    assert "is not signed" in lavise("inspect", tiny_bundle).stderr
    assert open_bundle(tiny_bundle, trusted=True).digest == open_bundle(signed).digest


def test_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    other = write_keys(tmp_path, "other")
    assert lavise("sign", signed, "--key", other.private).exit_code == 0
    with pytest.raises(BundleError, match="is of no key in LAVISE_BUNDLE_KEY"):
        open_bundle(signed)


def test_any_of_several_keys_will_do(
    signed: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = tmp_path / "both.pub"
    other = write_keys(tmp_path, "other")
    both.write_bytes(other.public.read_bytes() + b"# ours\n" + keys.public.read_bytes())
    monkeypatch.setenv(VARIABLE, str(both))
    assert open_bundle(signed).verified


def test_what_a_good_forger_changes_is_found(signed: Path) -> None:
    words = (signed / "vocabulary.txt").read_bytes().replace(b"tomato", b"potato")
    (signed / "vocabulary.txt").write_bytes(words)
    manifest = (signed / MANIFEST).read_bytes()
    (signed / MANIFEST).write_bytes(sealed(manifest, {"vocabulary.txt": words}))
    assert open_bundle(signed, trusted=True).words().count("potato") == 1
    with pytest.raises(BundleError, match="or the bundle was changed since"):
        open_bundle(signed)


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"x", b"AAAA", base64.b64encode(bytes(64)), b"A" * 10**6, b"\xff\x00"]
)
def test_what_is_no_signature_is_refused(signed: Path, text: bytes) -> None:
    (signed / SIGNATURE).write_bytes(text)
    with pytest.raises(BundleError, match="signature"):
        open_bundle(signed)


def test_a_changed_bundle_loses_its_signature(signed: Path, tiny_pictures: Path) -> None:
    made = make_catalog(open_bundle(signed), folder_images(tiny_pictures, INPUT_SIZE), device="cpu")
    assert not (made.path / SIGNATURE).exists()
    with pytest.raises(BundleError, match="is not signed"):
        open_bundle(signed)


def test_an_archive_carries_the_signature(signed: Path, tmp_path: Path) -> None:
    path = write_archive(signed, tmp_path / "store")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert open_bundle(tmp_path / "unpacked" / "bundle").verified


@pytest.mark.server
def test_a_worker_serves_no_unsigned_bundle(
    tiny_bundle: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tiny_bundle, tmp_path / "store", config=WorkerConfig(threads=1))
    monkeypatch.setenv(VARIABLE, str(keys.public))
    with pytest.raises(EnvironmentProblem) as caught:
        TorchServe(tmp_path / "store").start()
    assert "is not signed" in caught.value.message


def test_openssl_makes_the_same(signed: Path, keys: Keys, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    command: list[str | Path] = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", keys.private]
    command += ["-in", signed / MANIFEST, "-out", raw]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this openssl signs nothing by Ed25519")
    assert base64.b64decode((signed / SIGNATURE).read_bytes()) == raw.read_bytes()


def test_keys_of_another_kind_are_refused(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = write_keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    locked = write_keys(tmp_path, "locked", protection=BestAvailableEncryption(b"secret"))
    (tmp_path / "none.pem").write_text("no key")
    for file in (curve.private, locked.private, tmp_path / "none.pem"):
        refused(lavise("sign", bundle, "--key", file), "openssl genpkey -algorithm ed25519")
    refused(lavise("sign", bundle, "--key", tmp_path / "missing.pem"), "No such file")
    for file, told in (
        (curve.public, "another key than Ed25519"),
        (tmp_path / "none.pem", "holds no public key"),
        (tmp_path / "missing.pub", "cannot be read"),
    ):
        monkeypatch.setenv(VARIABLE, str(file))
        with pytest.raises(SpecError, match=told) as caught:
            open_bundle(bundle)
        assert caught.value.field == VARIABLE


def test_a_damaged_bundle_is_not_signed(bundle: Path, keys: Keys) -> None:
    (bundle / "cnn.onnx").write_bytes(b"")
    assert "is damaged" in lavise("sign", bundle, "--key", keys.private).stderr
    with pytest.raises(LaviseError):
        open_bundle(bundle)
    assert not (bundle / SIGNATURE).exists()
