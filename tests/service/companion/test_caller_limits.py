"""How much one caller may ask: the rule itself, and at both doors."""

import datetime as dt
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from lavise.v1 import explain_pb2 as pb
from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.companion.caller_limits import CallerLimits
from lavise_service.companion.certificates import subject
from lavise_service.companion.problems import ResourceExhausted
from tests.false_torchserve import FalseTorchServe, well
from tests.running_companion import Running, detail, running_companion, running_doors, settings_for
from tests.running_companion import told as status_told

ANN: Final = "a" * 32
BOB: Final = "b" * 32
ASKED: Final = pb.ExplainRequest(images=[pb.Image(content=b"an image")])


def calls(limits: CallerLimits, name: str, n: int) -> int:
    """How many of n calls at once are let in."""
    let_in = 0
    for _ in range(n):
        try:
            with limits.one(name):
                let_in += 1
        except ResourceExhausted:
            pass
    return let_in


@pytest.mark.parametrize("start", [0.0, 1e6])
@pytest.mark.parametrize("rate", [1, 3, 7, 1000])
def test_a_seconds_calls_come_at_once_and_then_evenly(rate: int, start: float) -> None:
    now = start
    limits = CallerLimits(per_second=rate, clock=lambda: now)
    assert calls(limits, "ann", rate + 5) == rate
    with pytest.raises(ResourceExhausted, match=f"'ann' asks more than {rate} times") as caught:
        limits.one("ann").__enter__()
    assert caught.value.limit == "rate"
    assert 0 < caught.value.retry_after_s <= 1 / rate
    now += caught.value.retry_after_s + 1e-6
    assert calls(limits, "ann", 5) == 1
    assert calls(limits, "bob", rate) == rate  # another's rate is another's
    now += 2
    assert calls(limits, "ann", rate + 5) == rate


@given(
    st.integers(1, 20),
    st.lists(st.floats(0, 0.5, allow_nan=False), min_size=1, max_size=50),
)
def test_never_more_than_the_rate_and_a_second_of_it(rate: int, pauses: list[float]) -> None:
    now = 0.0
    limits = CallerLimits(per_second=rate, clock=lambda: now)
    times: list[float] = []
    for pause in pauses:
        now += pause
        times += [now] * calls(limits, "ann", 1)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            assert last - first + 1 <= rate * (times[last] - start + 1) + 0.6


def test_calls_at_a_time_end_with_the_call() -> None:
    limits = CallerLimits(concurrent=2)
    with limits.one("ann"), limits.one("ann"):
        with pytest.raises(ResourceExhausted, match="2 calls of 'ann'") as caught:
            limits.one("ann").__enter__()
        assert caught.value.limit == "concurrency"
        with limits.one("bob"):
            pass
    with pytest.raises(KeyError), limits.one("ann"):
        raise KeyError
    assert calls(limits, "ann", 1) == 1


def test_whoever_is_idle_is_forgotten() -> None:
    now = 0.0
    limits = CallerLimits(per_second=1, clock=lambda: now)
    for number in range(6000):
        now = number / 1000
        assert calls(limits, f"caller {number}", 2) == 1
    assert len(limits._callers) <= 4096


def test_without_limits_nothing_is_remembered() -> None:
    limits = CallerLimits()
    assert calls(limits, "ann", 1000) == 1000
    assert not limits._callers


@pytest.fixture(scope="module")
def torchserve() -> Iterator[FalseTorchServe]:
    with FalseTorchServe() as server:
        yield server


@contextmanager
def companion(torchserve: FalseTorchServe, folder: Path, **settings: Any) -> Iterator[Running]:
    tokens = folder / "tokens"
    tokens.write_text(f"ann {ANN}\nbob {BOB}\n")
    tokens.chmod(0o600)
    with running_companion(torchserve.target, tokens_file=tokens, **settings) as running:
        yield running


def by_grpc(running: Running, token: str) -> int:
    """The code of an Explain."""
    try:
        running.explainer.Explain(ASKED, metadata=[("authorization", f"Bearer {token}")])
    except grpc.RpcError as problem:
        status = status_told(problem)
        delay = detail(status, error_details_pb2.RetryInfo).retry_delay
        assert 0 < delay.ToMilliseconds() <= 1000
        return int(status.code)
    return 0


def by_http(running: Running, token: str) -> int:
    """The same over HTTP."""
    answer = running.http.post(
        "/v1/explain",
        content=b"an image",
        headers={"authorization": f"Bearer {token}", "content-type": "image/png"},
    )
    if answer.status_code != 200:
        assert answer.headers["retry-after"] == "1"
        assert 0 < answer.json()["retryAfterSeconds"] <= 1
        assert answer.json()["reason"] == "RESOURCE_EXHAUSTED"
    return {200: 0, 429: int(code_pb2.RESOURCE_EXHAUSTED)}[answer.status_code]


def refusals(running: Running, reason: str) -> float:
    text = running.http.get("/metrics", headers={"authorization": f"Bearer {BOB}"}).text
    line = f'lavise_companion_refusals_total{{reason="{reason}"}} '
    [found] = [each for each in text.splitlines() if each.startswith(line)]
    return float(found.removeprefix(line))


def test_the_rate_counts_both_doors(torchserve: FalseTorchServe, tmp_path: Path) -> None:
    with companion(torchserve, tmp_path, max_caller_calls_per_second=4) as running:
        told = [ask(running, ANN) for _ in range(4) for ask in (by_grpc, by_http)]
        assert told[:4] == [0] * 4
        assert told[5:].count(code_pb2.RESOURCE_EXHAUSTED) >= 2
        assert by_grpc(running, BOB) == by_http(running, BOB) == 0
        assert refusals(running, "rate") >= 2
        health: Any = health_pb2_grpc.HealthStub(running.channel)
        for _ in range(20):  # probes are nobody's calls
            assert health.Check(health_pb2.HealthCheckRequest()).status
            assert running.http.get("/healthz").status_code == 200


def test_one_caller_at_work_leaves_room_for_another(
    torchserve: FalseTorchServe, tmp_path: Path
) -> None:
    begun, end = threading.Semaphore(0), threading.Event()

    def slow(parts: dict[str, bytes], context: Any) -> bytes:
        if parts.get("image") == b"an image":
            begun.release()
            end.wait(20)
        return well(parts, context)

    with companion(torchserve, tmp_path, max_caller_concurrent_calls=2) as running:
        torchserve.behave = slow
        try:
            with ThreadPoolExecutor(4) as pool:
                waiting = [pool.submit(ask, running, ANN) for ask in (by_grpc, by_http)]
                for _ in waiting:
                    assert begun.acquire(timeout=10)
                for ask in (by_grpc, by_http):
                    assert ask(running, ANN) == code_pb2.RESOURCE_EXHAUSTED
                other = pool.submit(by_grpc, running, BOB)
                assert begun.acquire(timeout=10)
                end.set()
                assert [one.result(20) for one in (*waiting, other)] == [0, 0, 0]
        finally:
            end.set()
            torchserve.behave = well
        assert by_grpc(running, ANN) == by_http(running, ANN) == 0
        assert refusals(running, "concurrency") == 2


def test_without_tokens_a_certificate_is_a_caller(
    torchserve: FalseTorchServe, tmp_path: Path
) -> None:
    ca = trustme.CA()
    files = {name: tmp_path / name for name in ("ca", "cert", "key")}
    ca.cert_pem.write_to_path(str(files["ca"]))
    own = ca.issue_cert("127.0.0.1")
    files["cert"].write_bytes(b"".join(blob.bytes() for blob in own.cert_chain_pems))
    own.private_key_pem.write_to_path(str(files["key"]))
    settings = settings_for(
        torchserve.target,
        tls_cert=files["cert"],
        tls_key=files["key"],
        tls_client_ca=files["ca"],
        max_caller_calls_per_second=2,
    )
    with running_doors(settings) as doors:
        for name in ("ann", "bob"):  # each has its own
            cert = ca.issue_cert(f"{name}.example", common_name=name)
            chain = b"".join(blob.bytes() for blob in cert.cert_chain_pems)
            key = cert.private_key_pem.bytes()
            root = files["ca"].read_bytes()
            credentials = grpc.ssl_channel_credentials(root, key, chain)
            context = ssl.create_default_context(cafile=files["ca"])
            cert.configure_cert(context)
            with (
                grpc.secure_channel(str(doors.grpc), credentials) as channel,
                httpx.Client(
                    base_url=f"https://{doors.http}", verify=context, trust_env=False
                ) as http,
            ):
                stub: Any = ExplainerStub(channel)  # type: ignore[no-untyped-call]
                stub.Explain(ASKED)
                assert http.get("/v1/model").status_code == 200
                refused = http.get("/v1/model")
                assert refused.status_code == 429
                assert f"CN={name}" in refused.json()["detail"]


def test_a_certificate_without_a_subject_goes_by_its_other_names() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now)
    )
    bare = builder.sign(key, SHA256())
    uri = x509.UniformResourceIdentifier("spiffe://lab/ann")
    named = builder.add_extension(
        x509.SubjectAlternativeName([uri, x509.DNSName("ann")]), critical=True
    ).sign(key, SHA256())
    for encoding in (Encoding.DER, Encoding.PEM):
        assert subject(named.public_bytes(encoding)) == "spiffe://lab/ann,ann"
    assert subject(bare.public_bytes(Encoding.DER)).startswith("sha256:")
