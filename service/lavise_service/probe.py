"""Whether a container is of use: ``python -m lavise_service.probe worker`` or ``companion``.

Asked from inside the container every few seconds, and so of the standard library alone.

- ``worker``: every ``.mar`` of ``LAVISE_MODEL_STORE`` has a worker that is READY, which it is once
  the handler has explained an image. TorchServe's own /ping is well without any.
- ``companion``: /readyz, behind which is a real prediction. Where clients must show certificates,
  ``LAVISE_PROBE_CERTIFICATE`` is a folder with a ``tls.crt`` and ``tls.key`` for this one.
"""

import http.client
import json
import os
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

MANAGEMENT_PORT: Final = 8081
_TIMEOUT_S: Final = 4.0


def worker(variables: Mapping[str, str], *, port: int = MANAGEMENT_PORT) -> str:
    """Returns why TorchServe is of no use; nothing where it is.

    Args:
        variables: The environment.
        port: Of the management door, on loopback.

    Raises:
        OSError: Nothing answers there.
    """
    store = Path(variables.get("LAVISE_MODEL_STORE") or "model_store")
    names = sorted(path.stem for path in store.glob("*.mar"))
    idle = [name for name in names if not _is_ready(port, name)]
    if not names:
        return f"{store} holds no .mar file"
    return f"no worker is ready: {', '.join(idle)}" if idle else ""


def companion(variables: Mapping[str, str]) -> str:
    """Returns why the companion is of no use; nothing where it is.

    Args:
        variables: The environment.

    Raises:
        OSError: Nothing answers there, or it does not take the certificate.
    """
    port = int((variables.get("LAVISE_HTTP_LISTEN") or "127.0.0.1:8000").rpartition(":")[2])
    folder = variables.get("LAVISE_PROBE_CERTIFICATE")
    if variables.get("LAVISE_TLS_CLIENT_CA") and not folder:
        return (
            "LAVISE_TLS_CLIENT_CA asks for a certificate: set LAVISE_PROBE_CERTIFICATE to a folder "
            "with a tls.crt and tls.key"
        )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    if variables.get("LAVISE_TLS_CERT"):
        # Who answers on loopback of its own container needs no proof.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if folder:
            context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=_TIMEOUT_S, context=context
        )
    status, body = _get(connection, "/readyz")
    return "" if status == http.client.OK else f"/readyz: {status} {body[:500]!r}"


def _is_ready(port: int, model: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    status, body = _get(connection, f"/models/{model}")
    versions: list[dict[str, Any]] = json.loads(body) if status == http.client.OK else []
    return any(one["status"] == "READY" for version in versions for one in version["workers"])


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(2**20)
    finally:
        connection.close()


def main(part: str) -> str | None:
    """Returns why a part is of no use, for ``sys.exit``; None where it is."""
    try:
        reason = worker(os.environ) if part == "worker" else companion(os.environ)
    except OSError as problem:
        reason = str(problem)
    return reason or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
