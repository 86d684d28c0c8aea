"""The mapper's part of a graph, from its first linear to word space, in ONNX's text form.

Words graphs and profile graphs have it in common. Letters as in lavise.words_graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from lavise.mapper import MapperWeights

_PARTED: Final = """
  own, hidden_in = Split <axis = -1> (first_all, split)
"""
# Which parts the mapper has: its own classifier (own), taught units (taught), or both.
_LOGITS: Final = {
    "both": """
  hidden = Relu (hidden_in)
  taught_product = MatMul (hidden, W_second)
  taught = Add (taught_product, b_second)
  concept_logits = Concat <axis = -1> (own, taught)
""",
    "own": """
  concept_logits = Identity (first_all)
""",
    "taught": """
  hidden = Relu (first_all)
  taught_product = MatMul (hidden, W_second)
  concept_logits = Add (taught_product, b_second)
""",
}
_DECODE: Final = {
    "concepts": """
  posterior = Softmax <axis = -1> (concept_logits)
  g_v = MatMul (posterior, E)
""",
    "regression": """
  g_v = Identity (concept_logits)
""",
}


def map_to_words(mapper: MapperWeights, *, parted: bool = False) -> str:
    """The nodes from ``first_all``, the first linear's output, to ``g_v``, in word space.

    Args:
        mapper: The mapper.
        parted: Whether ``own`` and ``hidden_in`` are there in its place, where it has both.
    """
    parts = parts_of(mapper)
    first = "" if parted or parts != "both" else _PARTED
    return first + _LOGITS[parts] + _DECODE[mapper.form]


def parts_of(mapper: MapperWeights) -> Literal["both", "own", "taught"]:
    """Which parts a mapper has; one for regression is taught."""
    return "both" if mapper.n_own and mapper.n_hidden else "own" if mapper.n_own else "taught"


def split_sizes(mapper: MapperWeights) -> np.ndarray:
    """The constant ``split`` of map_to_words()."""
    return np.array([mapper.n_own, mapper.n_hidden])
