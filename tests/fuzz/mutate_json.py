"""Changes one place of a JSON text, which libFuzzer's own mutations mostly break."""

import random
from collections.abc import Sequence
from typing import Any, Final

import orjson

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**31), 0.5, 1e308, -0.0),
    *("", "x", "image", "../x", "\u0000", "\ud7ff", "A" * 2000, "NaN", "1", "==", "[]"),
    *([], {}, [[]], [None], {"": {}}),
)


def mutated(text: bytes, seed: int, names: Sequence[str]) -> bytes:
    """A text with one place of it changed; as it was where it is no JSON.

    Args:
        text: JSON.
        seed: Of what is changed, and how.
        names: Keys that the reader may know.
    """
    try:
        root = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        return text
    # Not for secrets: the same seed must make the same text.
    draw = random.Random(seed)  # noqa: S311
    places: list[tuple[Any, Any]] = []
    stack: list[Any] = [root]
    while stack and len(places) < 10_000:
        inner = stack.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        places += ((inner, key) for key in keys)
        stack += (inner[key] for key in keys if isinstance(inner[key], dict | list))
    inner, key = draw.choice(places)
    value = draw.choice([*_VALUES, draw.choice(places)[0], _at(draw.choice(places))])
    how = draw.randrange(4)
    if how == 0 and inner is not root:
        del inner[key]
    elif how == 1 and isinstance(inner, dict):
        inner[draw.choice(names)] = value
    elif how == 2 and isinstance(inner, list) and inner is not root:
        inner.insert(draw.randrange(len(inner) + 1), value)
    else:
        inner[key] = value
    try:
        return orjson.dumps(root[0])
    except (orjson.JSONEncodeError, TypeError):  # a place within itself
        return text


def _at(place: tuple[Any, Any]) -> Any:
    inner, key = place
    return inner[key] if isinstance(inner, dict) or key < len(inner) else None
