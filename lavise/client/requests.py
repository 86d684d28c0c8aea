"""What both clients send, and how their channels behave."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc

from lavise.v1 import bias_pb2, explain_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Image: TypeAlias = Path | tuple[str, bytes]
"""A file, or a name and the encoded image."""
CHUNK_BYTES: Final = 256 * 1024
OPTIONS: Final = (
    # A name that stands for several servers: each in turn, and one that is gone is passed over.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", 64 * 1024 * 1024),
)


def metadata(token: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with every call."""
    return (("authorization", f"Bearer {token}"),) if token else ()


def credentials(
    *,
    root_certificates: bytes | None,
    client_key: bytes | None,
    client_certificate: bytes | None,
) -> grpc.ChannelCredentials:
    """TLS, with a certificate of one's own where the server wants one (mTLS)."""
    return grpc.ssl_channel_credentials(root_certificates, client_key, client_certificate)


def content_of(image: Image) -> tuple[str, bytes]:
    """An image's name and bytes; a file is read."""
    return (image.name, image.read_bytes()) if isinstance(image, Path) else image


def explain_request(
    images: Sequence[Image],
    *,
    layer: str,
    filters: Sequence[int] | None,
    most_active: int | None,
    all_filters: bool,
    top_k: int | None,
    method: str,
    heatmaps: bool,
) -> explain_pb2.ExplainRequest:
    """The message of an Explain call; the last of several selections counts."""
    request = explain_pb2.ExplainRequest(layer=layer, method=method, heatmaps=heatmaps)
    for image in images:
        source, content = content_of(image)
        request.images.add(source=source, content=content)
    if filters is not None:
        request.filters.indices.extend(filters)
    if most_active is not None:
        request.most_active = most_active
    if all_filters:
        request.all_filters = True
    if top_k is not None:
        request.top_k = top_k
    return request


def compare_request(
    a: str, b: str, *, alpha: float | None, seed: int, permutations: int
) -> bias_pb2.CompareRequest:
    """The message of a Compare call."""
    request = bias_pb2.CompareRequest(
        image_set_a=a, image_set_b=b, seed=seed, permutations=permutations
    )
    if alpha is not None:
        request.alpha = alpha
    return request


def upload_parts(
    metadata: bias_pb2.ImageSetMetadata, images: Sequence[Image], first: int
) -> Iterator[bias_pb2.UploadImageSetRequest]:
    """The messages of an upload that begins at an image; files are read one at a time."""
    yield bias_pb2.UploadImageSetRequest(metadata=metadata)
    for index in range(first, len(images)):
        source, content = content_of(images[index])
        pieces = range(0, max(len(content), 1), CHUNK_BYTES)
        for start in pieces:
            yield bias_pb2.UploadImageSetRequest(
                chunk=bias_pb2.ImageChunk(
                    index=index,
                    content=content[start : start + CHUNK_BYTES],
                    source=source if start == 0 else "",
                    last=start == pieces[-1],
                )
            )


def comparison_of(event: bias_pb2.CompareResponse) -> bias_pb2.Comparison | None:
    """The comparison at the end of a Compare call; None for progress."""
    return event.comparison if event.WhichOneof("event") == "comparison" else None
