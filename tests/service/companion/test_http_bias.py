"""Image sets and comparisons over HTTP, before a real TorchServe."""

import base64
import io
import re
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lavise_service.torchserve import TorchServe
from tests.running_companion import Running, running_companion
from tests.tiny_cnn import COLOURS, picture

pytestmark = pytest.mark.server
Files = list[tuple[str, bytes]]


def png(colour: str, seed: int) -> bytes:
    buffer = io.BytesIO()
    picture(COLOURS[colour], seed).save(buffer, "PNG")
    return buffer.getvalue()


A = [(f"a{i:02}.png", png(("tomato", "snow")[i % 2], i)) for i in range(30)]
B = [(f"b{i:02}.png", png(("ocean", "snow")[i % 2], 500 + i)) for i in range(30)]


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("allowed")
    for name, content in B:
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def companion(shared_torchserve: TorchServe, allowed: Path) -> Iterator[Running]:
    with running_companion(
        shared_torchserve.grpc_target, allowed_uris=allowed.as_uri(), max_archive_bytes=2**20
    ) as running:
        yield running


def zipped(files: Files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def form(files: Files) -> dict[str, Any]:
    return {"files": [("image", file) for file in files]}


def made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 201, answer.text
    image_set: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/{image_set['name']}"
    return image_set


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    assert found["detail"]
    return found


def ended(http: httpx.Client, location: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (found := http.get(location).json())["state"] == "STATE_RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    result: dict[str, Any] = found
    return result


@pytest.mark.parametrize(
    "body",
    [
        form(A),
        {"content": zipped(A), "headers": {"content-type": "application/zip"}},
        {"content": tarred(A), "headers": {"content-type": "application/gzip"}},
        {"content": tarred(A)},
    ],
    ids=["form", "zip", "tar", "no content type"],
)
def test_a_set_of_each_kind_of_body(companion: Running, body: dict[str, Any]) -> None:
    about = {"displayName": "A", "layer": "body"}
    image_set = made(companion.http.post("/v1/imageSets", params=about, **body))
    assert (image_set["imageCount"], image_set["state"]) == ("30", "STATE_READY")
    assert (image_set["displayName"], image_set["layer"]) == ("A", "body")
    place = f"/v1/{image_set['name']}"
    assert companion.http.get(place).json() == image_set
    listed = companion.http.get("/v1/imageSets").json()["imageSets"]
    assert image_set["name"] in [one["name"] for one in listed]
    assert companion.http.delete(place).status_code == 204
    problem(companion.http.get(place), 404)
    problem(companion.http.delete(place), 404)


def test_from_two_sets_to_a_page(companion: Running) -> None:
    http = companion.http
    sets = [
        made(
            http.post(
                "/v1/imageSets",
                params={"displayName": name, "layer": "body", "thumbnails": True},
                **form(files),
            )
        )["name"]
        for name, files in (("Summer <b>", A), ("Winter", B))
    ]
    begun = http.post("/v1/comparisons", json={"imageSetA": sets[0], "imageSetB": sets[1]})
    assert begun.status_code == 202
    assert begun.json()["state"] == "STATE_RUNNING"
    found = ended(http, begun.headers["location"])
    assert found["state"] == "STATE_DONE"
    assert {word["word"] for word in found["report"]["words"][:2]} == {"tomato", "ocean"}
    listed = http.get("/v1/comparisons").json()["comparisons"]
    assert found["name"] in [one["name"] for one in listed]
    assert all("report" not in one for one in listed)

    page = http.get(f"{begun.headers['location']}/report.html")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "Summer &lt;b&gt;" in page.text
    assert "Summer <b>" not in page.text
    # The images are JPEG, the heat maps over them PNG.
    kinds = [
        base64.b64decode(found)[:4]
        for found in re.findall(r'data:image/[a-z]+;base64,([^"\')]+)', page.text)
    ]
    assert any(kind.startswith(b"\xff\xd8") for kind in kinds)
    assert any(kind.startswith(b"\x89PNG") for kind in kinds)

    for name in sets:
        assert http.delete(f"/v1/{name}").status_code == 204
    plain = http.get(f"{begun.headers['location']}/report.html")
    assert plain.status_code == 200
    assert "data:image/jpeg" not in plain.text
    assert http.delete(begun.headers["location"]).status_code == 204
    problem(http.get(f"{begun.headers['location']}/report.html"), 404)


def test_a_folder_that_is_allowed(companion: Running, allowed: Path) -> None:
    image_set = made(companion.http.post("/v1/imageSets", json={"uri": allowed.as_uri()}))
    assert image_set["imageCount"] == "30"
    assert companion.http.delete(f"/v1/{image_set['name']}").status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"json": {"uri": "file:///etc/passwd"}}, 403, "not allowed"),
        ({"json": {"uri": "http://169.254.169.254/"}}, 400, "file://"),
        ({"json": {"nose": 1}}, 400, "uri"),
        ({"json": [1]}, 400, "uri"),
        ({"data": {"displayName": "A"}}, 415, "not read here"),
        ({"files": {"image": (None, "text")}}, 400, "is text"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
        (
            {"content": b"--x", "headers": {"content-type": "multipart/form-data"}},
            400,
            "boundary",
        ),
        (
            {"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "ends in the middle",
        ),
        ({"content": zipped([("../a.png", A[0][1])])}, 400, "../a.png"),
        ({"content": zipped([("notes.txt", b"x")])}, 400, "no image"),
        ({"content": zipped(A)[:-40]}, 400, ""),
        ({"content": b"nothing that is known"}, 415, "zip, tar"),
        ({"content": bytes(2**20 + 1)}, 413, "too large"),
        ({"files": {"image": ("a.png", b"no image")}}, 409, "no image that counts"),
    ],
)
def test_bad_bodies(companion: Running, body: dict[str, Any], status: int, said: str) -> None:
    found = problem(companion.http.post("/v1/imageSets", **body), status)
    assert said in found["detail"]
    left = companion.http.get("/v1/imageSets").json()["imageSets"]
    assert not [one for one in left if one["state"] != "STATE_READY"], "nothing half-made is left"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"imageSetA": "imageSets/a", "imageSetB": "imageSets/b"}, 404),
        ({"imageSetA": "imageSets/a", "imageSetB": "imageSets/a"}, 400),
        ({"imageSetA": "x", "imageSetB": "imageSets/a"}, 400),
        ({"alpha": "NaN"}, 400),
        ({"nose": 1}, 400),
        ([], 400),
    ],
)
def test_bad_comparisons(companion: Running, asked: Any, status: int) -> None:
    problem(companion.http.post("/v1/comparisons", json=asked), status)


@pytest.mark.parametrize("name", ["..", "a%2Fb", "A", "a" * 80, "%00", "-"])
def test_bad_names(companion: Running, name: str) -> None:
    for path in ("imageSets", "comparisons"):
        answer = companion.http.get(f"/v1/{path}/{name}")
        assert answer.status_code in {400, 404}
        assert answer.headers["content-type"] == "application/problem+json"
