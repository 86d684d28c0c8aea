"""The companion's settings: ``LAVISE_*`` variables of the environment.

Each has a default that is safe on one machine: loopback addresses, nobody's files, bounded
requests. Whoever opens the doors to a network must say who may come in. The table of them is
docs/settings.md, written by ``settings_table``.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Self, cast

from annotated_types import Ge, Le
from pydantic import BeforeValidator, ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lavise.errors import SpecError
from lavise_service.torchserve.config import MAX_MESSAGE_BYTES

PREFIX: Final = "LAVISE_"
_MiB: Final = 2**20
_GiB: Final = 2**30


class Address(NamedTuple):
    """Where a door listens or a server answers.

    Attributes:
        host: A name or an IP address, without brackets.
        port: 0 to 65535; 0 lets the system choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class _Accepted:
    """What a setting that is no plain number accepts, in words."""

    text: str


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not (colon and bare and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise ValueError("no HOST:PORT")
    if bracketed != (":" in bare) or any(c.isspace() or c in "/@[]" for c in bare):
        raise ValueError("no HOST:PORT")
    return Address(bare, int(port))


def _uris(value: object) -> object:
    if not isinstance(value, str):
        return value
    uris = tuple(value.replace(",", " ").split())
    if not all(uri.startswith(("file:///", "s3://")) for uri in uris):
        raise ValueError("not file:///... or s3://...")
    return uris


_HOST_PORT = _Accepted("HOST:PORT; an IPv6 address in brackets")
Listen = Annotated[Address, NoDecode, BeforeValidator(_address), _HOST_PORT]
Uris = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_uris),
    _Accepted("`file:///FOLDER` and `s3://BUCKET/FOLDER`, separated by commas"),
]
_File = Annotated[Path | None, _Accepted("a path")]
Text = Annotated[str, Field(min_length=1), _Accepted("a text that is not empty")]


class Settings(BaseSettings):
    """All settings of the companion; they do not change while it runs; files that they name may.

    Raises:
        SpecError: A value is not accepted, or several do not fit together; the message names the
            variable, and its value unless that is a secret.
    """

    # An empty variable is how compose files and charts say "not set".
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    grpc_listen: Listen = Field(Address("127.0.0.1", 50051), description="Where gRPC listens.")
    http_listen: Listen = Field(Address("127.0.0.1", 8000), description="Where HTTP listens.")
    torchserve: Listen = Field(
        Address("127.0.0.1", 7070), description="The gRPC inference address of TorchServe."
    )
    torchserve_ca: _File = Field(
        None,
        description="PEM file: who signs the certificate of TorchServe's side. It makes the way "
        "there TLS; the certificate must be for the host of `LAVISE_TORCHSERVE`.",
    )
    torchserve_cert: _File = Field(
        None, description="PEM file: the certificate that the companion shows there (mTLS)."
    )
    torchserve_key: _File = Field(None, description="PEM file: the key of that certificate.")
    model: Text = Field("lavise", description="The name that TorchServe serves the bundle under.")

    store: Annotated[
        str, _Accepted("a folder, or the URL of one, such as `s3://BUCKET/FOLDER`")
    ] = Field(
        "./lavise-store",
        min_length=1,
        description="Where image sets and comparisons are kept.",
    )
    retention_days: int = Field(
        30,
        ge=0,
        le=36500,
        description="Days after which an image set or a comparison is removed; 0 keeps them.",
    )
    allowed_uris: Uris = Field(
        (), description="Folders that clients may name as a source of images, with all below them."
    )
    s3_endpoint: Annotated[str | None, _Accepted("`http://HOST:PORT` or `https://HOST`")] = Field(
        None,
        pattern=r"^https?://[^/\s?#@]+$",
        description="The S3 server of the store and of image sources; left out, Amazon's. "
        "Credentials are those of the usual AWS_* variables.",
    )
    s3_region: Annotated[str | None, _Accepted("a region's name")] = Field(
        None, description="The S3 region; left out, that of the usual AWS_* variables."
    )

    tls_cert: _File = Field(None, description="PEM file: the server's certificate chain.")
    tls_key: _File = Field(None, description="PEM file: the key of the certificate.")
    tls_client_ca: _File = Field(
        None, description="PEM file: who signs the certificates that clients must show (mTLS)."
    )
    tokens_file: _File = Field(
        None,
        description="File of bearer tokens: `NAME TOKEN [EXPIRES]` a line, read again on change.",
    )
    tokens: Annotated[SecretStr | None, _Accepted("`NAME=TOKEN`, several separated by commas")] = (
        Field(None, description="Bearer tokens, beside those of the file.")
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Whether everybody who reaches an address beyond loopback may ask, where there "
        "are neither tokens nor client certificates.",
    )

    max_image_bytes: ByteSize = Field(
        ByteSize(20 * _MiB),
        ge=1,
        le=MAX_MESSAGE_BYTES - _MiB,
        description="Bytes of an encoded image.",
    )
    max_images_per_set: int = Field(
        100_000, ge=1, le=10_000_000, description="Images of a set, and of an archive."
    )
    max_request_bytes: ByteSize = Field(
        ByteSize(MAX_MESSAGE_BYTES),
        ge=_MiB,
        le=_GiB,
        description="Bytes of a request that is no upload of a set: of a gRPC message, of an HTTP "
        "body.",
    )
    max_archive_bytes: ByteSize = Field(
        ByteSize(4 * _GiB),
        ge=1,
        le=2**40,
        description="Bytes of an uploaded archive or form; a temporary file holds them meanwhile.",
    )
    max_archive_ratio: int = Field(
        100, ge=1, le=10_000, description="How many times its size an archive may unpack to."
    )
    max_upload_idle_s: float = Field(
        30, gt=0, le=3600, description="Seconds that an upload may stand still."
    )
    max_concurrent_explains: int = Field(
        16,
        ge=1,
        le=10_000,
        description="Explain calls in flight; more are refused for a moment. What waits is worked "
        "off before latency is normal again: more only for more workers.",
    )
    max_concurrent_uploads: int = Field(
        4,
        ge=1,
        le=1000,
        description="Image sets taken in at a time; more are refused for a moment.",
    )
    max_caller_calls_per_second: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Calls a second of each caller, over both doors; as many may come at once "
        "after a pause. 0: no limit of its own. A caller is a token's name or, without tokens, a "
        "client certificate's subject.",
    )
    max_caller_concurrent_calls: int = Field(
        0,
        ge=0,
        le=10_000,
        description="Calls of each caller at a time, uploads and comparisons among them. 0: no "
        "limit of its own.",
    )
    explain_timeout_s: float = Field(
        60, gt=0, le=3600, description="Seconds for a call of TorchServe, at most."
    )
    profile_batch: int = Field(
        16, ge=1, le=256, description="Images per request to TorchServe while a set is taken in."
    )
    profiles_in_flight: int = Field(
        2, ge=1, le=64, description="Such requests at a time, for each set."
    )

    def __init__(self, **values: Any) -> None:  # noqa: ANN401 - pydantic's own form
        try:
            super().__init__(**values)
        except ValidationError as error:
            # Not "from error": pydantic's message may hold what was read.
            raise _refusal(error) from None

    @model_validator(mode="after")
    def _files_fit(self) -> Self:
        for whose in ("tls", "torchserve"):
            pair = (f"{whose}_cert", f"{whose}_key")
            there, lacking = sorted(pair, key=lambda name: getattr(self, name) is None)
            if getattr(self, there) is not None and getattr(self, lacking) is None:
                raise SpecError(
                    f"{PREFIX}{there.upper()} is set and {PREFIX}{lacking.upper()} is not; "
                    "accepted: both or neither",
                    field=f"{PREFIX}{lacking.upper()}",
                )
        if self.torchserve_cert is not None and self.torchserve_ca is None:
            raise SpecError(
                f"{PREFIX}TORCHSERVE_CERT is for TLS; set {PREFIX}TORCHSERVE_CA too, which says "
                "who is trusted there",
                field=f"{PREFIX}TORCHSERVE_CA",
            )
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise SpecError(
                f"{PREFIX}TLS_CLIENT_CA asks clients for certificates, which needs TLS; set "
                f"{PREFIX}TLS_CERT and {PREFIX}TLS_KEY too",
                field=f"{PREFIX}TLS_CLIENT_CA",
            )
        return self

    @model_validator(mode="after")
    def _doors_are_guarded(self) -> Self:
        guarded = self.tokens or self.tokens_file or self.tls_client_ca or self.allow_anonymous
        for name in ("grpc_listen", "http_listen"):
            address: Address = getattr(self, name)
            if not address.is_loopback and not guarded:
                raise SpecError(
                    f"{PREFIX}{name.upper()} is {address}, which others can reach, and nothing "
                    f"says who may ask. Set {PREFIX}TOKENS_FILE, {PREFIX}TOKENS or "
                    f"{PREFIX}TLS_CLIENT_CA; or, to let everybody in, {PREFIX}ALLOW_ANONYMOUS=true",
                    field=f"{PREFIX}{name.upper()}",
                )
        return self


def settings_table() -> str:
    """The settings as a Markdown table: variable, default, what is accepted, meaning."""
    rows = ["| variable | default | accepted | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        cells = (f"`{PREFIX}{name.upper()}`", _shown(field.default), _accepts(field))
        rows.append(f"| {' | '.join(cells)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _refusal(error: ValidationError) -> SpecError:
    """The first complaint of pydantic, in our words."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    variable = f"{PREFIX}{name.upper()}"
    field = Settings.model_fields.get(name)
    if field is None:
        return SpecError(f"there is no setting {variable}; see docs/settings.md", field=variable)
    secret = "SecretStr" in str(field.annotation)
    value = "not accepted" if secret else f"{str(first['input'])[:200]!r}"
    return SpecError(f"{variable} is {value}; accepted: {_accepts(field)}", field=variable)


def _accepts(field: FieldInfo) -> str:
    words = next((one.text for one in field.metadata if isinstance(one, _Accepted)), None)
    if words is not None:
        return words
    if field.annotation is bool:
        return "true or false"
    low = next((_number(field, one.ge) for one in field.metadata if isinstance(one, Ge)), None)
    high = next(_number(field, one.le) for one in field.metadata if isinstance(one, Le))
    least = "more than 0" if low is None else _shown(low)
    kinds = {int: "a whole number", float: "seconds", ByteSize: "bytes, or a size like `20MiB`"}
    return f"{kinds[cast('type', field.annotation)]}; {least} to {_shown(high)}"


def _number(field: FieldInfo, bound: object) -> object:
    return ByteSize(cast("int", bound)) if field.annotation is ByteSize else bound


def _shown(value: object) -> str:
    match value:
        case None | ():
            return "none"
        case bool():
            return str(value).lower()
        case ByteSize():
            return value.human_readable()
        case int() | float():
            return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
        case _:
            return f"`{value}`"
