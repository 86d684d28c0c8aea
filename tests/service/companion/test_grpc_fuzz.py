"""Any message of the contract, to every method: an answer or a clear refusal, never a hang."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavise.client import Client
from lavise.client.requests import upload_parts
from lavise.v1 import bias_pb2 as pb
from lavise.v1 import explain_pb2
from lavise_service.torchserve import TorchServe
from tests.running_companion import Running, running_companion, told
from tests.uploads import PICTURES

pytestmark = pytest.mark.server
METHODS: Final = {
    method.name: method
    for file in (explain_pb2, pb)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
A, B = "imageSets/a", "imageSets/b"
F: Final = FieldDescriptor
INTEGERS: Final = {
    F.TYPE_INT32: (-(2**31), 2**31 - 1),
    F.TYPE_INT64: (-(2**63), 2**63 - 1),
    F.TYPE_ENUM: (-(2**31), 2**31 - 1),
}
TEXTS: Final = (
    *("", A, B, "imageSets/new", "imageSets/..", "comparisons/", "imageSets/" + "a" * 64),
    *("stem", "body", "attention", "original", "file:///", "s3://x/y", "http://169.254.169.254/"),
    *("file:///etc/passwd", "\0", "é" * 3000),
)
REFUSALS: Final = {
    code_pb2.INVALID_ARGUMENT,
    code_pb2.NOT_FOUND,
    code_pb2.ALREADY_EXISTS,
    code_pb2.FAILED_PRECONDITION,
    code_pb2.PERMISSION_DENIED,
}
fuzzing = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def one_of_field(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field, or of one element of it."""
    if field.message_type is not None:
        return messages(field.message_type)
    if field.type in INTEGERS:
        low, high = INTEGERS[field.type]
        near = st.sampled_from((low, -1, 0, 1, 2, 5, 100, 1000, 1001, high))
        return near | st.integers(low, high)
    if field.type == F.TYPE_BOOL:
        return st.booleans()
    if field.type == F.TYPE_DOUBLE:
        odd = st.sampled_from((math.nan, math.inf, -math.inf, -0.0, 0.05, 1e308, 5e-324))
        return odd | st.floats()
    if field.type == F.TYPE_BYTES:
        return st.sampled_from((b"", PICTURES[0][1], PICTURES[1][1])) | st.binary(max_size=200)
    assert field.type == F.TYPE_STRING, field.full_name
    return st.sampled_from(TEXTS) | st.text(max_size=100)


def messages(kind: Any, most: int = 99) -> st.SearchStrategy[Message]:
    """Messages of a kind, with at most so many of its fields, and one of each oneof."""
    made = message_factory.GetMessageClass(kind)
    fields = {
        field.name: st.lists(one_of_field(field), max_size=4)
        if field.is_repeated
        else one_of_field(field)
        for field in kind.fields
    }

    def build(chosen: dict[str, Any], order: list[str]) -> Message:
        kept = {name: chosen[name] for name in order if name in chosen}
        for group in kind.oneofs:
            for name in [f.name for f in group.fields if f.name in kept][1:]:
                del kept[name]
        return made(**{name: kept[name] for name in list(kept)[:most]})

    some = st.fixed_dictionaries({}, optional=fields)
    return st.builds(build, some, st.permutations(list(fields)))


def changed(right: Message, wild: Message) -> Message:
    """A right message whose fields are replaced by those that a wild one has."""
    message = type(right)()
    message.CopyFrom(right)
    for field, _ in wild.ListFields():
        message.ClearField(field.name)
    message.MergeFrom(wild)
    return message


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("allowed")
    for name, content in PICTURES[:3]:
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def companion(shared_torchserve: TorchServe, allowed: Path) -> Iterator[Running]:
    place = shared_torchserve.grpc_target
    with running_companion(place, allowed_uris=allowed.as_uri()) as running:
        yield running


@pytest.fixture
def right(companion: Running, allowed: Path) -> dict[str, Message]:
    """For each method a message that it answers, whatever was deleted before."""
    with Client(str(companion.doors.grpc)) as client:
        there = {one.name for one in client.image_sets()}
        for number, name in enumerate((A, B)):
            if name in there:
                client.delete_image_set(name)
            client.upload_image_set(PICTURES[6 * number :][:6], name=name, layer="body")
        made = client.compare(A, B, permutations=100)
    image = explain_pb2.Image(content=PICTURES[0][1])
    return {
        "Explain": explain_pb2.ExplainRequest(images=[image], layer="body", most_active=2),
        "DescribeFilters": explain_pb2.DescribeFiltersRequest(layer="body", page_size=3),
        "GetModel": explain_pb2.GetModelRequest(),
        "ImportImageSet": pb.ImportImageSetRequest(uri=allowed.as_uri()),
        "GetImageSet": pb.GetImageSetRequest(name=A),
        "ListImageSets": pb.ListImageSetsRequest(page_size=1),
        "DeleteImageSet": pb.DeleteImageSetRequest(name=A),
        "Compare": pb.CompareRequest(image_set_a=A, image_set_b=B, permutations=100),
        "GetComparison": pb.GetComparisonRequest(name=made.name),
        "ListComparisons": pb.ListComparisonsRequest(page_size=1),
        "DeleteComparison": pb.DeleteComparisonRequest(name=made.name),
    }


def ask(companion: Running, method: MethodDescriptor, sent: Sequence[Message | bytes]) -> int:
    """Calls a method; it answers with its messages, or refuses in words.

    Returns:
        The google.rpc code that it ends with.
    """
    kinds = ("stream" if s else "unary" for s in (method.client_streaming, method.server_streaming))
    make = getattr(companion.channel, "_".join(kinds))
    call = make(f"/{method.containing_service.full_name}/{method.name}")
    data = [one if isinstance(one, bytes) else one.SerializeToString() for one in sent]
    try:
        answer = call(iter(data) if method.client_streaming else data[0], timeout=30)
        answers = list(answer) if method.server_streaming else [answer]
    except grpc.RpcError as problem:
        status = told(problem)
        assert status.code in REFUSALS, status
        assert status.message
        return cast("int", status.code)
    kind = message_factory.GetMessageClass(method.output_type)
    last = [kind.FromString(one) for one in answers][-1]
    if isinstance(last, pb.CompareResponse) and last.comparison.HasField("error"):
        assert last.comparison.error.code in REFUSALS, last
    return cast("int", code_pb2.OK)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.client_streaming])
def test_any_message(companion: Running, right: dict[str, Message], name: str) -> None:
    method = METHODS[name]
    ended = set()
    wild = messages(method.input_type)
    almost = st.builds(changed, st.just(right[name]), messages(method.input_type, most=1))

    @fuzzing
    @given(wild | almost)
    def fuzz(message: Message) -> None:
        ended.add(ask(companion, method, [message]))

    fuzz()
    assert len(ended) > 1, "some are answered, others refused"
    assert code_pb2.OK in ended


@pytest.mark.parametrize("name", METHODS)
def test_any_bytes(companion: Running, name: str) -> None:
    @settings(fuzzing, max_examples=20)
    @given(st.lists(st.binary(max_size=60), min_size=1, max_size=3))
    def fuzz(sent: list[bytes]) -> None:
        ask(companion, METHODS[name], sent)

    fuzz()


def uploads() -> st.SearchStrategy[list[Message]]:
    """Sequences of parts: any, and good ones in which some were replaced or left out."""
    part = messages(METHODS["UploadImageSet"].input_type)
    about = messages(pb.DESCRIPTOR.message_types_by_name["ImageSetMetadata"], most=1)

    def good(metadata: Any, images: int) -> list[Message]:
        return list(upload_parts(metadata, PICTURES[:images], 0))

    def spoiled(parts: list[Message], changes: list[tuple[int, Message | None]]) -> list[Message]:
        for place, put in changes:
            at = place % (len(parts) + 1)
            parts[at : at + 1] = [] if put is None else [put]
        return parts

    changes = st.lists(st.tuples(st.integers(0, 9), st.none() | part), max_size=2)
    almost = st.builds(spoiled, st.builds(good, about, st.integers(1, 5)), changes)
    return st.lists(part, max_size=6) | almost


def test_any_upload(companion: Running) -> None:
    ended = set()

    @settings(fuzzing, max_examples=200)
    @given(uploads())
    def fuzz(parts: list[Message]) -> None:
        ended.add(ask(companion, METHODS["UploadImageSet"], parts))

    fuzz()
    assert {code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.FAILED_PRECONDITION} <= ended
