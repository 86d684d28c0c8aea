"""JSON answers to messages: the fast way against protobuf's own."""

from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from lavise.messages import message_dict
from lavise.v1 import explain_pb2 as pb
from lavise_service.companion.from_json import message_from

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
# Not the largest ones: protobuf's own reading refuses what its writing rounds up.
FLOAT = st.floats(-(2.0**99), 2.0**99, width=32) | st.sampled_from([float("nan"), float("inf")])
INT32 = st.integers(-(2**31), 2**31 - 1)
WORDS = st.lists(st.builds(pb.Word, word=TEXT, score=FLOAT), max_size=3)
HEATMAP = st.builds(pb.Heatmap, height=INT32, width=INT32, values=st.binary(max_size=9))
FILTER = st.builds(
    pb.FilterExplanation,
    layer=TEXT,
    index=INT32,
    activation=FLOAT,
    threshold=st.none() | FLOAT,
    qualified=st.none() | st.booleans(),
    inactive=st.booleans(),
    words=WORDS,
    catalog_words=WORDS,
    heatmap=st.none() | HEATMAP,
)
RESPONSE = st.builds(
    pb.ExplainResponse,
    images=st.lists(
        st.builds(pb.ImageExplanation, source=TEXT, filters=st.lists(FILTER, max_size=3)),
        max_size=2,
    ),
    bundle_digest=TEXT,
)
LAYER = st.builds(pb.Layer, name=TEXT, catalog_images=st.integers(0, 2**62))
MODEL = st.builds(
    pb.GetModelResponse,
    layers=st.lists(LAYER, max_size=2),
    versions=st.dictionaries(TEXT, TEXT, max_size=2),
)


@given(RESPONSE | MODEL)
def test_it_is_what_protobuf_makes_of_it(message: Message) -> None:
    for answer in (message_dict(message), json_format.MessageToDict(message)):
        expected = json_format.ParseDict(answer, type(message)())
        made = message_from(answer, type(message))
        # Bytes, because NaN equals nothing.
        assert made.SerializeToString(deterministic=True) == expected.SerializeToString(
            deterministic=True
        )


@pytest.mark.parametrize("answer", [{"images": 5}, {"images": [5]}, {"picture": []}])
def test_what_is_no_such_message_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(json_format.ParseError):
        message_from(answer, pb.ExplainResponse)
