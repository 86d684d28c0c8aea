"""Whom a client's certificate names, and when the companion's own ends."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

_PEM: Final = b"-----BEGIN"


def grpc_peer(context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
    """The name of who calls by gRPC; None without a certificate, which TLS has verified."""
    [*found] = context.auth_context().get("x509_pem_cert", ())
    return subject(found[0]) if found else None


@lru_cache(maxsize=1024)
def subject(certificate: bytes) -> str:
    """The name in a certificate.

    Args:
        certificate: PEM or DER.

    Returns:
        Its subject (RFC 4514), such as ``CN=ann,O=lab``; its alternative names where that is empty,
        and its fingerprint where there is neither.
    """
    load = x509.load_pem_x509_certificate if certificate.startswith(_PEM) else None
    read = (load or x509.load_der_x509_certificate)(certificate)
    named = read.subject.rfc4514_string()
    if named:
        return named
    try:
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return f"sha256:{read.fingerprint(SHA256()).hex()}"
    return ",".join(str(name.value) for name in names)


def expiry(file: Path) -> float:
    """When the first certificate of a PEM file ends.

    Returns:
        Seconds since 1970; NaN while the file cannot be read.
    """
    try:
        return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return math.nan
