import hmac
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from lavise.errors import SpecError
from lavise_service.companion.problems import Unauthenticated
from lavise_service.companion.tokens import ANONYMOUS, Tokens

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdefgh=="
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def write(file: Path, text: str, mode: int = 0o600) -> Path:
    """Replaces the file as rotation does, with a time of its own even on a coarse clock."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(file)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(
        tmp_path / "tokens",
        f"# who may ask\n\nalice {ALICE}\nbob {BOB} 2030-06-01T00:00:00Z\n",
    )


def test_each_token_has_a_name(file: Path) -> None:
    tokens = Tokens(file, SecretStr("carol=carol-0123456789abcd, dave=dave-0123456789abcdef=="))
    assert tokens.check(f"Bearer {ALICE}", NOW) == "alice"
    assert tokens.check(f"bearer  {BOB}", NOW) == "bob"
    assert tokens.check("BEARER carol-0123456789abcd", NOW) == "carol"
    assert tokens.check("Bearer dave-0123456789abcdef==", NOW) == "dave"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        ALICE,
        f"Basic {ALICE}",
        f"Bearer {ALICE}x",
        f"Bearer {ALICE[:-1]}",
        f"Bearer {ALICE.upper()}",
        f"Bearer alice {ALICE}",
        f"Bearer {ALICE} {BOB}",
        "Bearer \ud800\x00é",
        f"Bearer {ALICE}{'x' * 100_000}",
    ],
)
def test_all_else_is_refused_in_the_same_words(file: Path, header: str | None) -> None:
    with pytest.raises(Unauthenticated) as raised:
        Tokens(file).check(header, NOW)
    with pytest.raises(Unauthenticated) as expired:
        Tokens(file).check(f"Bearer {BOB}", NOW + timedelta(days=365))
    assert raised.value.message == expired.value.message
    assert raised.value.field == "authorization"


@given(st.text())
def test_no_text_opens_the_door(header: str) -> None:
    tokens = Tokens(None, SecretStr(f"alice={ALICE}"))
    for sent in (header, f"Bearer {header}"):
        with pytest.raises(Unauthenticated):
            tokens.check(sent)


def test_a_token_ends_at_its_time(file: Path) -> None:
    tokens = Tokens(file)
    end = datetime(2030, 6, 1, tzinfo=UTC)
    assert tokens.check(f"Bearer {BOB}", end - timedelta(microseconds=1)) == "bob"
    with pytest.raises(Unauthenticated):
        tokens.check(f"Bearer {BOB}", end)


def test_the_clock_is_asked_where_no_time_is_given(tmp_path: Path) -> None:
    write(tmp_path / "t", f"a {ALICE} 2001-01-01\nb {BOB} 9999-01-01T00:00\n")
    tokens = Tokens(tmp_path / "t")
    assert tokens.check(f"Bearer {BOB}") == "b"
    with pytest.raises(Unauthenticated):
        tokens.check(f"Bearer {ALICE}")


def test_every_token_is_compared_whichever_fits(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[int] = []
    real = hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append(len(a) + len(b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    tokens = Tokens(file)
    tokens.check(f"Bearer {ALICE}", NOW)
    for header in (None, "Bearer wrong", f"Basic {ALICE}"):
        with pytest.raises(Unauthenticated):
            tokens.check(header, NOW)
    assert compared == [64] * 8  # two tokens, four calls, digests of 32 bytes


def test_without_tokens_everybody_is_anonymous() -> None:
    assert Tokens().check(None) == ANONYMOUS
    assert Tokens(None, SecretStr("")).check("Bearer whatever") == ANONYMOUS


def test_a_file_without_tokens_lets_nobody_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens(write(tmp_path / "t", "# nobody yet\n"))
    assert "lets nobody in" in caplog.text
    with pytest.raises(Unauthenticated):
        tokens.check(None)


def test_tokens_change_without_a_restart(file: Path) -> None:
    tokens = Tokens(file, SecretStr("carol=carol-0123456789abcd"))
    write(file, f"bob {BOB}\n")
    assert tokens.check(f"Bearer {BOB}") == "bob"
    assert tokens.check("Bearer carol-0123456789abcd") == "carol"
    with pytest.raises(Unauthenticated):
        tokens.check(f"Bearer {ALICE}")


def test_a_broken_change_is_reported_once_and_the_old_tokens_stay(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens(file)
    write(file, "alice short\n")
    for _ in range(3):
        assert tokens.check(f"Bearer {ALICE}") == "alice"
    file.unlink()
    for _ in range(3):
        assert tokens.check(f"Bearer {ALICE}") == "alice"
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    write(file, f"bob {BOB}\n")
    assert tokens.check(f"Bearer {BOB}") == "bob"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_reads_is_warned_of(
    file: Path, caplog: pytest.LogCaptureFixture, mode: int, *, warned: bool
) -> None:
    file.chmod(mode)
    Tokens(file)
    assert ("read by everybody" in caplog.text) is warned


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("alice\n", "line 1"),
        (f"\nalice {ALICE} 2030-01-01 more\n", "line 2"),
        ("alice 0123456789abcde\n", "at least 16"),
        (f"alice {ALICE}é\n", "letters, digits"),
        (f"alice {ALICE} tomorrow\n", "ISO 8601"),
        (f"{ALICE * 9} alice-of-wonderland\n", "the name is not accepted"),
        (f"alice {ALICE}\nbob {ALICE}\n", "'alice' and 'bob' have the same token"),
    ],
)
def test_a_wrong_file_is_refused_without_saying_a_token(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(SpecError, match=told) as raised:
        Tokens(write(tmp_path / "t", text))
    assert ALICE not in raised.value.message
    assert "0123456789abcde" not in raised.value.message


@pytest.mark.parametrize("text", ["alice", "alice=short", f"={ALICE}", f"a b={ALICE}"])
def test_wrong_pairs_are_refused_without_saying_a_token(text: str) -> None:
    with pytest.raises(SpecError, match="LAVISE_TOKENS, entry 1") as raised:
        Tokens(None, SecretStr(text))
    assert ALICE not in raised.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read: No such file"):
        Tokens(tmp_path / "missing")
    binary = tmp_path / "binary"
    binary.write_bytes(os.urandom(64) + b"\xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        Tokens(binary)
