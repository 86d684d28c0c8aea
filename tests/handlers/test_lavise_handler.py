import base64
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format
from google.rpc import status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lavise_service.torchserve
from lavise.errors import BundleError, SpecError
from lavise.images import prepare
from lavise.profile import fingerprint, profile_of_answer, profile_schema
from lavise.v1 import explain_pb2, profile_pb2
from lavise_handler import LaviseHandler, handle
from lavise_request import MAX_IMAGES
from tests.corpus import odd_images
from tests.tiny_cnn import CHANNELS, COLOURS, INPUT_SIZE, OTHER_WORDS, picture

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ResourceWarning)  # it leaves a file open
    from ts.context import Context, RequestProcessor
    from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

METRICS = Path(lavise_service.torchserve.__file__).with_name("metrics.yaml")
Row = Mapping[str, Any]


def png(name: str, seed: int = 7) -> bytes:
    buffer = BytesIO()
    picture(COLOURS[name], seed).save(buffer, "PNG")
    return buffer.getvalue()


TOMATO, OCEAN, NIGHT = png("tomato"), png("ocean"), png("night")


def in_base64(image: bytes) -> str:
    return base64.b64encode(image).decode()


class Door:
    """The handler as TorchServe calls it: its own context, batches in, JSON and status out."""

    def __init__(self, bundle: Path, folder: Path, config: dict[str, Any]) -> None:
        (folder / "bundle").symlink_to(bundle)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the same
            metrics = MetricsCacheYamlImpl(str(METRICS))
        metrics.initialize_cache()
        metrics.model_name = "lavise"
        self.context = Context("lavise", str(folder), None, 8, None, "0.12", True, metrics, config)
        self.handler = LaviseHandler()
        self.handler.initialize(self.context)

    def batch(self, rows: Sequence[Row], content_type: str = "") -> list[tuple[int, Any]]:
        processors = [RequestProcessor({"body": {"content-type": content_type}}) for _ in rows]
        self.context.request_processor = processors
        replies = self.handler.handle(rows, self.context)
        assert len(replies) == len(rows)
        for number, processor in enumerate(processors):
            assert self.context.get_response_content_type(number) == "application/json"
            assert (processor.get_response_status_phrase() or "").isascii()
        codes = [processor.get_response_status_code() for processor in processors]
        return list(zip(codes, map(json.loads, replies), strict=True))

    def ask(self, row: Row, content_type: str = "") -> tuple[int, Any]:
        return self.batch([row], content_type)[0]

    def error(self, row: Row, content_type: str = "") -> dict[str, Any]:
        """The error of a request that must be refused, checked for its form."""
        code, answer = self.ask(row, content_type)
        assert list(answer) == ["error"]
        error: dict[str, Any] = answer["error"]
        status = json_format.ParseDict(error, status_pb2.Status(), ignore_unknown_fields=True)
        assert (code, status.code, error["status"]) == (400, 3, "INVALID_ARGUMENT")
        violation = error["details"][0]["fieldViolations"][0]
        assert violation["description"] == error["message"]
        return {"field": violation["field"], "message": error["message"]}


@pytest.fixture(scope="module")
def door(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(tiny_bundle, tmp_path_factory.mktemp("model"), {"lavise": {"threads": 1}})


def request(**options: Any) -> bytes:
    return json.dumps(options).encode()


def body(**options: Any) -> Row:
    return {"body": bytearray(request(**options))}


def test_an_image_as_the_body_is_explained(door: Door) -> None:
    code, answer = door.ask({"body": bytearray(TOMATO)}, "image/png")
    assert code == 200
    response = json_format.ParseDict(answer, explain_pb2.ExplainResponse())
    [image] = response.images
    assert image.source == "image"
    assert len(image.filters) == CHANNELS["stem"]
    assert all(len(f.words) == 5 for f in image.filters if not f.inactive)
    assert re.fullmatch(r"[0-9a-f]{64}", response.bundle_digest)


@pytest.mark.parametrize("key", ["topK", "top_k"])
@pytest.mark.parametrize("parse", [bytearray, json.loads], ids=["bytes", "parsed by TorchServe"])
def test_entries_carry_images_and_options(
    door: Door, key: str, parse: Callable[[bytes], Any]
) -> None:
    sent = parse(request(**{key: 2, "layer": "body", "filters": {"indices": [3, 1]}}))
    code, answer = door.ask({"image": bytearray(TOMATO), "request": sent})
    assert code == 200
    [image] = answer["images"]
    assert [(f["layer"], f["index"], len(f["words"])) for f in image["filters"]] == [
        ("body", 3, 2),
        ("body", 1, 2),
    ]


def test_images_keep_the_order_of_their_numbers(door: Door) -> None:
    numbers = [10, 3, 2]
    row = {f"image_{n}": bytearray(OCEAN) for n in numbers} | {"image": bytearray(TOMATO)}
    _, answer = door.ask(row)
    sources = [image["source"] for image in answer["images"]]
    assert sources == ["image", "image_2", "image_3", "image_10"]


@pytest.mark.parametrize("content_type", ["", "application/json", "application/json; charset=x"])
def test_json_carries_images_in_base64(door: Door, content_type: str) -> None:
    images = [{"content": in_base64(OCEAN), "source": "sea.png"}, {"content": in_base64(NIGHT)}]
    code, answer = door.ask(body(images=images, mostActive=2), content_type)
    assert code == 200
    assert [image["source"] for image in answer["images"]] == ["sea.png", "image_2"]
    assert [len(image["filters"]) for image in answer["images"]] == [2, 2]


def test_every_door_gives_the_same_answer(door: Door) -> None:
    (_, raw), (_, entry), (_, inline), (_, parsed) = door.batch(
        [
            {"body": bytearray(TOMATO)},
            {"image": bytearray(TOMATO)},
            body(images=[{"content": in_base64(TOMATO)}]),
            {"body": {"images": [{"content": in_base64(TOMATO), "source": "image"}]}},
        ]
    )
    assert raw == entry == inline == parsed


def test_a_batch_is_one_pass_and_bad_neighbours_change_nothing(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    good: list[Row] = [
        {"body": bytearray(TOMATO)},
        {"image": bytearray(OCEAN), "image_2": bytearray(NIGHT), "request": b'{"layer": "body"}'},
        body(images=[{"content": in_base64(NIGHT)}], allFilters=True),
    ]
    bad: list[Row] = [
        {"body": bytearray(b"no image")},
        {"image": bytearray(TOMATO), "request": b'{"topK": 0}'},
        {"image": bytearray(TOMATO), "image_2": bytearray(TOMATO[:50])},
        {},
    ]
    alone = [door.ask(row) for row in good]
    explainer, passes = door.handler._explainer, []

    def counted(images: Any, options: Any) -> Any:
        passes.append(len(images))
        return type(explainer).explain(explainer, images, options)

    monkeypatch.setattr(explainer, "explain", counted)
    mixed = [bad[0], good[0], bad[1], good[1], bad[2], good[2], bad[3]]
    answers = door.batch(mixed)
    assert passes == [4]
    assert [code for code, _ in answers] == [400, 200, 400, 200, 400, 200, 400]
    for (_, expected), (_, answer) in zip(alone, answers[1::2], strict=True):
        assert close(expected, answer)


def close(a: Any, b: Any) -> bool:
    """Equal but for the last bits of floats, which a larger batch may change."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(close, a, b))
    return bool(np.isclose(a, b, atol=1e-5)) if isinstance(a, float) else bool(a == b)


@pytest.mark.parametrize("name", sorted(odd_images()))
def test_odd_images_are_read_or_refused(door: Door, name: str) -> None:
    odd = odd_images()[name]
    row = {"image": bytearray(TOMATO), "image_2": bytearray(odd.data)}
    if odd.accepted:
        assert door.ask(row)[0] == 200
    else:
        assert door.error(row)["field"] == "image_2"


@pytest.mark.parametrize(
    ("options", "field", "told"),
    [
        ({"topK": 0}, "top_k", "1 to 16"),
        ({"topK": 17}, "top_k", "1 to 16"),
        ({"layer": "head"}, "layer", "stem, body"),
        ({"method": "magic"}, "method", "attention"),
        ({"filters": {"indices": [8]}}, "filters", "0 to 7"),
        ({"filters": {"indices": [-1]}}, "filters", "0 to 7"),
        ({"filters": {"indices": [2, 2]}}, "filters", "more than once"),
        ({"filters": {}}, "filters", "at least one"),
        ({"model": "birds"}, "model", "lavise or tiny, or none"),
        ({"mostActive": 9}, "most_active", "1 to 8"),
        ({"allFilters": False}, "all_filters", "leave it out"),
        ({"topk": 3}, "request", "top_k"),
        ({"topK": "many"}, "request", "ExplainRequest"),
        ({"images": [{"content": ""}]}, "request.images", "not both"),
        ({"describeFilters": {}}, "describeFilters", "stands alone"),
    ],
)
def test_a_wrong_option_is_named(
    door: Door, options: dict[str, Any], field: str, told: str
) -> None:
    error = door.error({"image": bytearray(TOMATO), "request": request(**options)})
    assert error["field"] == field
    assert told in error["message"]


@pytest.mark.parametrize(
    ("row", "content_type", "field", "told"),
    [
        ({"body": b""}, "", "image", ""),
        ({"body": b""}, "application/json", "request", "JSON"),
        ({"body": b"[1]"}, "application/json", "request", "no object"),
        ({"body": b'{"images": '}, "", "request", "JSON"),
        ({"body": b"{}"}, "", "images", "0 images"),
        ({"body": b'{"images": {}}'}, "", "images", "0 images"),
        ({"body": b'{"images": [3]}'}, "", "images[0].content", "base64"),
        ({"body": b'{"images": [{"content": "@"}]}'}, "", "images.content", "base64"),
        ({}, "", "images", "0 images"),
        ({"request": b"{}"}, "", "images", "0 images"),
        ({"image": TOMATO, "request": b"3"}, "", "request", "no object"),
        ({"body": "text"}, "", "request", "JSON"),
        ({"image": "text"}, "", "image", "is text"),
        ({"picture": TOMATO}, "", "entries", "curl -T"),
        ({"\ufffd" * 5000: TOMATO}, "", "entries", "curl -T"),
    ],
)
def test_a_malformed_request_is_refused(
    door: Door, row: Row, content_type: str, field: str, told: str
) -> None:
    error = door.error(row, content_type)
    assert error["field"] == field
    assert told in error["message"]
    assert len(error["message"]) < 1000


def test_too_many_images_are_refused_before_decoding(door: Door) -> None:
    row = {f"image_{n}": b"never read" for n in range(MAX_IMAGES + 1)}
    assert f"1 to {MAX_IMAGES}" in door.error(row)["message"]


def test_an_answer_that_cannot_be_sent_is_refused(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {"image": TOMATO, "request": b'{"allFilters": true, "topK": 16}'}
    few = {"image": TOMATO, "request": b'{"mostActive": 1, "topK": 1}'}
    monkeypatch.setattr(door.handler, "_max_bytes", 2000)
    # Before any compute, where the number of words says enough.
    with monkeypatch.context() as no_compute:
        no_compute.setattr(door.handler, "_explainer", door.handler._explainer)
        no_compute.setattr(door.handler._explainer, "explain", None)
        assert door.error(many)["field"] == "top_k"
    assert door.ask(few)[0] == 200
    # And where only the answer itself tells.
    monkeypatch.setattr(door.handler, "_max_bytes", 200)
    assert "the answer has" in door.error(few)["message"]


def test_an_unforeseen_fault_stays_with_its_request(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    explainer = door.handler._explainer

    def faulty(images: Any, options: Any) -> Any:
        if any(one.layer == "body" for one in options):
            raise RuntimeError("CUDA failure 700")
        return type(explainer).explain(explainer, images, options)

    monkeypatch.setattr(explainer, "explain", faulty)
    bad = {"image": TOMATO, "request": b'{"layer": "body"}'}
    answers = door.batch([{"body": TOMATO}, bad, {"body": OCEAN}])
    assert [code for code, _ in answers] == [200, 500, 200]
    error = answers[1][1]["error"]
    assert (error["code"], error["status"]) == (13, "INTERNAL")
    assert "CUDA" not in error["message"]  # what is inside stays in the log
    assert "CUDA failure 700" in caplog.text


def test_describe_and_get_model_say_what_is_loaded(door: Door) -> None:
    door.context.request_processor = [RequestProcessor({"describe": "True"})]
    [described] = door.handler.handle([{}], door.context)
    model = json_format.Parse(described, explain_pb2.GetModelResponse())
    assert (model.model, model.device, model.vocabulary_size) == ("tiny", "cpu", 16)
    assert model.providers == ["CPUExecutionProvider"]
    assert [layer.name for layer in model.layers] == ["stem", "body"]
    assert door.error(body(getModel={"model": "birds"}))["field"] == "model"
    for lookup in (body(getModel={}), {"request": b'{"get_model": {}}'}):
        assert door.ask(lookup) == (200, json.loads(described))


def test_filters_are_described_without_an_image(door: Door) -> None:
    code, answer = door.ask(body(describeFilters={"layer": "body", "pageSize": 5}))
    assert code == 200
    page = json_format.ParseDict(answer, explain_pb2.DescribeFiltersResponse())
    assert [f.index for f in page.filters] == [0, 1, 2, 3, 4]
    rest = {"layer": "body", "page_token": page.next_page_token}
    _, answer = door.ask({"request": request(describe_filters=rest)})
    assert [f["index"] for f in answer["filters"]] == list(range(5, CHANNELS["body"]))
    assert door.error(body(describeFilters={"layer": "x"}))["field"] == "layer"
    assert door.error(body(describeFilters=7))["field"] == "request"


def test_what_happened_is_counted(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ts.metrics.caching_metric"):
        door.batch(
            [
                {"image": TOMATO, "image_2": OCEAN, "request": b'{"mostActive": 3}'},
                {"body": b"no image"},
                {"image": TOMATO, "request": b"{"},
            ]
        )
    told = re.findall(r"\[METRICS\](\w+)\.\w+:([^|]+)\|#ModelName:lavise([^|]*)", caplog.text)
    counted = {name: float(value) for name, value, _ in told if "seconds" not in name}
    assert counted == {
        "lavise_requests_total": 3,
        "lavise_batch_size": 3,
        "lavise_images_total": 2,
        "lavise_filters_explained_total": 6,
        "lavise_errors_total": 2,
    }
    [seconds] = [float(value) for name, value, _ in told if name == "lavise_batch_seconds"]
    stages = {labels: float(v) for name, v, labels in told if name == "lavise_stage_seconds"}
    assert list(stages) == [",Stage:decode", ",Stage:words"]
    assert all(spent > 0 for spent in stages.values())
    assert sum(stages.values()) < seconds < 10
    assert "#ModelName:lavise,Kind:INVALID_ARGUMENT|" in caplog.text


def test_a_profile_is_a_stage_of_its_own(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="ts.metrics.caching_metric"):
        door.ask({"image": TOMATO, "request": request(profile={"layer": "body"})})
    stages = re.findall(
        r"lavise_stage_seconds\.\w+:[^|]+\|#ModelName:lavise,Stage:(\w+)", caplog.text
    )
    assert stages == ["decode", "profile"]


@pytest.mark.parametrize("threads", [-1, "two", 1.5, True])
def test_a_wrong_number_of_threads_stops_the_worker(
    tiny_bundle: Path, tmp_path: Path, threads: Any
) -> None:
    with pytest.raises(SpecError, match=r"lavise\.threads"):
        Door(tiny_bundle, tmp_path, {"lavise": {"threads": threads}})


def test_a_missing_bundle_stops_the_worker(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Door(tmp_path / "nothing", tmp_path, {})


def test_torchserves_entry_point_loads_and_answers(tiny_bundle: Path, tmp_path: Path) -> None:
    context = Door(tiny_bundle, tmp_path, {}).context

    def load() -> int:
        before = os.getpriority(os.PRIO_PROCESS, 0)
        assert handle(None, context) is None
        return os.getpriority(os.PRIO_PROCESS, 0) - before

    # Linux makes a thread nicer, and no thread less nice again: not the one that runs the tests.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(load).result() == 5
    context.request_processor = [RequestProcessor({})]
    replies = handle([{"body": bytearray(TOMATO)}], context)
    assert replies is not None
    assert json.loads(replies[0])["images"][0]["source"] == "image"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    ["images", "layer", "filters", "mostActive", "allFilters", "topK", "method", "describeFilters"]
)
requests = st.dictionaries(fields, json_values, max_size=3).map(json.dumps).map(str.encode)
entries = st.dictionaries(
    st.sampled_from(["image", "image_2", "request", "body", "data"]) | st.text(max_size=8),
    st.one_of(st.binary(max_size=40), requests, st.sampled_from([TOMATO, TOMATO[:99]])),
    max_size=3,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(entries, min_size=1, max_size=4))
def test_nothing_that_is_sent_is_an_exception(door: Door, rows: list[Row]) -> None:
    for code, answer in door.batch([*rows, {"body": OCEAN}])[:-1]:
        assert ("error" in answer) == (code != 200)
        assert code in {200, 400}


def test_the_words_are_those_of_the_vocabulary(door: Door) -> None:
    _, answer = door.ask({"image": TOMATO, "request": b'{"allFilters": true, "topK": 16}'})
    for each in answer["images"][0]["filters"]:
        if not each["inactive"]:
            assert {w["word"] for w in each["words"]} == {*COLOURS, *OTHER_WORDS}


def profile_entry(**options: Any) -> bytes:
    return request(profile=options)


def test_a_profile_scores_every_filter_and_word(door: Door) -> None:
    sent = profile_entry(layer="body", withWords=True, withThumbnails=True)
    row = {"image": bytearray(TOMATO), "image_2": bytearray(OCEAN), "request": sent}
    code, answer = door.ask(row)
    assert code == 200
    message = json_format.ParseDict(answer, profile_pb2.ProfileResponse())
    assert message.layer == "body"
    assert list(message.words) == [*COLOURS, *OTHER_WORDS]
    assert len(message.filters) == CHANNELS["body"]
    schema = profile_schema(answer)
    profile, rejected = profile_of_answer(answer, schema, [4, 5], ["a", "b"])
    assert not rejected
    assert profile.index.tolist() == [4, 5]
    pixels = [prepare(image, INPUT_SIZE) for image in (TOMATO, OCEAN)]
    numbers = door.handler._explainer.profile(pixels, "body")
    np.testing.assert_array_equal(profile.activation, numbers.activation)
    np.testing.assert_array_equal(profile.word_scores, numbers.word_scores.astype(np.float16))
    assert profile.qualified is not None
    assert numbers.qualified is not None
    np.testing.assert_array_equal(profile.qualified, numbers.qualified)
    assert profile.fingerprints == [fingerprint(one) for one in pixels]
    assert len(profile.thumbnails) == 2


def test_a_profile_keeps_the_good_images(door: Door) -> None:
    _, words = door.ask({"request": profile_entry(withWords=True)})
    row = {
        "image": bytearray(b"no image"),
        "image_2": bytearray(OCEAN),
        "request": profile_entry(),
    }
    code, answer = door.ask(row)
    assert code == 200
    assert "words" not in answer
    profile, rejected = profile_of_answer(answer, profile_schema(words), [0, 1], ["a", "b"])
    assert profile.sources == ["b"]
    assert profile.thumbnails == []
    assert "image" in rejected[0]["message"]


def test_profiles_and_words_share_a_batch(door: Door) -> None:
    rows: list[Row] = [
        {"image": bytearray(TOMATO), "request": profile_entry()},
        {"image": bytearray(TOMATO), "request": request(mostActive=1)},
        {"request": profile_entry()},
    ]
    (code, first), (other, second), (bad, third) = door.batch(rows)
    assert (code, other, bad) == (200, 200, 400)
    assert first["images"][0]["activation"]
    assert second["images"][0]["filters"]
    assert "withWords" in third["error"]["message"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"image": bytearray(TOMATO), "request": request(profile={}, topK=3)}, "stands alone"),
        ({"image": bytearray(TOMATO), "request": profile_entry(layer="nose")}, "stem, body"),
        ({"image": bytearray(TOMATO), "request": profile_entry(model="other")}, "not served"),
        ({"image": bytearray(TOMATO), "request": profile_entry(nose=1)}, "Accepted fields"),
        ({"image": bytearray(TOMATO), "request": request(profile=3)}, "ProfileRequest"),
    ],
)
def test_bad_profile_requests(door: Door, row: Row, said: str) -> None:
    assert said in door.error(row)["message"]


def test_heat_maps_come_when_asked_for(door: Door) -> None:
    sent = request(layer="body", heatmaps=True, allFilters=True)
    _, answer = door.ask({"image": bytearray(TOMATO), "request": sent})
    response = json_format.ParseDict(answer, explain_pb2.ExplainResponse())
    for found in response.images[0].filters:
        heat = found.heatmap
        assert len(heat.values) == heat.height * heat.width
        assert max(heat.values) == (0 if found.inactive else 255)
