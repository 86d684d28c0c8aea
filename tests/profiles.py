"""Profiles made of plain arrays."""

from collections.abc import Sequence

import numpy as np

from lavise.profile import Profile, ProfileSchema

SCHEMA = ProfileSchema(
    bundle_digest="a" * 64,
    layer="late",
    words=("cat", "dog", "fish"),
    channels=5,
    filter_words=(("cat",), (), ("dog", "fish"), (), ()),
    verdicts=("described", "uninterpretable", "described", "described", "uninterpretable"),
)


def make_profile(
    word_scores: np.ndarray | None = None,
    activation: np.ndarray | None = None,
    *,
    qualified: np.ndarray | None = None,
    digest: str = "a" * 64,
    layer: str = "body",
    filter_words: tuple[tuple[str, ...], ...] = (),
    seed: int = 0,
    name: str = "image",
    thumbnails: bool = False,
) -> Profile:
    """A profile; what is left out is drawn at random."""
    rng = np.random.default_rng(seed)
    n = len(next((x for x in (word_scores, activation) if x is not None), range(6)))
    word_scores = rng.random((n, 4)) if word_scores is None else word_scores
    activation = rng.random((n, 3)) if activation is None else activation
    return Profile(
        schema=ProfileSchema(
            bundle_digest=digest,
            layer=layer,
            words=tuple(f"word{i}" for i in range(word_scores.shape[1])),
            channels=activation.shape[1],
            filter_words=filter_words,
            verdicts=("described",) * len(filter_words),
        ),
        index=np.arange(n, dtype=np.int64),
        sources=[f"{name}-{i}.jpg" for i in range(n)],
        activation=activation.astype(np.float32),
        qualified=qualified,
        word_scores=word_scores.astype(np.float16),
        fingerprints=[rng.bytes(16) for _ in range(n)],
        thumbnails=[rng.bytes(50) for _ in range(n)] if thumbnails else [],
    )


def small_profile(
    indices: Sequence[int], *, schema: ProfileSchema = SCHEMA, thumbnails: bool = False
) -> Profile:
    """The profile of some images of a set: its numbers tell which image they are of."""
    index = np.array(indices, dtype=np.int64)
    column = index[:, None].astype(np.float32)
    return Profile(
        schema=schema,
        index=index,
        sources=[f"{i}.png" for i in indices],
        activation=column + np.arange(schema.channels, dtype=np.float32) / 8,
        qualified=(column % 2 == np.arange(schema.channels) % 2),
        word_scores=((column % 7) / 8 + np.arange(len(schema.words)) / 64).astype(np.float16),
        fingerprints=[int(i).to_bytes(16, "big") for i in indices],
        thumbnails=[b"jpeg%d" % i for i in indices] if thumbnails else [],
    )
