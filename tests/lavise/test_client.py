"""What the clients repeat."""

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from lavise.client import aio

SAID = Metadata(("grpc-status-details-bin", b"a google.rpc.Status"))
CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "trailers", "repeated"),
    [
        (CODE.UNAVAILABLE, SAID, True),
        (CODE.UNAVAILABLE, Metadata(), True),
        (CODE.RESOURCE_EXHAUSTED, SAID, True),
        (CODE.INVALID_ARGUMENT, SAID, False),
        (CODE.INTERNAL, SAID, False),
        (CODE.INTERNAL, Metadata(), True),  # grpc's own: the stream ended while it was written
    ],
)
def test_what_an_upload_is_repeated_for(
    code: grpc.StatusCode, trailers: Metadata, *, repeated: bool
) -> None:
    problem = AioRpcError(code, Metadata(), trailers)
    assert aio._may_be_repeated(problem) is repeated
    assert not aio._may_be_repeated(ValueError())
