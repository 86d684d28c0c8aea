"""Certificates made for tests, in files as Secrets hold them."""

from pathlib import Path

import trustme


def write_certificate(
    ca: trustme.CA, folder: Path, *names: str, common_name: str | None = None
) -> Path:
    """Writes ``tls.crt``, ``tls.key`` and ``ca.crt`` into a folder, each replaced at once.

    Args:
        ca: Who signs.
        folder: Made where it is missing.
        names: Hosts that it is for.
        common_name: In its subject.
    """
    cert = ca.issue_cert(*names, common_name=common_name)
    folder.mkdir(parents=True, exist_ok=True)
    chain = b"".join(blob.bytes() for blob in cert.cert_chain_pems)
    contents = {
        "ca.crt": ca.cert_pem.bytes(),
        "tls.key": cert.private_key_pem.bytes(),
        "tls.crt": chain,
    }
    for name, content in contents.items():
        new = folder / f".{name}"
        new.write_bytes(content)
        new.replace(folder / name)
    return folder
