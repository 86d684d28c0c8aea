"""mTLS between companion and worker: TorchServe behind haproxy, as the chart sets it up."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trustme

from lavise.errors import SpecError
from lavise_service.companion.problems import Unavailable
from lavise_service.companion.settings import Settings
from lavise_service.companion.tls import ClientTls
from lavise_service.companion.upstream import Upstream
from lavise_service.torchserve import TorchServe
from tests.certificates import write_certificate
from tests.false_torchserve import FalseTorchServe, well
from tests.haproxy import WorkerTls, needs_haproxy, worker_tls
from tests.running_companion import running_companion

COMPANION: Final = "lavise-companion"


@dataclass(frozen=True)
class Way:
    """A worker behind TLS, and certificates to come with."""

    tls: WorkerTls
    ca: trustme.CA
    folder: Path

    def certificate(
        self, name: str, *, ca: trustme.CA | None = None, common_name: str | None = None
    ) -> ClientTls:
        """A certificate of the companion, by the worker's authority where no other is given."""
        made = write_certificate(
            ca or self.ca, self.folder / name, "companion", common_name=common_name
        )
        return ClientTls(self.trusted, made / "tls.crt", made / "tls.key")

    @property
    def trusted(self) -> Path:
        return self.folder / "worker" / "ca.crt"


@pytest.fixture(scope="module")
def way(shared_torchserve: TorchServe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    ca, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    served = write_certificate(ca, folder / "worker", "127.0.0.1")
    ports = shared_torchserve.ports
    with worker_tls(
        served, client=COMPANION, grpc_port=ports.grpc, metrics_port=ports.metrics
    ) as tls:
        yield Way(tls, ca, folder)


def model(target: str, tls: ClientTls | None) -> str:
    """Asks what is loaded, through an upstream of its own."""

    async def work() -> str:
        upstream = Upstream(target, timeout_s=5, tls=tls)
        try:
            return str((await upstream.model())["model"])
        finally:
            await upstream.close()

    return asyncio.run(work())


@needs_haproxy
@pytest.mark.server
def test_the_right_certificate_is_let_in(way: Way) -> None:
    assert model(way.tls.grpc, way.certificate("good", common_name=COMPANION)) == "tiny"


@needs_haproxy
@pytest.mark.server
@pytest.mark.parametrize("how", ["in clear", "none", "another authority", "another name"])
def test_every_other_is_refused(way: Way, how: str) -> None:
    shown = {
        "in clear": None,
        "none": ClientTls(way.trusted),
        "another authority": way.certificate("stranger", ca=trustme.CA(), common_name=COMPANION),
        "another name": way.certificate("other", common_name="lavise-other"),
    }
    with pytest.raises(Unavailable, match="the worker that explains is not there"):
        model(way.tls.grpc, shown[how])


@needs_haproxy
@pytest.mark.server
def test_a_worker_of_another_name_is_not_trusted(way: Way) -> None:
    good = way.certificate("good", common_name=COMPANION)
    port = way.tls.grpc.rpartition(":")[2]
    with pytest.raises(Unavailable):
        model(f"localhost:{port}", good)  # its certificate is for 127.0.0.1


@needs_haproxy
@pytest.mark.server
def test_a_worker_of_another_authority_is_not_trusted(way: Way) -> None:
    good = way.certificate("good", common_name=COMPANION)
    other = write_certificate(trustme.CA(), way.folder / "unknown", "127.0.0.1")
    with pytest.raises(Unavailable):
        model(way.tls.grpc, ClientTls(other / "ca.crt", good.cert, good.key))


@needs_haproxy
@pytest.mark.server
def test_a_whole_companion_over_mtls(way: Way, tomato: Path) -> None:
    tls = way.certificate("good", common_name=COMPANION)
    with running_companion(
        way.tls.grpc, torchserve_ca=tls.ca, torchserve_cert=tls.cert, torchserve_key=tls.key
    ) as running:
        answer = running.http.post(
            "/v1/explain", content=tomato.read_bytes(), headers={"content-type": "image/png"}
        )
        assert answer.status_code == 200
        assert answer.json()["images"][0]["filters"]


@needs_haproxy
@pytest.mark.server
def test_metrics_are_behind_tls_too(way: Way) -> None:
    context = ssl.create_default_context(cafile=way.trusted)
    url = f"https://{way.tls.metrics}/metrics"
    assert httpx.get(url, verify=context, trust_env=False).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(url.replace("https", "http"), trust_env=False)


@needs_haproxy
def test_certificates_change_at_both_ends_without_a_lost_call(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    worker, own = tmp_path / "worker", tmp_path / "own"
    write_certificate(old, worker, "127.0.0.1")
    write_certificate(old, own, "companion", common_name=COMPANION)
    tls = ClientTls(own / "ca.crt", own / "tls.crt", own / "tls.key")

    async def calls(proxy: WorkerTls) -> None:
        upstream = Upstream(proxy.grpc, timeout_s=5, tls=tls)

        async def explain() -> None:
            assert (await upstream.explain([b"an image"]))["bundleDigest"] == "d"

        try:
            await explain()
            write_certificate(new, worker, "127.0.0.1")
            write_certificate(new, own, "companion", common_name=COMPANION)
            ends = time.monotonic() + 15
            while True:  # until the new process has taken over
                try:
                    await explain()
                    break
                except Unavailable:
                    assert time.monotonic() < ends
                    await asyncio.sleep(0.05)
            await asyncio.gather(*(explain() for _ in range(20)))
        finally:
            await upstream.close()

    with (
        FalseTorchServe(well) as server,
        worker_tls(worker, client=COMPANION, grpc_port=server.port, metrics_port=1) as proxy,
    ):
        asyncio.run(calls(proxy))


def test_a_change_of_the_companions_certificate_loses_no_call(tmp_path: Path) -> None:
    ca = trustme.CA()
    write_certificate(ca, tmp_path, "companion")
    upstreams: list[Upstream] = []

    def slow(parts: dict[str, bytes], context: Any) -> bytes:
        time.sleep(0.3)
        return well(parts, context)

    async def work(target: str) -> None:
        upstream = Upstream(target, tls=ClientTls(tmp_path / "ca.crt"))
        upstreams.append(upstream)
        channel = upstream._channel
        channel._credentials = lambda: None  # the server of the test speaks in clear
        channel._open(None)
        before = asyncio.ensure_future(upstream.explain([b"an image"]))
        await asyncio.sleep(0.1)
        channel._opened_with = object()  # type: ignore[assignment] # as a change makes it
        after = asyncio.ensure_future(upstream.explain([b"an image"]))
        assert {one["bundleDigest"] for one in await asyncio.gather(before, after)} == {"d"}
        await upstream.close()

    with FalseTorchServe(slow) as server:
        asyncio.run(work(server.target))


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    one = write_certificate(trustme.CA(), tmp_path / "one", "companion")
    other = write_certificate(trustme.CA(), tmp_path / "other", "companion")
    with pytest.raises(SpecError, match=r"tls\.crt and .*tls\.key make no TLS"):
        ClientTls(one / "ca.crt", one / "tls.crt", other / "tls.key").watched()
    with pytest.raises(SpecError, match=r"none\.crt holds no certificates of authorities"):
        ClientTls(tmp_path / "none.crt").watched()


def test_half_of_a_certificate_is_refused() -> None:
    with pytest.raises(SpecError, match="LAVISE_TORCHSERVE_KEY is not"):
        Settings(torchserve_ca="ca", torchserve_cert="cert")
    with pytest.raises(SpecError, match="set LAVISE_TORCHSERVE_CA too"):
        Settings(torchserve_cert="cert", torchserve_key="key")
