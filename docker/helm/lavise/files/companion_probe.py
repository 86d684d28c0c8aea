"""Asks the companion's HTTP door for its health, with the probes' own certificate.

The kubelet shows no certificate, so that with a client CA its own probes end at the handshake.
"""

import http.client
import ssl
import sys


def status(port: int, certificate: str, path: str) -> int:
    """Returns the HTTP status of a path of the companion in the same pod.

    Args:
        port: Of the HTTP door.
        certificate: The folder of tls.crt and tls.key.
        path: ``/healthz`` or ``/readyz``.
    """
    # Who answers on loopback of its own pod needs no proof; what is proved here is who asks.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(f"{certificate}/tls.crt", f"{certificate}/tls.key")
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    asked = sys.argv[3]
    found = status(int(sys.argv[1]), sys.argv[2], asked)
    sys.exit(0 if found == http.client.OK else f"{asked}: {found}")
