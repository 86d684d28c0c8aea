"""Nothing here unpickles, and nothing that is made here is a pickle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from picklescan.scanner import scan_directory_path, scan_file_path

from lavise_service.archive import write_archive

ROOT = Path(__file__).parents[1]
CODE = sorted(
    file for folder in ("lavise", "service", "handlers") for file in (ROOT / folder).rglob("*.py")
)
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# An Unpickler whose find_class gives something that keeps its arguments and does nothing, for
# gensim's KeyedVectors; tests/lavise/test_word_files.py is hostile to it.
MAY = {"lavise/word_files.py"}
# What reads a pickle unless it is told not to, and how it is told.
TOLD = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def unpickles(text: str) -> Iterator[str]:
    """What in a program reads pickles."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name.split(".")[0] in UNPICKLING)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in UNPICKLING:
                yield module
            case ast.Call(func=ast.Attribute() as called, keywords=keywords):
                name = ast.unparse(called)
                if name in {"pd.read_pickle", "yaml.load", "yaml.unsafe_load", "torch.jit.load"}:
                    yield name
                if name in TOLD:
                    word, value = TOLD[name]
                    given = {one.arg: ast.unparse(one.value) for one in keywords}
                    if given.get(word) != repr(value):
                        yield f"{name} without {word}={value}"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, mmap_mode='r')",
        "yaml.load(text)",
    ],
)
def test_the_search_finds(text: str) -> None:
    assert list(unpickles(text))


def test_nothing_unpickles() -> None:
    assert len(CODE) > 150
    found = {
        str(file.relative_to(ROOT)): sorted(what)
        for file in CODE
        if (what := list(unpickles(file.read_text(encoding="utf-8"))))
    }
    assert found == {name: ["pickle"] for name in MAY}


def test_nothing_that_is_made_is_a_pickle(tiny_bundle: Path, tmp_path: Path) -> None:
    archive = write_archive(tiny_bundle, tmp_path)
    for result in (
        scan_directory_path(str(tiny_bundle)),
        scan_file_path(str(archive)),
        scan_directory_path(str(ROOT / "lavise")),
    ):
        assert result.issues_count == result.infected_files == 0
        assert not result.scan_err
        assert not result.globals
