import asyncio
import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavise.errors import InputError, RequestError
from lavise_service.companion.archive_entries import ArchiveLimits
from lavise_service.companion.archives import receive_archive
from lavise_service.companion.problems import ResourceExhausted, TooLarge, UnsupportedMediaType
from lavise_service.companion.settings import Settings
from tests.full_disk import no_file_over

MIB = 2**20
LIMITS = ArchiveLimits(
    max_archive_bytes=8 * MIB, max_ratio=100, max_image_bytes=MIB // 4, max_images=50
)
FILES = {
    "cats/1.jpg": b"one" * 1000,
    "cats/2.PNG": b"",
    "./dogs/3.webp": bytes(range(256)),
    "README.txt": b"read me",
    ".DS_Store": b"x",
    "__MACOSX/cats/._1.jpg": b"x",
    "cats/.thumb.png": b"x",
    "Thumbs.db": b"x",
    "inner.zip": b"PK\x03\x04",
}
IMAGES = {
    "cats/1.jpg": FILES["cats/1.jpg"],
    "cats/2.PNG": b"",
    "dogs/3.webp": FILES["./dogs/3.webp"],
}
Files = dict[str, bytes]


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("cats/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: Files, mode: str = "w:", form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def with_entry(change: Callable[[tarfile.TarInfo], None], name: str = "x.png") -> bytes:
    """A tar of one plain image and one entry of another kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for n, each in enumerate(("a.png", name)):
            info = tarfile.TarInfo(each)
            if n:
                change(info)
            archive.addfile(info)
    return out.getvalue()


async def pieces(data: bytes, size: int = 7000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read(data: bytes, limits: ArchiveLimits = LIMITS) -> tuple[list[tuple[str, bytes]], list[str]]:
    async def reading() -> tuple[list[tuple[str, bytes]], list[str]]:
        async with receive_archive(pieces(data), limits) as archive:
            async with aclosing(archive.images()) as images:
                found = [image async for image in images]
            return found, archive.skipped

    return asyncio.run(reading())


MAKERS: dict[str, Callable[[Files], bytes]] = {
    "zip": zipped,
    "stored": lambda files: zipped(files, zipfile.ZIP_STORED),
    "tar": tarred,
    "gnu": lambda files: tarred(files, form=tarfile.GNU_FORMAT),
    "gz": lambda files: tarred(files, "w:gz"),
    "bz2": lambda files: tarred(files, "w:bz2"),
    "xz": lambda files: tarred(files, "w:xz"),
}
made_by = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@made_by
def test_images_come_out_and_the_rest_is_named(make: Callable[[Files], bytes]) -> None:
    found, skipped = read(make(FILES))
    assert dict(found) == IMAGES
    assert len(found) == 3
    assert sorted(skipped) == sorted(FILES.keys() - {"cats/1.jpg", "cats/2.PNG", "./dogs/3.webp"})


@made_by
def test_long_and_foreign_names(make: Callable[[Files], bytes]) -> None:
    files = {f"{'folder/' * 30}ünï 猫.png": b"a", "a" * 200 + ".png": b"b"}
    assert dict(read(make(files))[0]) == files


def test_names_that_are_no_text_are_read_all_the_same() -> None:
    data = tarred({"\udcff.png": b"a"}, form=tarfile.GNU_FORMAT)
    assert read(data)[0] == [("�.png", b"a")]


def test_several_packed_streams_are_one() -> None:
    data = tarred(FILES)
    for pack in (_gzip, _bz2, _xz):
        half = len(data) // 2
        assert dict(read(pack(data[:half]) + pack(data[half:]))[0]) == IMAGES


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def _bz2(data: bytes) -> bytes:
    return bz2.compress(data)


def _xz(data: bytes) -> bytes:
    return lzma.compress(data)


@made_by
def test_an_image_that_is_too_large_is_cut_and_the_others_come(
    make: Callable[[Files], bytes], random_bytes: bytes
) -> None:
    files = {"a.png": b"a", "large.png": random_bytes, "z.png": b"z"}
    sizes = {name: len(content) for name, content in read(make(files))[0]}
    assert sizes == {"a.png": 1, "large.png": LIMITS.max_image_bytes + 1, "z.png": 1}


@pytest.fixture
def random_bytes() -> bytes:
    return np.random.default_rng(0).bytes(LIMITS.max_image_bytes * 2)


@pytest.mark.parametrize("make", [zipped, MAKERS["gz"], MAKERS["bz2"], MAKERS["xz"]])
def test_a_bomb_is_refused(make: Callable[[Files], bytes]) -> None:
    bomb = make({"a.png": b"a", "bomb.png": bytes(64 * MIB)})
    assert len(bomb) < MIB // 2
    with pytest.raises(
        RequestError, match=r"'bomb\.png' .* times its size, as only a zip bomb does"
    ):
        read(bomb)
    many = make({f"{n}.png": bytes(MIB // 8) for n in range(50)})
    with pytest.raises(RequestError, match=r"png' .* zip bomb"):
        read(many)


@pytest.mark.parametrize("make", [MAKERS["gz"], MAKERS["bz2"], MAKERS["xz"]])
def test_a_bomb_costs_no_memory(make: Callable[[Files], bytes]) -> None:
    bomb = make({"notes.txt": bytes(64 * MIB)})
    tracemalloc.start()
    with pytest.raises(RequestError, match="zip bomb"):
        read(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MIB


def test_archives_in_archives_stay_closed() -> None:
    inner = zipped({"a.png": b"a"})
    assert read(zipped({"b.png": b"b", "inner.zip": inner}))[0] == [("b.png", b"b")]


def test_a_zip_that_lies_about_a_size_gives_no_more_than_it_says() -> None:
    data = bytearray(zipped({"a.png": bytes(200_000)}))
    at = data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x05\x06"))
    struct.pack_into("<L", data, at + 24, 100)  # the uncompressed size, in the table of contents
    with pytest.raises(RequestError, match=r"damaged.*a\.png"):
        read(bytes(data))


def test_entries_that_overlap_are_refused() -> None:
    """Many entries of the table of contents lead to the same bytes."""
    content = bytes(100_000)
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packed.compress(content) + packed.flush()
    crc = zlib.crc32(content)
    local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(body), 100_000, 5, 0)
    table = b"".join(
        struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(body), 100_000,
            5, 0, 0, 0, 0, 0, 0,
        )
        + b"a.png"
        for _ in range(40)
    )  # fmt: skip
    start = len(local) + 5 + len(body)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 40, 40, len(table), start, 0)
    data = local + b"a.png" + body + table + end
    generous = ArchiveLimits(MIB, 10**6, MIB, 100)
    with pytest.raises(RequestError, match=r"'a\.png' .* overlaps"):
        read(data, generous)


@made_by
@pytest.mark.parametrize(
    "name",
    [
        "/etc/cats.png",
        "../cats.png",
        "cats/../../x.png",
        "cats/..",
        "..\\cats.png",
        "C:\\cats.png",
        "c:cats.png",
        "cats\\1.png",
        "a\nb.png",
        "a\x7f.png",
        "a" * 1100 + ".png",
    ],
)
def test_names_that_lead_away_are_refused(make: Callable[[Files], bytes], name: str) -> None:
    with pytest.raises(RequestError, match="in the archive is not accepted") as raised:
        read(make({"a.png": b"a", name: b"x"}))
    assert repr(name[:200])[1:-1] in raised.value.message


def test_a_nul_in_a_name_hides_nothing() -> None:
    data = zipped({"a.png": b"a", "catsX.exe.png": b"x"}).replace(b"catsX.exe", b"cats\x00.exe")
    with pytest.raises(RequestError, match="control characters"):
        read(data)
    pax = tarred({"a.png": b"a", "é" * 60 + "X.png": b"x"}).replace(b"X.png", b"\x00.png")
    with pytest.raises(RequestError):
        read(pax)


KINDS = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "another kind": b"V",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_links_and_devices_in_a_tar_are_refused(kind: bytes) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = kind, "/etc/passwd"

    with pytest.raises(RequestError, match=r"'x\.png' .* link or a device"):
        read(with_entry(change))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(kind: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("x.png")
        info.create_system, info.external_attr = 3, (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(RequestError, match=r"'x\.png' .* link or a device"):
        read(out.getvalue())


def test_an_encrypted_entry_is_refused() -> None:
    data = bytearray(zipped({"x.png": b"x"}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(RequestError, match=r"'x\.png' .* encrypted"):
        read(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_of_a_zip_are_refused(method: int) -> None:
    with pytest.raises(RequestError, match=r"'x\.png' .* accepted: stored, deflated"):
        read(zipped({"x.png": b"x"}, method))


@made_by
def test_too_many_entries_are_refused(make: Callable[[Files], bytes]) -> None:
    full = {f"{n}.png": b"x" for n in range(50)}
    assert len(read(make(full))[0]) == 50
    with pytest.raises(RequestError, match=r"'50\.png' .* more than 50 images"):
        read(make(full | {"50.png": b"x"}))
    notes = {f"{n}.txt": b"" for n in range(LIMITS.max_entries + 1)}
    with pytest.raises(RequestError, match="more than"):
        read(make(notes))


def test_a_table_of_contents_without_end_is_not_read() -> None:
    with pytest.raises(RequestError, match="table of contents has more than"):
        read(zipped({f"{n:0200d}.txt": b"" for n in range(1500)}))


@made_by
def test_a_truncated_archive_is_refused(make: Callable[[Files], bytes]) -> None:
    data = make({f"{n}.png": bytes(range(256)) * 8 for n in range(6)})
    # Of a plain tar, only zeros at the end may be missing.
    whole = len(data.rstrip(b"\0")) + 512 if make in (tarred, MAKERS["gnu"]) else len(data)
    for end in [*range(300, whole - 1, 501), whole - 1]:
        with pytest.raises(InputError):
            read(data[:end])


@pytest.mark.parametrize("make", [MAKERS["gz"], MAKERS["bz2"], MAKERS["xz"], zipped])
def test_a_wrong_checksum_is_found(make: Callable[[Files], bytes]) -> None:
    data = bytearray(make({"a.png": bytes(range(256)) * 100}))
    data[len(data) // 2 if make is not zipped else 100] ^= 0x55
    with pytest.raises(RequestError, match="damaged or was cut short"):
        read(bytes(data))


def test_a_header_damaged_in_the_middle_is_no_end() -> None:
    data = bytearray(tarred({f"{n}.png": b"x" for n in range(4)}))
    data[2 * 1024 + 10] ^= 0xFF  # in the third header
    with pytest.raises(RequestError, match="damaged"):
        read(bytes(data))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_are_bounded(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 10**9
    with pytest.raises(RequestError, match="a header has 1,000,000,000 bytes"):
        read(info.tobuf() + bytes(10_240))


def test_headers_of_headers_come_to_an_end() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    with pytest.raises(RequestError, match="damaged"):
        read((info.tobuf() + b"a".ljust(512, b"\0")) * 3000)


def test_a_sparse_entry_is_refused() -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.type = tarfile.GNUTYPE_SPARSE

    with pytest.raises(RequestError, match="link or a device"):
        read(with_entry(change))


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"\x89PNG\r\n\x1a\n", b"hello" * 200, b"Rar!\x1a\x07\x00", bytes(20_000)]
)
def test_what_is_no_archive_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match=r"accepted: zip, tar, tar\.gz"):
        read(data)


@pytest.mark.parametrize("data", [_gzip(b"hello"), _bz2(b""), _xz(b"x" * 9999)])
def test_what_is_packed_but_no_tar_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        read(data)


@made_by
def test_an_archive_without_images_is_refused(make: Callable[[Files], bytes]) -> None:
    with pytest.raises(RequestError, match="holds no image; 2 other files were passed over"):
        read(make({"a.txt": b"a", "b.md": b"b"}))
    with pytest.raises(InputError, match=r"holds no image|no archive"):
        read(make({}))


def test_more_bytes_than_allowed_are_not_taken() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65536
            yield bytes(65536)

    async def receive() -> None:
        async with receive_archive(endless(), LIMITS):
            pass

    with pytest.raises(TooLarge, match="LAVISE_MAX_ARCHIVE_BYTES"):
        asyncio.run(receive())
    assert taken <= LIMITS.max_archive_bytes + 65536


def test_a_full_disk_is_said() -> None:
    async def receive() -> None:
        async with receive_archive(pieces(bytes(4 * MIB), MIB), LIMITS):
            pass

    with no_file_over(1000), pytest.raises(ResourceExhausted, match="no room for the archive"):
        asyncio.run(receive())


def test_limits_are_those_of_the_settings() -> None:
    given_by = Settings(max_archive_bytes=5, max_archive_ratio=6, max_image_bytes=7)
    assert ArchiveLimits.of(given_by) == ArchiveLimits(5, 6, 7, 100_000)


def changed(data: bytes, edits: Iterable[tuple[int, int]], cut: int) -> bytes:
    broken = bytearray(data)
    for at, value in edits:
        broken[at % len(broken)] = value
    return bytes(broken[: len(broken) - cut % len(broken)])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([make(FILES) for make in MAKERS.values()]),
    st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=8),
    st.just(0) | st.integers(0),
)
def test_whatever_is_broken_is_read_or_refused(
    data: bytes, edits: list[tuple[int, int]], cut: int
) -> None:
    try:
        found, _ = read(changed(data, edits, cut))
    except InputError:
        return
    for name, content in found:
        assert not name.startswith("/")
        assert len(content) <= LIMITS.max_image_bytes + 1
