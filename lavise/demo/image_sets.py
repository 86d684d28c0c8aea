"""Two image sets that differ in one thing: an object that is common in A and rare in B."""

import numpy as np

from lavise.demo.scenes import categories, compose_scene
from lavise.images import encode_jpeg

PLANTED = "guitar"
SHARE_A, SHARE_B = 0.4, 0.05
_CATEGORIES = 4


def two_sets(n: int, *, seed: int = 0) -> tuple[list[tuple[str, bytes]], list[tuple[str, bytes]]]:
    """Composes both sets.

    Args:
        n: Images of each.
        seed: Makes them repeatable.

    Returns:
        Names and JPEG files of A and of B. The planted object is in 40 % of A's scenes and in 5 %
        of B's; nothing else differs but by chance.
    """
    a, b = (
        [
            (
                f"{name}-{i:03}.jpg",
                _scene(np.random.default_rng([seed, side, i]), planted=i < share * n),
            )
            for i in range(n)
        ]
        for side, (name, share) in enumerate((("a", SHARE_A), ("b", SHARE_B)))
    )
    return a, b


def _scene(rng: np.random.Generator, *, planted: bool) -> bytes:
    others = [name for name in categories() if name != PLANTED]
    while True:
        chosen = rng.choice(others, _CATEGORIES, replace=False).tolist()
        if planted:
            chosen[0] = PLANTED
        scene = compose_scene(rng, categories=chosen)
        if not planted or any(one.category == PLANTED for one in scene.objects):
            return encode_jpeg(scene.image, quality=92)
