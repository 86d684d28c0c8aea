"""How image sets come to be: begun, filled, finished; and what is known of them.

When the sender breaks off, or is cancelled, what came back by then is kept, and the set can be
resumed at received_images.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta

from lavise.errors import LaviseError, RequestError
from lavise.profile import ProfileSchema, profile_schema
from lavise.v1.bias_pb2 import ImageSet, ImageSetMetadata
from lavise_service.companion.intake import LONGEST_TEXT, Batch, Intake, Profiler
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.problems import NotFound, NotReady
from lavise_service.companion.records import set_path
from lavise_service.companion.settings import Settings
from lavise_service.companion.store import Store


class ImageSets:
    """The image sets of one companion; use it from one event loop.

    Args:
        store: Where they are kept.
        upstream: Who makes the numbers.
        settings: Limits, and how much is in flight.
        metrics: Where images are counted.
    """

    def __init__(
        self, store: Store, upstream: Profiler, settings: Settings, metrics: Metrics | None = None
    ) -> None:
        self._store = store
        self._upstream = upstream
        self._settings = settings
        self._metrics = metrics or Metrics()

    async def begin(self, metadata: ImageSetMetadata) -> ImageSet:
        """Begins a set, or finds the one whose upload goes on.

        Args:
            metadata: What is left out is filled in: the name, the layer.

        Returns:
            The set; its upload goes on at received_images.

        Raises:
            RequestError: The name or the layer is not accepted.
            AlreadyExists: The set is complete, or was begun with other metadata.
        """
        name = metadata.name or f"imageSets/{uuid.uuid4()}"
        set_path(name)  # refused before anybody is asked
        for field in ("display_name", "layer", "model"):
            if (length := len(getattr(metadata, field))) > LONGEST_TEXT:
                raise RequestError(
                    f"{field} has {length:,} characters; accepted: at most {LONGEST_TEXT:,}",
                    field=field,
                )
        layer = metadata.layer
        if metadata.name and not layer:
            with contextlib.suppress(NotFound):
                layer = (await self.get(name)).layer
        schema = await self._schema(layer, metadata.model)
        begun = ImageSet(
            name=name,
            display_name=metadata.display_name,
            layer=schema.layer,
            bundle_digest=schema.bundle_digest,
            thumbnails=metadata.thumbnails,
        )
        now, days = datetime.now(UTC), self._settings.retention_days
        begun.create_time.FromDatetime(now)
        if days:
            begun.expire_time.FromDatetime(now + timedelta(days=days))
        return await asyncio.to_thread(self._store.create_set, begun)

    async def add(
        self,
        name: str,
        images: AsyncIterator[tuple[str, bytes]],
        first_index: int,
        *,
        model: str = "",
    ) -> ImageSet:
        """Takes images in, until there are no more.

        Images that are there already are passed over. An image that is too large or cannot be
        read is recorded as rejected, and the rest goes on.

        Args:
            name: Of a set that was begun.
            images: Name and content of each, in order; asked for more only when there is room.
            first_index: The index of the first of them.
            model: The bundle to ask, as when the set was begun.

        Returns:
            The set as it stands.

        Raises:
            RequestError: Images before ``first_index`` are missing, or there are too many.
            NotReady: The set is complete, or another bundle is served since it was begun.
            Unavailable: TorchServe or the store failed; what came back before is kept.
        """
        image_set = await self.get(name)
        received = image_set.received_images
        if first_index > received:
            raise RequestError(
                f"image {first_index} of {name} comes too early; resume at {received}",
                field="index",
            )
        schema = await self._schema(image_set.layer, model)
        if schema.bundle_digest != image_set.bundle_digest:
            raise NotReady(
                f"another bundle is served since {name} was begun; delete it and upload it again",
                field="name",
            )
        request = {
            "layer": image_set.layer,
            "model": model,
            "withThumbnails": image_set.thumbnails,
        }
        intake = Intake(name, self._store, self._upstream, schema, request, self._metrics.images)
        try:
            async with contextlib.aclosing(self._batches(images, first_index, received)) as batches:
                async for batch in batches:
                    await intake.put(batch, self._settings.profiles_in_flight)
            await intake.settle()
        finally:
            await intake.close()
        return await self.get(name)

    async def take_in(
        self, metadata: ImageSetMetadata, images: AsyncIterator[tuple[str, bytes]]
    ) -> ImageSet:
        """Makes a set of all images of a source, which begins at image 0 each time.

        Returns:
            The set, ready.

        Raises:
            LaviseError: As begin(), add() and finish() do.
        """
        async with self.begun(metadata) as begun:
            await self.add(begun.name, images, 0, model=metadata.model)
            return await self.finish(begun.name)

    @contextlib.asynccontextmanager
    async def begun(self, metadata: ImageSetMetadata) -> AsyncIterator[ImageSet]:
        """Begins a set, or goes on with one, for as long as the block lasts.

        What cannot be finished and has no name of the caller's choice is removed again.

        Yields:
            The set, as begin() returns it.

        Raises:
            LaviseError: As begin() does.
        """
        begun = await self.begin(metadata)
        try:
            yield begun
        except BaseException:
            if not metadata.name:  # nobody knows what it is called: nobody can go on with it
                await asyncio.shield(self._forget(begun.name))
            raise

    async def finish(self, name: str) -> ImageSet:
        """Ends the upload: the set is ready; see Store.finish_set."""
        return await asyncio.to_thread(self._store.finish_set, name)

    async def get(self, name: str) -> ImageSet:
        """What is known of a set; see Store.get_set."""
        return await asyncio.to_thread(self._store.get_set, name)

    async def list(self, page_size: int, page_token: str) -> tuple[list[ImageSet], str]:
        """A page of the sets; see Store.list_sets."""
        return await asyncio.to_thread(self._store.list_sets, page_size, page_token)

    async def delete(self, name: str) -> None:
        """Removes everything of a set; see Store.delete_set."""
        await asyncio.to_thread(self._store.delete_set, name)

    async def _forget(self, name: str) -> None:
        with contextlib.suppress(LaviseError):  # the store may be away; sweeping removes it later
            await self.delete(name)

    async def _schema(self, layer: str, model: str) -> ProfileSchema:
        request = {"layer": layer, "model": model, "withWords": True}
        return profile_schema(await self._upstream.profile((), request))

    async def _batches(
        self, images: AsyncIterator[tuple[str, bytes]], index: int, received: int
    ) -> AsyncGenerator[Batch]:
        """Cuts images into batches, leaving out those that were received before."""
        batch: Batch | None = None
        async for source, image in images:
            if index >= self._settings.max_images_per_set:
                raise RequestError(
                    f"a set has at most {self._settings.max_images_per_set:,} images; "
                    "LAVISE_MAX_IMAGES_PER_SET can allow more",
                    field="index",
                )
            if index >= received:
                if batch is not None and not batch.takes(image, self._settings.profile_batch):
                    yield batch
                    batch = None
                batch = batch or Batch(index, index)
                batch.put(source, image, self._settings.max_image_bytes)
            index += 1
        if batch is not None:
            yield batch
