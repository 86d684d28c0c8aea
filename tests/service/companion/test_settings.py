import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lavise.errors import SpecError
from lavise_service.companion.settings import Address, Settings, settings_table

ROOT = Path(__file__).parents[3]
SECRET = "alice=0123456789abcdef"  # noqa: S105 - no secret
OPEN = "0.0.0.0:50051"


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("LAVISE_"):
            monkeypatch.delenv(name)


def test_the_table_in_the_docs_is_that_of_the_code() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert settings_table() in page, "run: python scripts/make_settings_table.py"


def test_every_setting_is_described() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_defaults_keep_to_this_machine() -> None:
    settings = Settings()
    assert settings.grpc_listen == Address("127.0.0.1", 50051)
    assert settings.http_listen.is_loopback
    assert settings.allowed_uris == ()
    assert settings.tokens is None


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GRPC_LISTEN": "[::1]:0",
        "ALLOWED_URIS": "file:///data/x, s3://bucket/y",
        "MAX_IMAGE_BYTES": "5MiB",
        "TOKENS": SECRET,
        "TOKENS_FILE": "/run/tokens",
        "RETENTION_DAYS": "",
        "SERVICE_HOST": "10.0.0.1",  # what Kubernetes sets for a service called lavise
    }.items():
        monkeypatch.setenv(f"LAVISE_{name}", value)
    settings = Settings()
    assert settings.grpc_listen == Address("::1", 0)
    assert str(settings.grpc_listen) == "[::1]:0"
    assert settings.allowed_uris == ("file:///data/x", "s3://bucket/y")
    assert settings.max_image_bytes == 5 * 2**20
    assert settings.tokens_file == Path("/run/tokens")
    assert settings.retention_days == 30
    assert SECRET not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRPC_LISTEN", "50051"),
        ("GRPC_LISTEN", "127.0.0.1:65536"),
        ("GRPC_LISTEN", "::1:80"),
        ("HTTP_LISTEN", "http://127.0.0.1:80"),
        ("TORCHSERVE", ":7070"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "a month"),
        ("ALLOWED_URIS", "http://example.org/"),
        ("ALLOWED_URIS", "file://host/data"),
        ("S3_ENDPOINT", "127.0.0.1:9000"),
        ("S3_ENDPOINT", "http://user:password@host"),
        ("MAX_IMAGE_BYTES", "1TiB"),
        ("MAX_ARCHIVE_RATIO", "0"),
        ("EXPLAIN_TIMEOUT_S", "nan"),
        ("PROFILE_BATCH", "1e99"),
        ("ALLOW_ANONYMOUS", "perhaps"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"LAVISE_{name}", value)
    with pytest.raises(SpecError) as raised:
        Settings()
    assert raised.value.message.startswith(f"LAVISE_{name} is {value!r}; accepted: ")
    assert raised.value.field == f"LAVISE_{name}"


def test_a_secret_is_never_said() -> None:
    with pytest.raises(SpecError) as raised:
        Settings(tokens=[SECRET])
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_setting_that_is_none_is_named() -> None:
    with pytest.raises(SpecError, match="there is no setting LAVISE_NONSENSE"):
        Settings(nonsense=1)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().model = "other"  # type: ignore[misc]


@pytest.mark.parametrize("door", ["grpc_listen", "http_listen"])
@pytest.mark.parametrize("address", [OPEN, "[::]:1", "192.168.0.7:1", "example.org:1"])
def test_an_open_door_needs_a_guard(door: str, address: str) -> None:
    with pytest.raises(SpecError, match="nothing says who may ask") as raised:
        Settings(**{door: address})
    assert raised.value.field == f"LAVISE_{door.upper()}"
    assert Settings(**{door: address}, tokens=SECRET).tokens
    assert Settings(**{door: address}, tokens_file="t").tokens_file
    assert Settings(**{door: address}, tls_cert="c", tls_key="k", tls_client_ca="a").tls_client_ca
    assert Settings(**{door: address}, allow_anonymous=True).allow_anonymous


@pytest.mark.parametrize("address", ["localhost:1", "127.9.9.9:1", "[::1]:1"])
def test_loopback_needs_none(address: str) -> None:
    assert Settings(grpc_listen=address).grpc_listen.is_loopback


def test_tls_alone_says_not_who_may_ask() -> None:
    with pytest.raises(SpecError, match="nothing says who may ask"):
        Settings(grpc_listen=OPEN, tls_cert="c", tls_key="k")


@pytest.mark.parametrize(
    "files", [{"tls_cert": "c"}, {"tls_key": "k"}, {"tls_client_ca": "a"}], ids=str
)
def test_half_of_tls_is_refused(files: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="TLS_"):
        Settings(**files)


@given(st.text())
def test_any_address_is_read_or_refused(text: str) -> None:
    try:
        address = Settings(torchserve=text).torchserve
    except SpecError:
        return
    assert str(address) == text.strip() or address.port == int(text.strip().rpartition(":")[2])
