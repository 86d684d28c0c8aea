"""No secret is said again: marked tokens, credentials and image names, through every door.

All that the companion and TorchServe write, at the most talkative level, is searched: logs,
answers, errors, metrics, reports and the store. What a caller named an image may stand in that
caller's answers and reports, but not in logs and metrics.
"""

import io
import itertools
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from grpc_reflection.v1alpha import reflection_pb2
from pydantic import SecretStr

from lavise.errors import LaviseError
from lavise.v1 import bias_pb2, explain_pb2
from lavise.v1.bias_pb2_grpc import BiasComparisonStub
from lavise.v1.explain_pb2_grpc import ExplainerStub
from lavise_service.companion.logs import configure_logging
from lavise_service.companion.objects import s3_filesystem
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import open_store
from lavise_service.torchserve import TorchServe
from tests.running_companion import Running, running_companion
from tests.s3_server import BUCKET, REGION, s3_server
from tests.uploads import png

pytestmark = pytest.mark.server
TOKEN: Final = "MARKtokenOfTheFile0123456789"  # noqa: S105 - what is looked for
OTHER: Final = "MARKtokenOfTheVariable012345"
WRONG: Final = "MARKtokenThatIsWrong01234567"
CREDENTIALS: Final = {
    "AWS_ACCESS_KEY_ID": "MARKACCESSKEY0123456",
    "AWS_SECRET_ACCESS_KEY": "MARKsecretAccessKey0123456789",
    "AWS_SESSION_TOKEN": "MARKsessionToken0123456789",
}
IMAGE: Final = "MARKpatient_Jane_Doe.png"
SECRETS: Final = (TOKEN, OTHER, WRONG, *CREDENTIALS.values())
METHODS: Final = [
    method
    for file in (explain_pb2, bias_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


class Said:
    """All that was said to callers."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def http(self, answer: httpx.Response) -> httpx.Response:
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.texts += [headers, answer.text]
        return answer

    def grpc(self, call: Any) -> Any:
        """What a call answers; None where it fails."""
        try:
            answer = call()
            found = list(answer) if hasattr(answer, "__next__") else answer
        except grpc.RpcError as problem:
            failed: Any = problem
            self.texts += [str(failed), str(failed.trailing_metadata())]
            return None
        self.texts.append(str(found))
        return found


@contextmanager
def all_logs() -> Iterator[io.StringIO]:
    """Every line of the process, as the companion writes them."""
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore", "uvicorn")}
    configure_logging(stream, level=logging.DEBUG)
    # The client of this test runs in the same process, and says its own headers.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.handlers[:], root.level = before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def assert_clean(where: str, text: str, marks: tuple[str, ...]) -> None:
    found = [mark for mark in marks if mark.lower() in text.lower()]
    lines = [line for line in text.splitlines() if any(m.lower() in line.lower() for m in found)]
    assert not found, f"{where}: {lines[:3]}"


@pytest.fixture
def companion(
    shared_torchserve: TorchServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ann {TOKEN}\n")
    tokens.chmod(0o600)
    with s3_server() as endpoint:
        s3 = s3_filesystem(BUCKET, endpoint, REGION)
        with s3.open_output_stream(f"{BUCKET}/cats/{IMAGE}") as stream:
            stream.write(png(1))
        with running_companion(
            shared_torchserve.grpc_target,
            tokens_file=tokens,
            tokens=SecretStr(f"bob={OTHER}"),
            store=str(tmp_path / "store"),
            allowed_uris=(f"s3://{BUCKET}/cats", "s3://there-is-none"),
            s3_endpoint=endpoint,
            s3_region=REGION,
            max_caller_calls_per_second=60,
        ) as running:
            yield running


class Http:
    """One caller's HTTP; whoever asks too fast waits.

    Args:
        running: Whom to ask.
        said: Where the answers go.
        token: Of the caller.
    """

    def __init__(self, running: Running, said: Said, token: str) -> None:
        self._http, self._said = running.http, said
        self._given = {"authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self._given | options.pop("headers", {})
        while True:
            answer = self._http.request(method, path, headers=headers, **options)
            self._said.http(answer)
            if answer.status_code != 429:
                return answer
            time.sleep(0.05)


def use_http(running: Running, said: Said, token: str) -> None:
    """Everything that HTTP offers, well and badly."""
    ask = Http(running, said, token)
    good, kind = png(0), {"content-type": "image/png"}
    ask("POST", "/v1/explain", content=good, headers=kind)
    ask("POST", "/v1/explain", content=b"no image", headers=kind)
    ask("POST", "/v1/explain", files={"image": (IMAGE, good)}, data={"request": "{"})
    ask("POST", "/v1/explain", files={"image": (IMAGE, b"no image")})
    ask("POST", "/v1/explain", json={"images": [{"content": "!", "source": IMAGE}]})
    for name in ("first", "second", "first"):  # the last is taken
        form = [("image", (IMAGE, png(len(name)))), ("image", ("x.png", png(9)))]
        made = ask("POST", f"/v1/imageSets?name=imageSets/{name}&thumbnails=true", files=form)
        assert made.status_code in {201, 401, 409}, made.text
    ask("POST", "/v1/imageSets", files=[("image", (IMAGE, b"no image"))])
    ask("POST", "/v1/imageSets", content=b"PK", headers={"content-type": "application/zip"})
    for uri in (f"s3://{BUCKET}/cats", "s3://there-is-none/x", "file:///etc", f"s3://{IMAGE}/x"):
        ask("POST", "/v1/imageSets", json={"uri": uri})
    compare(ask)
    paths = ask("GET", "/openapi.json").json().get("paths", {})
    for path, value in itertools.product(paths, ("x", IMAGE)):
        for method in paths[path]:
            ask(method, re.sub(r"\{\w+\}", value, path))
    ask("GET", f"/v1/model?token={TOKEN}")
    ask("GET", "/v1/nothing")
    for odd in ({"authorization": TOKEN}, {"x-token": TOKEN}, {"authorization": f"Basic {TOKEN}"}):
        said.http(running.http.get("/v1/model", headers=odd))


def compare(ask: Http) -> None:
    """Compares the two sets, and reads the report."""
    sets = {"imageSetA": "imageSets/first", "imageSetB": "imageSets/second", "permutations": 100}
    begun = ask("POST", "/v1/comparisons", json=sets)
    if begun.status_code == 401:
        return
    assert begun.status_code == 202, begun.text
    path = f"/v1/{begun.json()['name']}"
    ends = time.monotonic() + 30
    while "RUNNING" in str(ask("GET", path).json().get("state")):
        assert time.monotonic() < ends
        time.sleep(0.1)
    page = ask("GET", f"{path}/report.html")
    assert page.status_code == 200, page.text


def use_grpc(running: Running, said: Said, token: str) -> None:
    """Every method, with messages that are empty, wrong and right."""
    metadata = (("authorization", f"Bearer {token}"),)
    for method in METHODS:
        kinds = (
            "stream" if s else "unary" for s in (method.client_streaming, method.server_streaming)
        )
        call = getattr(running.channel, "_".join(kinds))(
            f"/{method.containing_service.full_name}/{method.name}"
        )
        for data in (b"", b"\xff\xff", IMAGE.encode()):
            asked: Any = iter([data]) if method.client_streaming else data
            said.grpc(lambda call=call, asked=asked: call(asked, metadata=metadata, timeout=20))
    explainer: Any = ExplainerStub(running.channel)  # type: ignore[no-untyped-call]
    for content in (png(0), b"no image", b""):
        request = explain_pb2.ExplainRequest(
            images=[explain_pb2.Image(content=content, source=IMAGE)]
        )
        said.grpc(lambda request=request: explainer.Explain(request, metadata=metadata))
    bias: Any = BiasComparisonStub(running.channel)  # type: ignore[no-untyped-call]
    about = bias_pb2.UploadImageSetRequest(
        metadata=bias_pb2.ImageSetMetadata(name="imageSets/by-grpc")
    )
    pictures = [
        bias_pb2.UploadImageSetRequest(
            chunk=bias_pb2.ImageChunk(index=index, source=IMAGE, content=content, last=True)
        )
        for index, content in enumerate((png(3), b"no image"))
    ]
    said.grpc(lambda: bias.UploadImageSet(iter([about, *pictures]), metadata=metadata))
    imported = bias_pb2.ImportImageSetRequest(uri=f"s3://{BUCKET}/cats")
    said.grpc(lambda: bias.ImportImageSet(imported, metadata=metadata))


def test_no_secret_is_said_again(
    companion: Running,
    shared_torchserve: TorchServe,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    said = Said()
    with all_logs() as logs:
        for use, token in itertools.product((use_http, use_grpc), (TOKEN, OTHER, WRONG)):
            use(companion, said, token)
        unheard = Settings(
            store=f"s3://{BUCKET}/store", s3_endpoint="http://127.0.0.1:9", s3_region=REGION
        )
        with pytest.raises(LaviseError) as caught:
            open_store(unheard)
        said.texts += [str(caught.value), repr(companion), repr(unheard)]
    told, log = "\n".join(said.texts), logs.getvalue()
    metrics = companion.http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
    worker = "\n".join(shared_torchserve.log) + httpx.get(shared_torchserve.metrics_url).text
    written = capfd.readouterr()
    stored = b"\n".join(f.read_bytes() for f in (tmp_path / "store").rglob("*") if f.is_file())
    # What is searched is really there.
    assert "lavise_companion_refusals_total" in metrics
    assert log.count('"caller":"ann"') > 50
    assert log.count('"caller":"bob"') > 50
    assert IMAGE in told
    assert IMAGE.encode() in stored
    assert "a valid token is needed" in told
    assert "<!doctype html>" in told.lower()
    everywhere = {
        "answers": told,
        "log": log,
        "metrics": metrics,
        "TorchServe": worker,
        "output": written.out + written.err,
        "store": stored.decode("latin-1"),
    }
    for where, text in everywhere.items():
        assert_clean(where, text, SECRETS)
    for where in ("log", "metrics", "TorchServe", "output"):
        assert_clean(where, everywhere[where], (IMAGE,))


def test_settings_never_show_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAVISE_TOKENS", f"bob={OTHER}")
    shown = Settings()
    assert OTHER not in f"{shown!r} {shown} {shown.model_dump()} {shown.model_dump_json()}"
