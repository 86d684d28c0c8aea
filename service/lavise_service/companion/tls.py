"""TLS for both doors, and client certificates (mTLS) where they are wanted.

With ``LAVISE_TLS_CLIENT_CA``, nobody gets past the handshake without a certificate of that
authority, health probes included: probe such a companion with a client that has one.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from lavise.errors import SpecError


@dataclass(frozen=True)
class Tls:
    """Files of a certificate, its key, and of who may connect.

    Attributes:
        cert: PEM: the certificate and those between it and a known authority.
        key: PEM: its private key, without a passphrase.
        client_ca: PEM: who signs the certificates of clients; None asks for none.
    """

    cert: Path
    key: Path
    client_ca: Path | None = None

    def check(self) -> None:
        """Reads the files as a server does.

        Raises:
            SpecError: One cannot be read, or they do not fit; ``field`` names the file.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key with a passphrase must not ask for it on the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except OSError as problem:  # SSLError among them
            raise SpecError(
                f"{self.cert} and {self.key} make no TLS: {problem}. Accepted: a certificate and "
                "its own key, in PEM, the key without a passphrase",
                field=str(self.cert),
            ) from problem
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as problem:
                raise SpecError(
                    f"{self.client_ca} holds no certificates of authorities in PEM: {problem}",
                    field=str(self.client_ca),
                ) from problem

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Returns them for grpc."""
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            root_certificates=self.client_ca.read_bytes() if self.client_ca else None,
            require_client_auth=self.client_ca is not None,
        )

    def uvicorn_options(self) -> dict[str, str | int]:
        """Returns them for uvicorn; TLS 1.2 and newer is Python's own default."""
        files: dict[str, str | int] = {
            "ssl_certfile": str(self.cert),
            "ssl_keyfile": str(self.key),
        }
        if self.client_ca is not None:
            files |= {"ssl_ca_certs": str(self.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
        return files
