"""What the clients repeat, and when."""

import grpc
import pytest
import tenacity
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from lavise.client import patience

SAID = Metadata(("grpc-status-details-bin", b"a google.rpc.Status"))
CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "trailers", "repeated"),
    [
        (CODE.UNAVAILABLE, SAID, True),
        (CODE.UNAVAILABLE, Metadata(), True),
        (CODE.RESOURCE_EXHAUSTED, SAID, True),
        (CODE.CANCELLED, Metadata(), True),  # a server that just ends
        (CODE.INVALID_ARGUMENT, SAID, False),
        (CODE.INTERNAL, SAID, False),
        (CODE.INTERNAL, Metadata(), True),  # grpc's own: the stream ended while it was written
    ],
)
def test_what_an_upload_is_repeated_for(
    code: grpc.StatusCode, trailers: Metadata, *, repeated: bool
) -> None:
    problem = AioRpcError(code, Metadata(), trailers)
    assert patience.may_be_repeated(problem) is repeated
    assert not patience.may_be_repeated(ValueError())


def refused(wait_s: float) -> AioRpcError:
    status = status_pb2.Status(code=8, message="too much")
    info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration())
    info.retry_delay.FromMilliseconds(round(wait_s * 1000))
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="RESOURCE_EXHAUSTED"))
    status.details.add().Pack(info)
    trailers = Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return AioRpcError(CODE.RESOURCE_EXHAUSTED, Metadata(), trailers)


def test_the_servers_hint_is_heeded() -> None:
    assert patience.hint_s(refused(2.5)) == 2.5
    assert patience.hint_s(AioRpcError(CODE.UNAVAILABLE, Metadata(), Metadata())) == 0
    assert patience.hint_s(ValueError()) == 0
    assert patience.hint_s(refused(1e6)) == 60
    forged = Metadata(("grpc-status-details-bin", b"\xff\xff"))
    assert patience.hint_s(AioRpcError(CODE.UNAVAILABLE, Metadata(), forged)) == 0


def test_who_was_refused_together_does_not_come_back_together() -> None:
    waits: list[list[float]] = []

    def refuse() -> None:
        raise refused(0.5)

    for _ in range(20):
        waited: list[float] = []
        waits.append(waited)
        with pytest.raises(AioRpcError):
            tenacity.Retrying(**patience.again(), sleep=waited.append)(refuse)
    for waited in waits:
        longest = [1, 2, 4, 8, *[15] * 7]
        assert len(waited) == len(longest)
        assert all(0.5 <= wait <= 0.5 + most for wait, most in zip(waited, longest, strict=True))
    assert len({waited[0] for waited in waits}) == 20


def test_a_call_is_given_up_before_its_time_is_over() -> None:
    waited: list[float] = []

    def refuse() -> None:
        raise refused(3)

    with pytest.raises(AioRpcError):
        tenacity.Retrying(**patience.again(within_s=2), sleep=waited.append)(refuse)
    assert not waited
