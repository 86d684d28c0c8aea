"""TLS at both doors, with certificates made for the test."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme

from lavise.errors import SpecError
from lavise.v1.explain_pb2 import GetModelRequest
from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.companion.lifecycle import Doors
from lavise_service.companion.tls import Tls
from tests.certificates import write_certificate
from tests.false_torchserve import FalseTorchServe
from tests.running_companion import running_doors, settings_for


@dataclass(frozen=True)
class Files:
    """Certificates in files."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    stranger: Path
    stranger_key: Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = {"ca": folder / "ca.pem"}
    for name, authority in (("server", ca), ("client", ca), ("stranger", other)):
        cert = authority.issue_cert("127.0.0.1", "localhost")
        made[name], made[f"{name}_key"] = folder / f"{name}.pem", folder / f"{name}.key"
        made[name].write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
        cert.private_key_pem.write_to_path(str(made[f"{name}_key"]))
    return Files(**made)


@pytest.fixture(scope="module", params=[False, True], ids=["tls", "mtls"])
def doors(files: Files, request: pytest.FixtureRequest) -> Iterator[tuple[Doors, bool]]:
    with FalseTorchServe(lambda *_: b'{"model": "m"}') as server:
        settings = settings_for(
            server.target,
            tls_cert=files.server,
            tls_key=files.server_key,
            tls_client_ca=files.ca if request.param else None,
        )
        with running_doors(settings) as open_:
            yield open_, request.param


def by_grpc(doors: Doors, ca: Path | None, cert: Path | None, key: Path | None) -> str:
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes() if ca else None,
        key.read_bytes() if key else None,
        cert.read_bytes() if cert else None,
    )
    with grpc.secure_channel(str(doors.grpc), credentials) as channel:
        stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
        return str(stub.GetModel(GetModelRequest(), timeout=5).model)


def by_http(doors: Doors, ca: Path | None, cert: Path | None, key: Path | None) -> str:
    context = ssl.create_default_context(cafile=ca)
    if cert is not None:
        context.load_cert_chain(cert, key)
    answer = httpx.get(f"https://{doors.http}/v1/model", verify=context, trust_env=False)
    return str(answer.json()["model"])


@pytest.mark.parametrize("ask", [by_grpc, by_http])
def test_a_client_with_a_certificate_is_served(
    doors: tuple[Doors, bool], files: Files, ask: Any
) -> None:
    assert ask(doors[0], files.ca, files.client, files.client_key) == "m"


@pytest.mark.parametrize("ask", [by_grpc, by_http])
def test_a_client_without_one_only_where_none_is_wanted(
    doors: tuple[Doors, bool], files: Files, ask: Any
) -> None:
    if not doors[1]:
        assert ask(doors[0], files.ca, None, None) == "m"
        return
    with pytest.raises((grpc.RpcError, httpx.TransportError)):
        ask(doors[0], files.ca, None, None)


@pytest.mark.parametrize("ask", [by_grpc, by_http])
def test_a_certificate_of_another_authority_is_refused_under_mtls(
    doors: tuple[Doors, bool], files: Files, ask: Any
) -> None:
    if not doors[1]:
        return
    with pytest.raises((grpc.RpcError, httpx.TransportError)):
        ask(doors[0], files.ca, files.stranger, files.stranger_key)


def test_nobody_is_served_in_clear(doors: tuple[Doors, bool]) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{doors[0].http}/healthz", trust_env=False)
    with grpc.insecure_channel(str(doors[0].grpc)) as channel:
        stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError):
            stub.GetModel(GetModelRequest(), timeout=5)


def test_an_old_tls_is_refused(doors: tuple[Doors, bool], files: Files) -> None:
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.client, files.client_key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.TransportError):
        httpx.get(f"https://{doors[0].http}/healthz", verify=context, trust_env=False)


def test_files_that_do_not_fit_are_named(files: Files, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"server\.pem and .*client\.key make no TLS"):
        Tls(files.server, files.client_key).check()
    with pytest.raises(SpecError, match="No such file"):
        Tls(tmp_path / "none.pem", files.server_key).check()
    garbage = tmp_path / "ca.pem"
    garbage.write_text("no certificate")
    with pytest.raises(SpecError, match=r"ca\.pem holds no certificates") as caught:
        Tls(files.server, files.server_key, garbage).check()
    assert caught.value.field == str(garbage)


@pytest.mark.parametrize("ask", [by_grpc, by_http])
def test_certificates_change_without_a_restart(
    tmp_path: Path, ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = trustme.CA(), trustme.CA()
    served = write_certificate(old, tmp_path / "served", "127.0.0.1")

    def client(ca: trustme.CA, name: str) -> tuple[Path, Path, Path]:
        made = write_certificate(ca, tmp_path / name, "client")
        return made / "ca.crt", made / "tls.crt", made / "tls.key"

    with FalseTorchServe(lambda *_: b'{"model": "m"}') as server:
        settings = settings_for(
            server.target,
            tls_cert=served / "tls.crt",
            tls_key=served / "tls.key",
            tls_client_ca=served / "ca.crt",
        )
        with running_doors(settings) as open_:
            before, after = client(old, "before"), client(new, "after")
            assert ask(open_, *before) == "m"
            with pytest.raises((grpc.RpcError, httpx.TransportError)):
                ask(open_, *after)
            (served / "tls.key").write_text("half of a change")
            assert ask(open_, *before) == "m"
            assert "what was read before" in caplog.text
            assert "stays" in caplog.text
            write_certificate(new, served, "127.0.0.1")
            assert ask(open_, *after) == "m"
            with pytest.raises((grpc.RpcError, httpx.TransportError)):
                ask(open_, *before)
            # Who trusts the new server and comes with the old certificate is refused by it.
            with pytest.raises((grpc.RpcError, httpx.TransportError)):
                ask(open_, after[0], *before[1:])
