"""Who may ask: bearer tokens from a file and from the environment.

Only the SHA-256 of each token is kept, and a header is compared with every one of them in
constant time: neither the answer nor how long it takes says how close a guess was, or whether a
token is unknown or expired.
"""

import hashlib
import hmac
import logging
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from lavise.errors import SpecError
from lavise_service.companion.problems import Unauthenticated
from lavise_service.companion.reread import Reread

ANONYMOUS: Final = "anonymous"
SHORTEST: Final = 16
_LONGEST: Final = 4096
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_LOG: Final = logging.getLogger(__name__)
_VARIABLE: Final = "LAVISE_TOKENS"


@dataclass(frozen=True)
class _Token:
    name: str
    digest: bytes
    expires: datetime | None


class Tokens:
    """The tokens that are let in.

    The file is read again when it changes, so that tokens are changed without a restart. A
    changed file that is wrong or gone is reported in the log, and the tokens read before stay.

    Args:
        file: One ``NAME TOKEN [EXPIRES]`` a line, EXPIRES as ISO 8601 (UTC where it names no
            zone); blank lines and those that begin with ``#`` are left out.
        pairs: ``NAME=TOKEN``, several separated by commas.

    Raises:
        SpecError: A token is no token, too short or given twice, or the file cannot be read. The
            message never holds a token.
    """

    def __init__(self, file: Path | None = None, pairs: SecretStr | None = None) -> None:
        self._configured = file is not None or bool(pairs)
        given = _from_pairs(pairs.get_secret_value()) if pairs else []
        self._tokens = Reread(
            [file] if file else [],
            lambda: _distinct([*given, *(_from_file(file) if file else [])]),
        )

    def check(self, authorization: str | None, now: datetime | None = None) -> str:
        """Says who asks.

        Args:
            authorization: The header, ``Bearer TOKEN``; None where there is none.
            now: The time, with its zone; the clock's when left out.

        Returns:
            The name of the token; "anonymous" where no tokens are configured.

        Raises:
            Unauthenticated: No token, a wrong or an expired one; the message is always the same.
        """
        if not self._configured:
            return ANONYMOUS
        scheme, _, sent = (authorization or "")[:_LONGEST].partition(" ")
        digest = _digest(sent.strip())
        found: _Token | None = None
        for token in self._tokens():  # all of them, whichever fits
            if hmac.compare_digest(token.digest, digest):
                found = token
        now = now or datetime.now(UTC)
        if (
            found is None
            or scheme.lower() != "bearer"
            or (found.expires is not None and found.expires <= now)
        ):
            raise Unauthenticated(
                "a valid token is needed; send the header 'authorization: Bearer TOKEN'",
                field="authorization",
            )
        return found.name


def _from_file(file: Path) -> list[_Token]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        mode = stat.S_IMODE(file.stat().st_mode)
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise SpecError(f"{file}: the tokens cannot be read: {reason}", field=str(file)) from None
    if mode & 0o007:
        _LOG.warning("%s can be read by everybody (mode %03o); chmod 640 it", file, mode)
    tokens = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{file}, line {number}"
        if len(words) not in {2, 3}:
            raise SpecError(f"{where}: accepted: NAME TOKEN [EXPIRES]", field=str(file))
        tokens.append(_token(where, words[0], words[1], *words[2:]))
    if not tokens:
        _LOG.warning("%s holds no token: it lets nobody in", file)
    return tokens


def _from_pairs(text: str) -> list[_Token]:
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    return [
        _token(f"{_VARIABLE}, entry {number}", name, token)
        for number, (name, _, token) in enumerate(pairs, 1)
    ]


def _token(where: str, name: str, token: str, expires: str | None = None) -> _Token:
    if not _NAME.fullmatch(name):
        # The name itself stays unsaid: with the columns swapped it is the token.
        raise SpecError(
            f"{where}: the name is not accepted: letters, digits and _.@- are", field=where
        )
    if not _TOKEN.fullmatch(token) or not SHORTEST <= len(token) <= _LONGEST - len("Bearer "):
        raise SpecError(
            f"{where}: the token of {name!r} is not accepted: at least {SHORTEST} letters, digits "
            "and -._~+/ are. Make one with: openssl rand -hex 32",
            field=where,
        )
    return _Token(name, _digest(token), _time(where, expires) if expires else None)


def _time(where: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as problem:
        raise SpecError(
            f"{where}: {text!r} is no time; accepted: ISO 8601, such as 2030-12-31T23:59:59Z",
            field=where,
        ) from problem
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _distinct(tokens: list[_Token]) -> list[_Token]:
    names: dict[bytes, str] = {}
    for token in tokens:
        other = names.setdefault(token.digest, token.name)
        if other != token.name:
            raise SpecError(f"{other!r} and {token.name!r} have the same token", field=token.name)
    return tokens


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
