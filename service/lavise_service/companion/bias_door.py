"""``lavise.v1.BiasComparison`` over gRPC: image sets in, comparisons out."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

from lavise.errors import RequestError
from lavise.v1 import bias_pb2, bias_pb2_grpc
from lavise.v1.bias_pb2 import Comparison, ImageChunk, UploadImageSetRequest
from lavise_service.companion.comparisons import Comparisons
from lavise_service.companion.grpc_handlers import Context
from lavise_service.companion.image_sets import ImageSets
from lavise_service.companion.uris import UriImages

_LONGEST_SOURCE: Final = 1000


class BiasDoor(bias_pb2_grpc.BiasComparisonServicer):
    """Uploads, imports, comparisons, and what is kept of them.

    Args:
        image_sets: The sets.
        comparisons: The comparisons.
        uris: Reads the folders that clients may name.
        max_image_bytes: Of an encoded image.
    """

    def __init__(
        self,
        image_sets: ImageSets,
        comparisons: Comparisons,
        uris: UriImages,
        *,
        max_image_bytes: int,
    ) -> None:
        self._image_sets = image_sets
        self._comparisons = comparisons
        self._uris = uris
        self._max_image_bytes = max_image_bytes

    async def UploadImageSet(  # noqa: N802 - grpc's name
        self, requests: AsyncIterator[UploadImageSetRequest], context: Context
    ) -> bias_pb2.UploadImageSetResponse:
        """See bias.proto."""
        del context
        begin = await anext(requests, None)
        if begin is None or begin.WhichOneof("part") != "metadata":
            raise RequestError("the first message must be the metadata", field="metadata")
        about = begin.metadata
        async with self._image_sets.begun(about) as begun:
            first = await anext(requests, None)
            if first is not None:
                images = _Chunks(first, requests, self._max_image_bytes)
                await self._image_sets.add(
                    begun.name, images.whole(), images.index, model=about.model
                )
            ready = await self._image_sets.finish(begun.name)
        return bias_pb2.UploadImageSetResponse(image_set=ready)

    async def ImportImageSet(  # noqa: N802 - grpc's name
        self, request: bias_pb2.ImportImageSetRequest, context: Context
    ) -> bias_pb2.ImportImageSetResponse:
        """See bias.proto."""
        del context
        async with aclosing(self._uris.images(request.uri)) as images:
            image_set = await self._image_sets.take_in(request.metadata, images)
        return bias_pb2.ImportImageSetResponse(image_set=image_set)

    async def GetImageSet(  # noqa: N802 - grpc's name
        self, request: bias_pb2.GetImageSetRequest, context: Context
    ) -> bias_pb2.GetImageSetResponse:
        """See bias.proto."""
        del context
        found = await self._image_sets.get(request.name)
        return bias_pb2.GetImageSetResponse(image_set=found)

    async def ListImageSets(  # noqa: N802 - grpc's name
        self, request: bias_pb2.ListImageSetsRequest, context: Context
    ) -> bias_pb2.ListImageSetsResponse:
        """See bias.proto."""
        del context
        shown, token = await self._image_sets.list(request.page_size, request.page_token)
        return bias_pb2.ListImageSetsResponse(image_sets=shown, next_page_token=token)

    async def DeleteImageSet(  # noqa: N802 - grpc's name
        self, request: bias_pb2.DeleteImageSetRequest, context: Context
    ) -> bias_pb2.DeleteImageSetResponse:
        """See bias.proto."""
        del context
        await self._image_sets.delete(request.name)
        return bias_pb2.DeleteImageSetResponse()

    async def Compare(  # noqa: N802 - grpc's name
        self, request: bias_pb2.CompareRequest, context: Context
    ) -> AsyncIterator[bias_pb2.CompareResponse]:
        """See bias.proto; a caller who goes away takes the comparison along."""
        del context
        begun = await self._comparisons.start(request)
        ended = False
        try:
            async with aclosing(self._comparisons.follow(begun.name)) as states:
                async for found in states:
                    ended = found.state != Comparison.STATE_RUNNING
                    if ended:
                        yield bias_pb2.CompareResponse(comparison=found)
                    else:
                        yield bias_pb2.CompareResponse(progress=found.progress)
        finally:
            if not ended:
                await self._comparisons.delete(begun.name)

    async def GetComparison(  # noqa: N802 - grpc's name
        self, request: bias_pb2.GetComparisonRequest, context: Context
    ) -> bias_pb2.GetComparisonResponse:
        """See bias.proto."""
        del context
        found = await self._comparisons.get(request.name)
        return bias_pb2.GetComparisonResponse(comparison=found)

    async def ListComparisons(  # noqa: N802 - grpc's name
        self, request: bias_pb2.ListComparisonsRequest, context: Context
    ) -> bias_pb2.ListComparisonsResponse:
        """See bias.proto."""
        del context
        shown, token = await self._comparisons.list(request.page_size, request.page_token)
        return bias_pb2.ListComparisonsResponse(comparisons=shown, next_page_token=token)

    async def DeleteComparison(  # noqa: N802 - grpc's name
        self, request: bias_pb2.DeleteComparisonRequest, context: Context
    ) -> bias_pb2.DeleteComparisonResponse:
        """See bias.proto."""
        del context
        await self._comparisons.delete(request.name)
        return bias_pb2.DeleteComparisonResponse()


class _Chunks:
    """The images of an upload, put together from their pieces.

    Args:
        first: The message that the first image begins with.
        rest: Those that follow.
        max_bytes: Of an image; of a larger one only so much is kept that it can be refused.

    Raises:
        RequestError: The first message is no piece of an image.
    """

    def __init__(
        self,
        first: UploadImageSetRequest,
        rest: AsyncIterator[UploadImageSetRequest],
        max_bytes: int,
    ) -> None:
        self._first = _chunk(first)
        self._rest = rest
        self._max_bytes = max_bytes
        self.index = self._first.index

    async def whole(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yields name and bytes of each image.

        Raises:
            RequestError: The pieces are out of order, or the last image has no end.
        """
        index = self.index
        name, held = "", bytearray()
        begun = False
        chunk: ImageChunk | None = self._first
        while chunk is not None:
            if chunk.index != index:
                raise RequestError(
                    f"a piece of image {chunk.index} came where one of image {index} was due; "
                    "pieces come in order",
                    field="chunk.index",
                )
            begun = True
            name = name or chunk.source[:_LONGEST_SOURCE]
            # One byte too many is enough to be refused by; the rest need not be held.
            held += chunk.content[: self._max_bytes + 1 - len(held)]
            if chunk.last:
                yield name or f"image {index}", bytes(held)
                index += 1
                name, held, begun = "", bytearray(), False
            following = await anext(self._rest, None)
            chunk = None if following is None else _chunk(following)
        if begun:
            raise RequestError(
                f"image {index} has no end: its last piece must say last", field="chunk.last"
            )


def _chunk(message: UploadImageSetRequest) -> ImageChunk:
    if message.WhichOneof("part") != "chunk":
        raise RequestError("after the metadata every message is a piece of an image", field="chunk")
    if message.chunk.index < 0:
        raise RequestError(
            f"chunk.index is {message.chunk.index}; accepted: 0 and more", field="chunk.index"
        )
    return message.chunk
