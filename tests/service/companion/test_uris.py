import asyncio
import os
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.errors import EnvironmentProblem, LaviseError, RequestError, SpecError
from lavise_service.companion.objects import s3_filesystem
from lavise_service.companion.problems import NotFound, PermissionDenied
from lavise_service.companion.settings import Settings
from lavise_service.companion.uris import Folder, UriImages
from tests.s3_server import BUCKET, KEYS, REGION, s3_server

MIB = 2**20


def images_at(uri: str, **options: object) -> list[tuple[str, bytes]]:
    async def read() -> list[tuple[str, bytes]]:
        async with aclosing(UriImages(Settings(**options)).images(uri)) as images:
            return [image async for image in images]

    return asyncio.run(read())


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An allowed folder, with much beside it that is not."""
    root = tmp_path / "data"
    write(
        root, "b.png", "a.jpg", "cats/2.PNG", "cats/1.png", "notes.txt", ".hidden.png", ".git/x.png"
    )
    write(tmp_path, "data2/secret.png", "secret.png", "other/secret.png")
    return root


def allow(data: Path) -> dict[str, object]:
    return {"allowed_uris": (f"file://{data}",)}


def test_images_come_by_name(data: Path) -> None:
    expected = [(name, name.encode()) for name in ("a.jpg", "b.png", "cats/1.png", "cats/2.PNG")]
    assert images_at(f"file://{data}", **allow(data)) == expected
    assert images_at(f"file://{data}/", **allow(data)) == expected
    assert images_at(f"file://{data}/cats", **allow(data)) == [
        ("1.png", b"cats/1.png"),
        ("2.PNG", b"cats/2.PNG"),
    ]


def test_names_are_written_as_in_any_uri(data: Path) -> None:
    write(data, "my cats é/1 2.png")
    assert images_at(f"file://{data}/my%20cats%20%C3%A9", **allow(data)) == [
        ("1 2.png", "my cats é/1 2.png".encode())
    ]


def test_a_file_name_that_is_no_text_is_read_all_the_same(data: Path) -> None:
    folder = os.fsencode(data) + b"/odd"
    os.mkdir(folder)  # noqa: PTH102 - bytes
    with open(folder + b"/\xff.png", "wb") as file:  # noqa: PTH123 - bytes
        file.write(b"pixels")
    assert images_at(f"file://{data}/odd", **allow(data)) == [("?.png", b"pixels")]


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://169.254.169.254",
        "https://example.org/data",
        "gs://bucket/data",
        "ftp://host/data",
        "data",
        "/data",
        "",
        "file:",
        "file:/data",
        "file://",
        "file://host/data",
        "file://localhost/data",
        "FILE:///data",
        "file:///data/../etc",
        "file:///data/%2e%2e/etc",
        "file:///data/%2E%2e/etc",
        "file:///data/.%2e/etc",
        "file:///data/./x",
        "file:///data//x",
        "file:///data/%2fetc",
        "file:///data/a%5cb",
        "file:///data/a\\b",
        "file:///data/a%00",
        "file:///data/a\n",
        "file:///data/%zz",
        "file:///data/%ff",
        "file:///data/\udcff",
        "file:///data?x=1",
        "file:///data#x",
        "s3://",
        "s3:///data",
        "s3://Bucket/data",
        "s3://bucket:9000/data",
        "s3://key:secret@bucket/data",
        "s3://169.254.169.254:80/x",
        "s3://bucket/data?endpoint_override=http://169.254.169.254",
        "s3://bucket/data?region=x",
        "s3://bucket/data/../../other",
        "file:///" + "a" * 3000,
    ],
)
def test_other_uris_are_refused_before_anything_is_opened(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"allowed_uris": ("file:///data", "s3://bucket/data")}
    monkeypatch.setattr("lavise_service.companion.uris.s3_filesystem", None)
    monkeypatch.setattr("lavise_service.companion.uris._Disk", None)
    with pytest.raises(RequestError, match="is not accepted"):
        images_at(uri, **settings)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "file:///etc",
        "file:///",
        "file:///data2",
        "file:///dat",
        "s3://bucket",
        "s3://bucket/data2",
        "s3://bucket2/data",
        "s3://data/data",
    ],
)
def test_what_is_not_listed_is_refused_before_anything_is_opened(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"allowed_uris": ("file:///data", "s3://bucket/data/")}
    monkeypatch.setattr("lavise_service.companion.uris.s3_filesystem", None)
    monkeypatch.setattr("lavise_service.companion.uris._Disk", None)
    with pytest.raises(PermissionDenied, match=r"allowed: file:///data, s3://bucket/data$"):
        images_at(uri, **settings)
    with pytest.raises(PermissionDenied, match="allowed: none; LAVISE_ALLOWED_URIS"):
        images_at(uri)


@given(st.text(alphabet="file:/s3%2eE.\\\x00?#ab ", max_size=40))
def test_no_uri_reaches_beyond_the_list(uri: str) -> None:
    for text in (uri, f"file:///{uri}", f"file:///a/{uri}", f"s3://bucket/{uri}"):
        try:
            folder = Folder.of(text)
        except LaviseError:
            continue
        assert not {"", ".", ".."} & set(folder.parts)
        assert not any(c in part for part in folder.parts for c in "/\\\0")
        assert Folder.of(str(folder)) == folder


def test_a_wrong_list_stops_the_start() -> None:
    with pytest.raises(SpecError, match="LAVISE_ALLOWED_URIS"):
        UriImages(Settings(allowed_uris=("file:///data/../etc",)))


def test_links_are_not_followed(data: Path, tmp_path: Path) -> None:
    (data / "out.png").symlink_to(tmp_path / "secret.png")
    (data / "in.png").symlink_to(data / "a.jpg")
    (data / "way").symlink_to(tmp_path / "other")
    (data / "cats" / "up").symlink_to("../..")
    os.mkfifo(data / "pipe.png")
    names = [name for name, _ in images_at(f"file://{data}", **allow(data))]
    assert names == ["a.jpg", "b.png", "cats/1.png", "cats/2.PNG"]
    for uri in (f"file://{data}/way", f"file://{data}/cats/up/other", f"file://{data}/a.jpg"):
        with pytest.raises(PermissionDenied, match="symbolic link"):
            images_at(uri, **allow(data))


def test_the_listed_folder_may_be_a_link(data: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(data)
    found = images_at(f"file://{tmp_path}/current/cats", **allow(tmp_path / "current"))
    assert len(found) == 2


@pytest.mark.parametrize("swapped", ["cats/2.PNG", "cats"])
def test_what_is_swapped_for_a_link_meanwhile_leads_nowhere(
    data: Path, tmp_path: Path, swapped: str
) -> None:
    """Ten images come first: more than are read ahead."""
    write(data, *(f"0/{n}.png" for n in range(10)))
    write(tmp_path, "other/1.png", "other/2.PNG")

    async def swap() -> list[bytes]:
        found: list[bytes] = []
        async with aclosing(UriImages(Settings(**allow(data))).images(f"file://{data}")) as images:
            async for _, content in images:
                if not found:
                    (data / swapped).rename(tmp_path / "away")
                    (data / swapped).symlink_to(
                        tmp_path / "other" / "1.png" if "." in swapped else tmp_path / "other"
                    )
                found.append(content)
        return found

    with pytest.raises(PermissionDenied, match="symbolic link"):
        asyncio.run(swap())


def test_an_image_that_is_too_large_comes_one_byte_longer_than_the_limit(data: Path) -> None:
    (data / "cats" / "1.png").write_bytes(bytes(3 * MIB))
    found = images_at(f"file://{data}/cats", **allow(data), max_image_bytes=MIB)
    assert [len(content) for _, content in found] == [MIB + 1, 10]


def test_too_many_images_are_refused(data: Path) -> None:
    assert len(images_at(f"file://{data}", **allow(data), max_images_per_set=4)) == 4
    with pytest.raises(RequestError, match="more than 3 images"):
        images_at(f"file://{data}", **allow(data), max_images_per_set=3)


def test_a_folder_that_is_not_there_or_has_no_image_is_named(data: Path) -> None:
    with pytest.raises(NotFound, match="data/dogs"):
        images_at(f"file://{data}/dogs", **allow(data))
    (data / "empty").mkdir()
    with pytest.raises(RequestError, match="data/empty holds no image"):
        images_at(f"file://{data}/empty", **allow(data))


def test_reading_stops_when_nobody_asks(data: Path) -> None:
    async def read_one() -> int:
        before = len(asyncio.all_tasks())
        async with aclosing(UriImages(Settings(**allow(data))).images(f"file://{data}")) as images:
            await anext(images)
        await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - before

    assert asyncio.run(read_one()) == 0


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


def test_images_on_s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    s3 = s3_filesystem(BUCKET, endpoint, REGION)
    for name in ("cats/2.png", "cats/1.png", "cats/more/3.jpg", "cats/x.txt", "dogs/1.png"):
        with s3.open_output_stream(f"{BUCKET}/{name}") as stream:
            stream.write(name.encode() * 10)
    options = {
        "allowed_uris": (f"s3://{BUCKET}/cats", "s3://there-is-none"),
        "s3_endpoint": endpoint,
        "s3_region": REGION,
    }
    names = ("1.png", "2.png", "more/3.jpg")
    expected = [(name, f"cats/{name}".encode() * 10) for name in names]
    assert images_at(f"s3://{BUCKET}/cats", **options) == expected
    assert images_at(f"s3://{BUCKET}/cats/", **options) == expected
    small = images_at(f"s3://{BUCKET}/cats/more", **options, max_image_bytes=7)
    assert small == [("3.jpg", b"cats/mor")]
    for uri in (f"s3://{BUCKET}", f"s3://{BUCKET}/dogs"):
        with pytest.raises(PermissionDenied):
            images_at(uri, **options)
    with pytest.raises(NotFound):
        images_at(f"s3://{BUCKET}/cats/none", **options)
    with pytest.raises((NotFound, EnvironmentProblem), match="there-is-none"):
        images_at("s3://there-is-none/x", **options)
