"""The same client for asyncio."""

from __future__ import annotations

import secrets
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

import grpc
from tenacity import AsyncRetrying

from lavise.client.patience import again, code_of
from lavise.client.requests import (
    OPTIONS,
    Image,
    compare_request,
    comparison_of,
    credentials,
    explain_request,
    metadata,
    upload_parts,
)
from lavise.v1 import bias_pb2, bias_pb2_grpc, explain_pb2, explain_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from types import TracebackType


class AsyncClient:
    """A connection to a LaViSE server, as an asynchronous context manager.

    Args:
        target: Such as ``127.0.0.1:50051``.
        token: Bearer token, where the server wants one.
        tls: Whether to speak TLS; given certificates imply it.
        root_certificates: PEM of who signed the server's; the usual ones when None.
        client_key: PEM, where the server wants a certificate from its clients.
        client_certificate: PEM, likewise.
        timeout_s: How long a call that is not a stream may take, its repetitions included.
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_key: bytes | None = None,
        client_certificate: bytes | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._call: dict[str, Any] = {"metadata": metadata(token)}
        self._timeout_s = timeout_s
        if tls or root_certificates or client_certificate:
            secret = credentials(
                root_certificates=root_certificates,
                client_key=client_key,
                client_certificate=client_certificate,
            )
            self._channel = grpc.aio.secure_channel(target, secret, options=OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        self._explainer = _stub(explain_pb2_grpc.ExplainerStub, self._channel)
        self._bias = _stub(bias_pb2_grpc.BiasComparisonStub, self._channel)

    async def explain(
        self,
        images: Sequence[Image],
        *,
        layer: str = "",
        filters: Sequence[int] | None = None,
        most_active: int | None = None,
        all_filters: bool = False,
        top_k: int | None = None,
        method: str = "",
        heatmaps: bool = False,
    ) -> explain_pb2.ExplainResponse:
        """The words of filters on images; what is left out is the server's default."""
        request = explain_request(
            images,
            layer=layer,
            filters=filters,
            most_active=most_active,
            all_filters=all_filters,
            top_k=top_k,
            method=method,
            heatmaps=heatmaps,
        )
        found: explain_pb2.ExplainResponse = await self._ask(self._explainer.Explain, request)
        return found

    async def model(self) -> explain_pb2.GetModelResponse:
        """What the server has loaded."""
        request = explain_pb2.GetModelRequest()
        found: explain_pb2.GetModelResponse = await self._ask(self._explainer.GetModel, request)
        return found

    async def describe_filters(
        self, *, layer: str = "", indices: Sequence[int] = ()
    ) -> AsyncIterator[explain_pb2.FilterDescription]:
        """What the catalog knows of some filters, or of all, page after page."""
        request = explain_pb2.DescribeFiltersRequest(layer=layer, indices=indices)
        while True:
            page = await self._ask(self._explainer.DescribeFilters, request)
            for one in page.filters:
                yield one
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def upload_image_set(
        self,
        images: Sequence[Image],
        *,
        name: str = "",
        display_name: str = "",
        layer: str = "",
        thumbnails: bool = False,
    ) -> bias_pb2.ImageSet:
        """Uploads images as a set; goes on by itself where the connection breaks.

        Args:
            images: Files, read one at a time, or names with bytes.
            name: ``imageSets/ID``, to choose it or to go on with a set; made up when empty.
            display_name: What a person calls the set.
            layer: Target layer; the server's first when empty.
            thumbnails: Whether small copies are kept for the report.

        Returns:
            The set, ready.
        """
        about = bias_pb2.ImageSetMetadata(
            name=name or f"imageSets/{secrets.token_hex(8)}",
            display_name=display_name,
            layer=layer,
            thumbnails=thumbnails,
        )
        answer = bias_pb2.UploadImageSetResponse()
        known = await self._known(about.name) if name else bias_pb2.ImageSet()
        async for attempt in AsyncRetrying(**again()):
            with attempt:
                if attempt.retry_state.attempt_number > 1:
                    known = await self._known(about.name)
                    if known.state == bias_pb2.ImageSet.STATE_READY:
                        return known  # only the answer was lost
                parts = upload_parts(about, images, known.received_images)
                answer = await self._bias.UploadImageSet(parts, **self._call)
        return answer.image_set

    async def _known(self, name: str) -> bias_pb2.ImageSet:
        """What the server has of a set; an empty message where it knows none."""
        try:
            return await self.image_set(name)
        except grpc.RpcError as problem:
            if code_of(problem) is grpc.StatusCode.NOT_FOUND:
                return bias_pb2.ImageSet()
            raise

    async def import_image_set(
        self, uri: str, *, display_name: str = "", layer: str = "", thumbnails: bool = False
    ) -> bias_pb2.ImageSet:
        """Has the server read the images below a URI that it allows."""
        about = bias_pb2.ImageSetMetadata(
            display_name=display_name, layer=layer, thumbnails=thumbnails
        )
        request = bias_pb2.ImportImageSetRequest(metadata=about, uri=uri)
        answer: bias_pb2.ImportImageSetResponse = await self._bias.ImportImageSet(
            request, **self._call
        )
        return answer.image_set

    async def image_set(self, name: str) -> bias_pb2.ImageSet:
        """What is known of a set."""
        request = bias_pb2.GetImageSetRequest(name=name)
        answer: bias_pb2.GetImageSetResponse = await self._ask(self._bias.GetImageSet, request)
        return answer.image_set

    async def image_sets(self) -> AsyncIterator[bias_pb2.ImageSet]:
        """The sets, newest first."""
        request = bias_pb2.ListImageSetsRequest()
        while True:
            page = await self._ask(self._bias.ListImageSets, request)
            for one in page.image_sets:
                yield one
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_image_set(self, name: str) -> None:
        """Removes everything of a set."""
        await self._ask(self._bias.DeleteImageSet, bias_pb2.DeleteImageSetRequest(name=name))

    async def compare(
        self,
        a: str,
        b: str,
        *,
        alpha: float | None = None,
        seed: int = 0,
        permutations: int = 0,
        progress: Callable[[str, float], None] = lambda _stage, _done: None,
    ) -> bias_pb2.Comparison:
        """Compares two sets; begins anew where the connection breaks.

        Args:
            a: ``imageSets/ID``.
            b: Likewise.
            alpha: Chance of one or more false findings.
            seed: The same seed gives the same report.
            permutations: Shuffles of the two sets.
            progress: Told of each stage, and how much of it is done, 0 to 1.

        Returns:
            The comparison with its report, or with its error.
        """
        request = compare_request(a, b, alpha=alpha, seed=seed, permutations=permutations)
        found: bias_pb2.Comparison | None = None
        async for attempt in AsyncRetrying(**again()):
            with attempt:
                async for event in self._bias.Compare(request, **self._call):
                    progress(event.progress.stage, event.progress.done)
                    found = comparison_of(event) or found
        if found is None:
            raise RuntimeError("the server ended the comparison without a report")
        return found

    async def comparison(self, name: str) -> bias_pb2.Comparison:
        """A comparison that was made before."""
        request = bias_pb2.GetComparisonRequest(name=name)
        answer: bias_pb2.GetComparisonResponse = await self._ask(self._bias.GetComparison, request)
        return answer.comparison

    async def comparisons(self) -> AsyncIterator[bias_pb2.Comparison]:
        """The comparisons without their reports, newest first."""
        request = bias_pb2.ListComparisonsRequest()
        while True:
            page = await self._ask(self._bias.ListComparisons, request)
            for one in page.comparisons:
                yield one
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_comparison(self, name: str) -> None:
        """Removes a comparison."""
        request = bias_pb2.DeleteComparisonRequest(name=name)
        await self._ask(self._bias.DeleteComparison, request)

    async def _ask(self, call: Any, request: Any) -> Any:  # noqa: ANN401 - generated, untyped
        """A call that is no stream, again and again while there is time."""
        ends = monotonic() + self._timeout_s

        # A coroutine function: tenacity takes what a lambda returns for the answer.
        async def once() -> Any:  # noqa: ANN401 - as _ask
            return await call(request, timeout=max(0.0, ends - monotonic()), **self._call)

        return await AsyncRetrying(**again(within_s=self._timeout_s))(once)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _stub(kind: Callable[[Any], Any], channel: Any) -> Any:  # noqa: ANN401 - generated, untyped
    return kind(channel)
