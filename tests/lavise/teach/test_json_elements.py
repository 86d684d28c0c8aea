import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.errors import DatasetError
from lavise.teach.json_elements import elements

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


def written(folder: Path, data: bytes | str) -> Path:
    file = folder / "it.json"
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file


def walked(file: Path, keys: tuple[str, ...] = ("a",)) -> list[tuple[str, Any]]:
    data = file.read_bytes()
    found = []
    for element in elements(file, keys):
        assert json.loads(data[element.start : element.start + element.length]) is not None
        found.append((element.key, element.value))
    return found


@given(
    wanted=st.lists(OBJECTS, max_size=5),
    others=st.dictionaries(st.text().filter(lambda key: key != "a"), VALUES, max_size=4),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_every_object_is_found(
    tmp_path_factory: pytest.TempPathFactory,
    wanted: list[dict[str, Any]],
    others: dict[str, Any],
    indent: int | None,
    *,
    ascii_only: bool,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for whole, key in ((wanted, ""), ({**others, "a": wanted, "z": 1}, "a")):
        text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
        data = text.encode("utf-8", "surrogatepass")
        found = walked(written(folder, data))
        assert repr(found) == repr([(key, json.loads(json.dumps(o))) for o in wanted])


@given(st.lists(OBJECTS, min_size=1, max_size=3), st.data())
@settings(max_examples=100, deadline=None)
def test_cut_short_anywhere(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[dict[str, Any]], data: st.DataObject
) -> None:
    text = json.dumps({"info": {"x": [1]}, "a": wanted, "b": [2]}).encode()
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    file = written(tmp_path_factory.getbasetemp(), cut)
    with pytest.raises(DatasetError, match=r"it\.json: (not valid JSON|empty)"):
        walked(file)


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "null",
        '"a"',
        '{"a": [{}], }',
        '{"a": [{},]}',
        '{"a": [{} {}]}',
        '{"a": [{}}',
        '{"a": [{}]} {}',
        '{"a": {}}',
        '{"a": null}',
        '{"a": [1]}',
        '{"a": [{"b" 1}]}',
        '{"a": [{"b": 01}]}',
        '{"a": ["x"]}',
        '{"a" [{}]}',
        "{a: [{}]}",
        '{"\\x": 1}',
        "[[]]",
        "[" * 100_000,
        '{"a": [' + '{"b":' * 1000,
        '{"a": [{"b": ' + "[" * 100_000 + "]" * 100_000 + "}]}",
        '{"c": ' + "[" * 100 + "]" * 100 + "}",
        '{"a": [{"b": "\\ud800',
    ],
)
def test_no_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(DatasetError, match=r"it\.json: not valid JSON (at|in the object at) byte"):
        walked(written(tmp_path, text))


def test_what_passes(tmp_path: Path) -> None:
    assert walked(written(tmp_path, "[]")) == []
    assert walked(written(tmp_path, "{ }")) == []
    assert walked(written(tmp_path, '\ufeff [ {"a": 1} , { } ] \n')) == [("", {"a": 1}), ("", {})]
    assert walked(written(tmp_path, '{"a": [ ], "a": [{}]}')) == [("a", {})]
    [(_, nan)] = walked(written(tmp_path, '[{"x": NaN}]'))
    assert nan["x"] != nan["x"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        list(elements(tmp_path / "nowhere.json", ()))
    with pytest.raises(DatasetError, match="cannot be read"):
        list(elements(tmp_path, ()))


@pytest.mark.parametrize("text", ['{"a": [{"b": "' + "\\" * 1_000_001, '{"a": [{' + '"' * 999_999])
def test_hostile_text_takes_no_longer(tmp_path: Path, text: str) -> None:
    file, began = written(tmp_path, text), time.monotonic()
    with pytest.raises(DatasetError):
        walked(file)
    assert time.monotonic() - began < 2
