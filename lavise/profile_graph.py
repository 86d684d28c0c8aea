"""The ONNX graph of a profile: feature map in, one score a word and image out.

A word's score on an image is the max over cells of softmax(cosine / T) over the vocabulary, where
each cell is mapped as the mean of itself and its neighbours: a mapper is taught on means over
masks, and one cell alone is noisier than those. Letters as in lavise.words_graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.graph_model import finished
from lavise.mapper_graph import map_to_words, split_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from lavise.mapper import MapperWeights
    from lavise.tensors import Location

TEMPERATURE: Final = 0.1
"""Of the softmax over words; chosen, like the 3 x 3 mean, in docs/method.md."""

_BEFORE: Final = """
<ir_version: 10, opset_import: ["" : 20]>
profile (float[B,{C},{H},{W}] feature_map) => (float[B,{V}] word_scores)
{{
  near = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (feature_map)
  A = Reshape (near, shape_map)
  cells = Transpose <perm = [0, 2, 1]> (A)
  first = MatMul (cells, W_first)
  first_all = Add (first, b_first)
"""

# The vocabulary's last row gives padding words cosine -2, as in the words graphs.
_AFTER: Final = """
  g_norm = ReduceL2 <keepdims = 1> (g_v, last_axis)
  g_safe = Max (g_norm, tiny)
  g_wide = Concat <axis = -1> (g_v, g_safe)
  g_cold = Mul (g_safe, temperature)
  g_hot = Div (g_wide, g_cold)
  heated = MatMul (g_hot, vocabulary)
  shares = Softmax <axis = -1> (heated)
  best = ReduceMax <keepdims = 0> (shares, cell_axis)
  word_scores = Slice (best, start, n_words, word_axis)
}
"""


def build_profile_graph(
    mapper: MapperWeights,
    n_words: int,
    shape: tuple[int, int, int],
    weights: Mapping[str, Location],
) -> onnx.ModelProto:
    """Builds the profile graph of one layer.

    Args:
        mapper: The mapper whose form and sizes the graph follows.
        n_words: V.
        shape: The layer's feature map (C, H, W).
        weights: Where each weight lies: the mapper's arrays by name, and ``vocabulary``.

    Returns:
        A model with input ``feature_map`` (B, C, H, W) and output ``word_scores`` (B, V), each
        above 0 and at most 1.
    """
    C, H, W = shape
    text = _BEFORE.format(C=C, H=H, W=W, V=n_words) + map_to_words(mapper) + _AFTER
    constants = {
        "shape_map": np.array([0, C, H * W]),
        "last_axis": np.array([-1]),
        "cell_axis": np.array([1]),
        "word_axis": np.array([1]),
        "start": np.array([0]),
        "n_words": np.array([n_words]),
        "split": split_sizes(mapper),
        "temperature": np.array(TEMPERATURE, dtype=np.float32),
        "tiny": np.array(1e-12, dtype=np.float32),
    }
    return finished(text, constants, weights)
