import base64
import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise import errors
from lavise.errors import LaviseError, RequestError
from lavise.explainer import Explainer
from lavise.images import prepare
from lavise.messages import (
    describe_filters,
    error_status,
    image_bytes,
    message_dict,
    model_message,
    options_from_request,
    parse_message,
    response_dict,
)
from lavise.options import METHODS, ExplainOptions
from lavise.v1 import explain_pb2
from tests.bundle_copies import without_catalog
from tests.tiny_cnn import CHANNELS, DEAD_FILTER, INPUT_SIZE, LAYERS


@pytest.fixture(scope="module")
def explainer(tiny_bundle: Path) -> Explainer:
    return Explainer.open(tiny_bundle, device="cpu", threads=1)


@pytest.fixture(scope="module")
def image(tiny_pictures: Path) -> np.ndarray:
    return prepare((tiny_pictures / "ocean" / "03.png").read_bytes(), INPUT_SIZE)


def in_float32(value: Any) -> Any:
    """Numbers as the messages hold them: protobuf writes the fewest digits, orjson all."""
    if isinstance(value, dict):
        return {key: in_float32(one) for key, one in value.items()}
    if isinstance(value, list):
        return [in_float32(one) for one in value]
    return float(np.float32(value)) if isinstance(value, float) else value


@pytest.mark.parametrize(
    "options",
    [
        ExplainOptions(),
        ExplainOptions(layer="body", filters=(DEAD_FILTER, 0), top_k=16),
        ExplainOptions(layer="body", all_filters=True, method="activation"),
        ExplainOptions(most_active=2, method="image", top_k=1),
    ],
)
def test_answers_are_what_protobuf_would_print(
    options: ExplainOptions, explainer: Explainer, image: np.ndarray
) -> None:
    sources = ['a"quoted" näme\n.png', ""]
    explanations = explainer.explain([image, 255 - image], options)
    written = orjson.dumps(response_dict(explanations, sources, explainer.digest))

    message = json_format.Parse(written, explain_pb2.ExplainResponse(), ignore_unknown_fields=False)

    printed = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    assert in_float32(orjson.loads(written)) == in_float32(printed)
    assert message.bundle_digest == explainer.digest
    assert [one.source for one in message.images] == sources
    for explanation, one in zip(explanations, message.images, strict=True):
        assert [f.index for f in one.filters] == explanation.filters.tolist()
        assert [(p.label, p.probability) for p in one.predictions] == explanation.predictions()
        for row, f in enumerate(one.filters):
            assert [(w.word, w.score) for w in f.words] == explanation.words(row)
            assert f.inactive == (not f.words)
            assert f.HasField("threshold")
            assert f.HasField("qualified")


def test_without_a_catalog_threshold_is_unset(
    tiny_bundle: Path, image: np.ndarray, tmp_path: Path
) -> None:
    plain = Explainer.open(without_catalog(tiny_bundle, tmp_path / "bundle"), device="cpu")
    answer = response_dict(plain.explain([image]), ["x"], plain.digest)
    message = json_format.ParseDict(answer, explain_pb2.ExplainResponse())
    for one in message.images[0].filters:
        assert not one.HasField("threshold")
        assert not one.HasField("qualified")
        assert not one.verdict
        assert not one.catalog_words
    printed = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    assert in_float32(answer) == in_float32(printed)
    with pytest.raises(RequestError, match="lavise catalog"):
        describe(plain)


def test_request_in_full() -> None:
    request = parse_message(
        b'{"layer": "body", "filters": {"indices": [3, 1]}, "topK": 7, "method": "original"}',
        explain_pb2.ExplainRequest(),
    )
    assert options_from_request(request) == ExplainOptions(
        layer="body", filters=(3, 1), top_k=7, method="original"
    )


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ({}, ExplainOptions()),
        ({"mostActive": 4}, ExplainOptions(most_active=4)),
        ({"most_active": 4, "top_k": 2}, ExplainOptions(most_active=4, top_k=2)),
        ({"allFilters": True}, ExplainOptions(all_filters=True)),
        ({"filters": {}}, ExplainOptions(filters=())),
        ({"topK": 0}, ExplainOptions(top_k=0)),  # given, and wrong: not the default
        ({"mostActive": 0}, ExplainOptions(most_active=0)),
        ({"layer": None, "topK": None}, ExplainOptions()),
        ({"topK": "3"}, ExplainOptions(top_k=3)),  # protobuf's JSON form allows it
    ],
)
def test_requests_become_options(asked: dict[str, Any], options: ExplainOptions) -> None:
    assert options_from_request(parse_message(asked, explain_pb2.ExplainRequest())) == options


def test_all_filters_false_selects_nothing() -> None:
    with pytest.raises(RequestError, match="all_filters is false") as caught:
        options_from_request(explain_pb2.ExplainRequest(all_filters=False))
    assert caught.value.field == "all_filters"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[]",
        b"3",
        b'"text"',
        b"null",
        b'{"layer": 3}',
        b'{"layer": ["body"]}',
        b'{"layer": "\\ud800"}',
        b'{"topK": 1.5}',
        b'{"topK": 1e400}',
        b'{"topK": NaN}',
        b'{"topK": 99999999999999999999999}',
        b'{"topK": 2147483648}',
        b'{"topK": true}',
        b'{"topK": {}}',
        b'{"filters": 3}',
        b'{"filters": [3]}',
        b'{"filters": "3"}',
        b'{"filters": {"indices": 3}}',
        b'{"filters": {"indices": ["a"]}}',
        b'{"filters": {"indices": [null]}}',
        b'{"filters": {"indices": [1]}, "mostActive": 3}',
        b'{"mostActive": 1, "most_active": 2}',
        b'{"allFilters": "yes"}',
        b'{"unknown": 1}',
        b'{"images": {"content": ""}}',
        b'{"images": [3]}',
        b'{"images": [{"content": 3}]}',
        b'{"layer": "a\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"filters": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"layer": "' + b"x" * 100 + b'"',
    ],
)
def test_hostile_json_is_a_request_error(data: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_message(data, explain_pb2.ExplainRequest())
    assert caught.value.field == "request"


def test_the_message_says_what_is_accepted() -> None:
    with pytest.raises(RequestError, match=r'"colour".*Accepted fields: model'):
        parse_message({"colour": "red"}, explain_pb2.ExplainRequest())


FIELDS = [field.json_name for field in explain_pb2.ExplainRequest.DESCRIPTOR.fields]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["NaN", "-Infinity", "1e9", "AAAA", *METHODS]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*FIELDS, "indices", "content", "source", "@type"]) | st.text(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
REQUESTS: list[type[Message]] = [
    explain_pb2.ExplainRequest,
    explain_pb2.DescribeFiltersRequest,
    explain_pb2.GetModelRequest,
]


@settings(deadline=None, max_examples=300)
@given(
    body=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), anything, max_size=4),
    kind=st.sampled_from(REQUESTS),
)
def test_any_object_is_a_message_or_a_request_error(
    body: dict[str, Any], kind: type[Message]
) -> None:
    message = kind()
    with contextlib.suppress(RequestError):
        assert parse_message(body, message) is message
    message.SerializeToString()


@settings(deadline=None)
@given(data=st.binary(max_size=40) | st.text(alphabet='{}[]":,0123456789.eE+-tfn ').map(str.encode))
def test_any_bytes_are_a_message_or_a_request_error(data: bytes) -> None:
    with contextlib.suppress(RequestError):
        parse_message(data, explain_pb2.ExplainRequest())


@given(content=st.binary(max_size=20))
def test_images_travel_in_any_base64(content: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(content).decode()
        assert image_bytes(text) == content
        assert image_bytes(text.rstrip("=")) == content


@pytest.mark.parametrize("text", ["a", "ab$c", "äöü=", "AA=A", "====", "A" * 9, "\0\0\0\0"])
def test_other_text_is_no_image(text: str) -> None:
    with pytest.raises(RequestError, match="no base64") as caught:
        image_bytes(text)
    assert caught.value.field == "images.content"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ImageError, code_pb2.INVALID_ARGUMENT),
        (errors.RequestError, code_pb2.INVALID_ARGUMENT),
        (errors.SpecError, code_pb2.INVALID_ARGUMENT),
        (errors.DatasetError, code_pb2.INVALID_ARGUMENT),
        (errors.BundleError, code_pb2.FAILED_PRECONDITION),
        (errors.EnvironmentProblem, code_pb2.UNAVAILABLE),
        (errors.LaviseError, code_pb2.INTERNAL),
    ],
)
def test_errors_become_statuses(kind: type[LaviseError], code: int) -> None:
    status = error_status(kind("what was wrong", field="layer"))
    assert status.code == code
    assert status.message == "what was wrong"
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    [violation] = detail.field_violations
    assert (violation.field, violation.description) == ("layer", "what was wrong")
    assert not error_status(kind("no field")).details
    printed = message_dict(status)
    assert json_format.ParseDict(printed, status_pb2.Status()) == status


def test_other_exceptions_tell_nothing_of_the_inside() -> None:
    status = error_status(ValueError("/secret/path"))
    assert status.code == code_pb2.INTERNAL
    assert "secret" not in status.message


def test_text_that_utf_8_has_no_form_for() -> None:
    """A file name that is no UTF-8 reaches Python with lone surrogates in it."""
    status = error_status(RequestError("no file 'a\udcff.png'", field="b\udcff.png"))
    assert status.message == "no file 'a?.png'"
    assert status.SerializeToString()


def test_sources_that_utf_8_has_no_form_for(explainer: Explainer, image: np.ndarray) -> None:
    answer = response_dict(explainer.explain([image]), ["a\udcff.png"], explainer.digest)
    assert orjson.loads(orjson.dumps(answer))["images"][0]["source"] == "a?.png"


def describe(explainer: Explainer, **asked: Any) -> explain_pb2.DescribeFiltersResponse:
    request = explain_pb2.DescribeFiltersRequest(**asked)
    return describe_filters(explainer, request)


@pytest.mark.parametrize("size", [1, 5, 12, 1000])
def test_pages_hold_every_filter_once(size: int, explainer: Explainer) -> None:
    seen, token = [], ""
    while True:
        page = describe(explainer, layer="body", page_size=size, page_token=token)
        assert len(page.filters) <= size
        assert page.bundle_digest == explainer.digest
        seen += [one.index for one in page.filters]
        token = page.next_page_token
        if not token:
            break
    assert seen == list(range(CHANNELS["body"]))


def test_described_filters_are_the_catalog(explainer: Explainer) -> None:
    catalog = explainer.catalog("body")
    assert catalog is not None
    page = describe(explainer, layer="body", indices=[5, 2])
    assert [one.index for one in page.filters] == [5, 2]
    for one in page.filters:
        assert one.layer == "body"
        assert one.threshold == catalog.threshold[one.index]
        assert one.verdict == catalog.verdict[one.index]
        assert one.q_value == pytest.approx(catalog.q_value[one.index])
        assert [w.word for w in one.words] == [word for word, _ in catalog.words[one.index]]
        assert [t.source for t in one.top_images] == [s for s, _ in catalog.top_images[one.index]]
        activations = [t.activation for t in one.top_images]
        assert activations == sorted(activations, reverse=True)
    json_format.ParseDict(message_dict(page), explain_pb2.DescribeFiltersResponse())


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"layer": "tail"}, "layer"),
        ({"indices": [8]}, "filters"),
        ({"indices": [-1]}, "filters"),
        ({"indices": [1, 1]}, "filters"),
        ({"page_size": -1}, "page_size"),
        ({"page_size": 1001}, "page_size"),
        *[
            ({"page_token": token}, "page_token")
            for token in ("-1", "x", "1.5", "²", "٣", " 1", "9" * 5000)
        ],
    ],
)
def test_wrong_look_ups_name_their_field(
    asked: dict[str, Any], field: str, explainer: Explainer
) -> None:
    with pytest.raises(RequestError) as caught:
        describe(explainer, **asked)
    assert caught.value.field == field


def test_model_says_what_is_loaded(explainer: Explainer) -> None:
    message = model_message(explainer)
    assert message.model == "tiny"
    assert message.bundle_digest == explainer.digest
    assert message.input_size == INPUT_SIZE
    assert [layer.name for layer in message.layers] == list(LAYERS)
    assert [layer.channels for layer in message.layers] == list(CHANNELS.values())
    assert all(layer.catalog_images == 72 for layer in message.layers)
    assert all(layer.mapper == "concepts" for layer in message.layers)
    assert message.vocabulary_size == 16
    assert tuple(message.methods) == METHODS
    assert list(message.providers) == ["CPUExecutionProvider"]
    assert message.device == "cpu"
    assert message.versions["numpy"] == np.__version__
    printed = message_dict(message)
    assert json_format.ParseDict(printed, explain_pb2.GetModelResponse()) == message


def test_no_number_is_lost_on_the_way(explainer: Explainer, image: np.ndarray) -> None:
    """Scores are cosines and probabilities shares: never null, never NaN."""
    text = orjson.dumps(response_dict(explainer.explain([image]), ["x"], explainer.digest))
    assert b"null" not in text
    for one in orjson.loads(text)["images"][0]["filters"]:
        for word in one["words"]:
            assert math.isfinite(word["score"])
            assert -1.00001 <= word["score"] <= 1.00001
