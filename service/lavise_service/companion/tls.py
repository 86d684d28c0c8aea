"""TLS: for both doors, with client certificates (mTLS) where wanted, and on the way to TorchServe.

With ``LAVISE_TLS_CLIENT_CA``, nobody gets past the handshake without a certificate of that
authority, health probes included: probe such a companion with a client that has one. Files that
change are read again: new connections see what is in them now, and those that are there go on.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from lavise.errors import SpecError
from lavise_service.companion.reread import Reread

# grpc wants to know whether anything changed; a value of its own for each reading says so.
_Pems = tuple[bytes, bytes, bytes | None]
_UNREADABLE: Final = "accepted: a file in PEM that this process may read"


@dataclass(frozen=True)
class Tls:
    """Files of the doors' certificate, its key, and of who may connect.

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
        self._context()

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Returns them for grpc, which asks for changes at every handshake.

        Raises:
            SpecError: As ``check`` does.
        """
        reread = Reread(self._files(), self._pems)
        served = reread()

        def changed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal served
            now = reread()
            if now is served:
                return None
            served = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(served),
            changed,  # type: ignore[arg-type] # None is how grpc hears of no change
            require_client_authentication=self.client_ca is not None,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Returns them for an HTTP server; every handshake takes what the files say then.

        Raises:
            SpecError: As ``check`` does.
        """
        reread = Reread(self._files(), self._context)
        first = self._context()

        def choose(connection: ssl.SSLObject, _name: str | None, _context: object) -> None:
            # Also called where the client names no server. Certificate, key and authorities are
            # those of the context that a connection ends up with.
            connection.context = reread()

        first.sni_callback = choose
        return first

    def _files(self) -> list[Path]:
        return [file for file in (self.cert, self.key, self.client_ca) if file is not None]

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and newer
        # A ticket would let somebody back in whose authority is gone by then.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        _load_chain(context, self.cert, self.key)
        if self.client_ca is not None:
            _load_authorities(context, self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _pems(self) -> _Pems:
        self._context()
        return _read(self.key), _read(self.cert), _read(self.client_ca) if self.client_ca else None


@dataclass(frozen=True)
class ClientTls:
    """Files of whom to trust, and of the certificate to show.

    Attributes:
        ca: PEM: who signs the server's certificate.
        cert: PEM: the certificate to show; None shows none.
        key: PEM: its private key, without a passphrase.
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def watched(self) -> Callable[[], grpc.ChannelCredentials]:
        """Returns what gives the credentials that the files make now: the same until they change.

        Raises:
            SpecError: One cannot be read, or they do not fit; ``field`` names the file.
        """
        files = [file for file in (self.ca, self.cert, self.key) if file is not None]
        return Reread(files, self._credentials)

    def _credentials(self) -> grpc.ChannelCredentials:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _load_authorities(context, self.ca)
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(_read(self.ca))
        _load_chain(context, self.cert, self.key)
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


def _configuration(pems: _Pems) -> grpc.ServerCertificateConfiguration:
    key, cert, client_ca = pems
    return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=client_ca)


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        # A key with a passphrase must not ask for it on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except OSError as problem:  # SSLError among them
        raise SpecError(
            f"{cert} and {key} make no TLS: {problem}. Accepted: a certificate and its own key, "
            "in PEM, the key without a passphrase",
            field=str(cert),
        ) from problem


def _load_authorities(context: ssl.SSLContext, file: Path) -> None:
    try:
        context.load_verify_locations(file)
    except OSError as problem:
        raise SpecError(
            f"{file} holds no certificates of authorities in PEM: {problem}", field=str(file)
        ) from problem


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as problem:
        raise SpecError(f"{file}: {problem.strerror}; {_UNREADABLE}", field=str(file)) from problem
