import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.errors import RequestError
from lavise_open_inference import Infer, read_infer

Json = dict[str, Any]
PICTURE = base64.b64encode(b"picture").decode()
IMAGE: Json = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [PICTURE]}


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> Json:
    shape = [len(data)] if shape is None else shape
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def text(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def infer(*inputs: Any) -> Infer:
    read = read_infer({"body": json.dumps({"id": "7", "inputs": inputs}).encode()}, "lavise")
    assert read is not None
    return read


@pytest.mark.parametrize(
    "body",
    [b"\x89PNG", b'{"images": []}', b'"inputs"', b'{"inputs": 3}', b'{"inputs"', {"topK": 3}, None],
)
def test_other_requests_are_left_alone(body: Any) -> None:
    assert read_infer({"body": body}, "lavise") is None
    assert read_infer({"image": body}, "lavise") is None


def test_tensors_become_the_entries_of_a_form() -> None:
    two = tensor("image", "BYTES", [PICTURE, text("other")])
    request = tensor("request", "BYTES", [text({"layer": "body"})])
    read = infer(
        two, tensor("filters", "UINT8", [3, 1]), tensor("k", "INT16", [2], [1, 1]), request
    )
    assert read.entries() == {
        "image": b"picture",
        "image_2": b'"other"',
        "request": {"layer": "body", "filters": {"indices": [3, 1]}, "topK": 2},
    }


def test_a_body_that_torchserve_has_parsed_is_read_as_well() -> None:
    read = read_infer({"body": {"inputs": [IMAGE]}}, "lavise")
    assert read is not None
    assert (read.id, read.entries()) == ("", {"image": b"picture", "request": {}})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("no tensor", "unknown input tensor ''"),
        ({"name": ["image"]}, r"unknown input tensor .*accepted: image, filters, k, request"),
        (IMAGE, "image is there twice"),
        (tensor("k", "FP32", [1.5]), "k is 'FP32'; accepted: INT16"),
        (tensor("k", "INT32", [1, 2]), "k is not one value"),
        (tensor("k", "INT32", [True]), "no whole numbers"),
        (tensor("filters", "INT64", [1, 2], [3]), r"2 values, which is not its shape \[3\]"),
        (tensor("filters", "INT64", [1], None) | {"shape": "1"}, "not its shape '1'"),
        ({"name": "filters", "datatype": "INT64", "shape": [1]}, "raw_input_contents"),
        (tensor("request", "BYTES", [3]), "no base64"),
        (tensor("request", "BYTES", ["?"]), "no base64"),
        (tensor("request", "BYTES", []), "request is no JSON"),
        (tensor("request", "BYTES", [text([])]), "no ExplainRequest"),
        (tensor("request", "BYTES", [text({"profile": {}})]), "no ExplainRequest"),
    ],
)
def test_a_wrong_tensor_is_named(wrong: Any, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        infer(IMAGE, wrong).entries()


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(values, lambda x: st.lists(x) | st.dictionaries(st.text(), x))
odd_tensor = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["image", "filters", "k", "request"]) | json_values,
        "datatype": st.sampled_from(["BYTES", "INT64"]) | json_values,
        "shape": st.lists(st.integers(0, 3), max_size=2) | json_values,
        "data": st.lists(values, max_size=3) | json_values,
    },
)


@given(st.lists(odd_tensor | json_values, max_size=4))
def test_whatever_comes_is_read_or_refused(inputs: list[Any]) -> None:
    try:
        entries = Infer("", "lavise", inputs).entries()
    except RequestError:
        return
    assert isinstance(entries["image"], bytes)


def row(index: int, *words: str) -> Json:
    return {
        "index": index,
        "activation": float(index),
        "words": [{"word": word, "score": 0.5} for word in words],
    }


def test_an_inactive_filter_has_empty_words() -> None:
    images = [{"filters": [row(4, "cat", "dog"), row(2)]}, {"filters": [row(4), row(2, "a", "b")]}]
    answer = infer(IMAGE).answer({"images": images, "bundleDigest": "f00"})
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "lavise", "")
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert outputs["filters"]["shape"] == [2, 2]
    assert outputs["words"]["shape"] == outputs["scores"]["shape"] == [2, 2, 2]
    assert outputs["words"]["data"] == ["cat", "dog", "", "", "", "", "a", "b"]
    assert outputs["scores"]["data"] == [0.5, 0.5, 0, 0, 0, 0, 0.5, 0.5]
    assert outputs["bundle_digest"]["data"] == ["f00"]


def test_a_refusal_is_one_tensor() -> None:
    answer = infer(IMAGE).answer({"error": {"code": 3}})
    assert answer["outputs"] == [tensor("error", "BYTES", ['{"code":3}'])]
