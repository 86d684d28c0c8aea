"""Profiles of image folders, made in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lavise.errors import DatasetError, ImageError
from lavise.images import encode_jpeg
from lavise.prefetch import batched
from lavise.profile import Profile, ProfileSchema, fingerprint
from lavise.progress import Track, silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from lavise.explainer import Explainer, ImageNumbers
    from lavise.image_set import ImageSet

_BATCH = 16


def profile_images(
    explainer: Explainer,
    images: ImageSet,
    *,
    layer: str = "",
    thumbnails: bool = False,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> Profile:
    """Profiles a set of images.

    Args:
        explainer: Of the bundle.
        images: The set, such as lavise.image_set.folder_images() of a folder.
        layer: Target layer; the first when empty.
        thumbnails: Whether the images as the CNN saw them are kept, as JPEG.
        track: Shows progress.
        say: Told of images that could not be read; they are left out.

    Returns:
        The profile of those that could be read.

    Raises:
        DatasetError: None could.
        RequestError: The layer is unknown, or the vocabulary too large.
    """
    kept: list[int] = []
    parts: list[ImageNumbers] = []
    prints: list[bytes] = []
    small: list[bytes] = []
    read = images.readable(images.name, ahead=3 * _BATCH, track=track, say=say)
    for batch in batched(read, _BATCH):
        numbers = explainer.profile([image for _, image in batch], layer)
        if not numbers.finite.all():
            raise ImageError(
                f"the CNN gives values that are not finite for "
                f"{images.sources[batch[int(np.argmin(numbers.finite))][0]]}: its weights are "
                "damaged, or overflow on this image",
                field="images",
            )
        parts.append(numbers)
        kept += [i for i, _ in batch]
        prints += [fingerprint(image) for _, image in batch]
        if thumbnails:
            small += [encode_jpeg(image) for _, image in batch]
    if not parts:
        raise DatasetError(f"image set {images.name!r} has no readable image", field="images")
    qualified = [one.qualified for one in parts if one.qualified is not None]
    return Profile(
        schema=schema_of(explainer, layer),
        index=np.array(kept, dtype=np.int64),
        sources=[images.sources[i] for i in kept],
        activation=np.concatenate([one.activation for one in parts]),
        qualified=np.concatenate(qualified) if qualified else None,
        word_scores=np.concatenate([one.word_scores.astype(np.float16) for one in parts]),
        fingerprints=prints,
        thumbnails=small,
    )


def schema_of(explainer: Explainer, layer: str = "") -> ProfileSchema:
    """What is the same for every image that an explainer profiles.

    Args:
        explainer: Of the bundle.
        layer: Target layer; the first when empty.

    Returns:
        The schema.
    """
    entry, catalog = explainer.layer(layer), explainer.catalog(layer)
    return ProfileSchema(
        bundle_digest=explainer.digest,
        layer=entry.name,
        words=tuple(explainer.vocabulary),
        channels=entry.channels,
        filter_words=tuple(tuple(w for w, _ in row) for row in catalog.words) if catalog else (),
        verdicts=tuple(catalog.verdict) if catalog else (),
    )
