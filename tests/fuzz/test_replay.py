"""A second of fuzzing in every run of the tests: seeds, and changes of them, always the same."""

import random
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fuzz import seeds, targets
from tests.fuzz.mutate_json import mutated


def changed(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled, or put in."""
    content = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.randint(0, 16))
        piece = draw.choice((b"", content[start:end] * 2, draw.randbytes(4), b"\xff" * 8))
        content[start:end] = piece
    return bytes(content)


def replay(
    target: targets.Target, given: Sequence[bytes], names: Sequence[str] = (), changes: int = 250
) -> int:
    """Runs seeds and changes; returns how many were accepted."""
    draw = random.Random(0)  # noqa: S311 - the same on every run
    accepted = sum(map(target, given))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, on files that it reads after all
        for number in range(changes):
            data = draw.choice(given)
            if names and number % 2:
                target(data[:1] + mutated(data[1:], number, names))
            else:
                target(changed(data, draw))
    return accepted


def test_images() -> None:
    assert replay(targets.image, seeds.images()) > 30


def test_requests() -> None:
    given = seeds.requests()
    assert replay(targets.request, given, ("images", "topK", "inputs", "shape")) > 20


@pytest.fixture
def target(tiny_bundle: Path, tmp_path: Path) -> targets.BundleTarget:
    return targets.BundleTarget(tiny_bundle, tmp_path)


def forged(target: targets.BundleTarget, name: str) -> bytes:
    """The first byte of an input that a good forger makes of a file."""
    return bytes([128 + target.files.index(name)])


def test_bundles(target: targets.BundleTarget, tiny_bundle: Path) -> None:
    given = seeds.bundles(target, tiny_bundle)
    assert replay(target, given, ("cnn", "layers", "files"), changes=60) == len(given)


@pytest.mark.parametrize("text", [b"\xf9\n" * 18, b"\xff" * 100], ids=["lines", "none"])
def test_a_forged_vocabulary_that_is_no_text(target: targets.BundleTarget, text: bytes) -> None:
    assert not target(forged(target, "vocabulary.txt") + text)


def test_a_forged_table_whose_words_are_no_text(
    target: targets.BundleTarget, tiny_bundle: Path
) -> None:
    name = "catalog.body.parquet"
    table = (tiny_bundle / name).read_bytes()
    for word in (b"tomato", b"lettuce", b"ocean", b"lemon"):
        table = table.replace(word, b"\x92" * len(word))
    assert not target(forged(target, name) + table)
    assert not target(forged(target, name) + table[: len(table) // 2])


def test_forged_tensors_that_are_none(target: targets.BundleTarget) -> None:
    name = "vocabulary.safetensors"
    for content in (b"", b"\xff" * 8, b"\x02" + b"\x00" * 7 + b"{}", b"\x08" + b"\x00" * 15):
        assert target(forged(target, name) + content) == content.endswith(b"{}")
