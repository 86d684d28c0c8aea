"""Profiles made of plain arrays."""

import numpy as np

from lavise.profile import Profile, ProfileSchema


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
