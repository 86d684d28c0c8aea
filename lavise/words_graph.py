"""The ONNX graphs that turn a feature map into words: attention, mapper, vocabulary, top-k.

Two graphs a layer and method, for few filters and for many; lavise.joined_graph puts them behind
the CNN. The weights lie beside them in safetensors files that all graphs of a bundle share (ONNX
external data). The graphs are written in ONNX's own text form
(https://onnx.ai/onnx/repo-docs/Syntax.html) because that reads like the equations. Letters: B
images, F filters an image, C channels, N = H·W cells, D word dimensions, V words.

What makes them fast is exact:

* **Factorised attention.** The mapper's first linear W is linear in the attended feature
  v = A·w_f, so for many filters P = A^T·W (N x H) is computed once an image and multiplied by
  the attention rows, instead of pooling and mapping filter by filter.
* **The classifier runs once.** Where the mapper holds the CNN's own classifier, the image's mean
  feature is one more row of the same product, and what comes out of it are the CNN's logits.
* **Top-k in two stages** (lavise.best_graph). Words are dealt into about sqrt(V) groups.

What a word scores stands in lavise.word_scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lavise.best_graph import best_of, equal_groups
from lavise.graph_model import finished
from lavise.graph_terms import group_shape
from lavise.mapper_graph import map_to_words, parts_of, split_sizes
from lavise.word_scores import N_NAMED, NAMING_TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx

    from lavise.mapper import MapperWeights
    from lavise.tensors import Location
    from lavise.word_scores import Spoken

_HEADER: Final = """
<ir_version: 10, opset_import: ["" : 20]>
words (float[B,{C},{H},{W}] feature_map, int64[B,F] filters, int64[1] k, int64[1] k_groups{inputs})
  => (int64[B,{R},T] word_ids, float[B,{R},T] word_best, float[B,F,1] weight{outputs})
  <float[B,{R},{N}] rows>
{{
  A = Reshape (feature_map, shape_map)
  index = Unsqueeze (filters, last_axis)
  A_f = GatherND <batch_dims = 1> (A, index)
"""

# Attention rows w_f (B, F, N), so that v = A_att·w_f; A_att is A but for the paper's own formula.
# The weight is what there is to attend to.
_ROWS: Final = {
    "attention": """
  positive = Relu (A_f)
  weight = ReduceSum <keepdims = 1> (positive, last_axis)
  area_safe = Max (weight, tiny)
  {rows} = Div (positive, area_safe)
""",
    "activation": """
  T_f = Unsqueeze (threshold, last_axis)
  above = Greater (A_f, T_f)
  mask = Cast <to = 1> (above)
  weight = ReduceSum <keepdims = 1> (mask, last_axis)
  area_safe = Max (weight, tiny)
  {rows} = Div (mask, area_safe)
""",
    "original": """
  zeros = Mul (A_f, zero)
  {rows} = Add (zeros, one_cell)
  weight = ReduceSum <keepdims = 1> ({rows}, last_axis)
""",
    "attention-code": """
  norm = ReduceL2 <keepdims = 1> (A_f, last_axis)
  norm_safe = Max (norm, tiny)
  unit = Div (A_f, norm_safe)
  {rows} = Mul (unit, one_cell)
  weight = ReduceL1 <keepdims = 1> ({rows}, last_axis)
""",
    "attention-paper": """
  norm = ReduceL2 <keepdims = 1> (A_f, last_axis)
  norm_safe = Max (norm, tiny)
  {rows} = Div (A_f, norm_safe)
  weight = ReduceL1 <keepdims = 1> ({rows}, last_axis)
  channel_mean = ReduceMean <keepdims = 1> (A, last_axis)
  channel_norm = ReduceL2 <keepdims = 1> (A, last_axis)
  channel_safe = Max (channel_norm, tiny)
  channel_scale = Div (channel_mean, channel_safe)
  A_att = Mul (A, channel_scale)
""",
}

# A row that attends to all cells alike gives the mean feature.
_ROWS_AND_WHOLE: Final = """
  rows = Pad (filter_rows, one_more_row, one_cell)
"""
_FEW: Final = """
  A_t = Transpose <perm = [0, 2, 1]> ({A_att})
  v = MatMul (rows, A_t)
  first = MatMul (v, W_first)
  first_all = Add (first, b_first)
"""
_LOGITS_OF_FEW: Final = """
  own_whole = Slice (first_all, last_row, n_own, row_and_column)
  logits = Mul (own_whole, logits_scale)
"""
# Where a filter's row sums to 1, the bias of its product is that of the few rows of P.
_SUM_TO_ONE: Final = ("attention", "activation", "original")
_MANY: Final = """
  A_t = Transpose <perm = [0, 2, 1]> ({A_att})
  P = MatMul (A_t, W_first)
  first = MatMul (rows, P)
  first_all = Add (first, b_first)
"""
_MANY_THAT_SUM_TO_ONE: Final = """
  A_t = Transpose <perm = [0, 2, 1]> (A)
  P_first = MatMul (A_t, W_first)
  P = Add (P_first, b_first)
"""
# P has fewer rows than there are filters: it is parted, and not what it is multiplied to.
_OF_P: Final = {
    "both": """
  P_own, P_hidden = Split <axis = -1> (P, split)
  own = MatMul (rows, P_own)
  hidden_in = MatMul (rows, P_hidden)
""",
    "one": """
  first_all = MatMul (rows, P)
""",
}
_LOGITS_OF_MANY: Final = """
  P_whole = ReduceMean <keepdims = 1> (P, row_axis)
  {whole}
  own_whole = Slice (whole, last_row, n_own, row_and_column)
  logits = Mul (own_whole, logits_scale)
"""

_BEST_CONCEPTS: Final = """
  concept_best, concept_ids = TopK <axis = -1> (posterior, n_named)
"""

# Padding words get a score of -2 through one more dimension, which is 1 in every row.
_TOP_K: Final = """
  g_norm = ReduceL2 <keepdims = 1> (g_v, last_axis)
  g_safe = Max (g_norm, tiny)
  g_unit = Div (g_v, g_safe)
  g_wide = Pad (g_unit, one_more_column, one)
  {scores} = MatMul (g_wide, vocabulary)
  {naming}
  {best_words}
}}
"""

# Each of the best concepts speaks for several words: see lavise.word_scores.Spoken.
_NAMING: Final = """
  {best_concepts}
  p_safe = Max (concept_best, tiny)
  p_log = Log (p_safe)
  p_scaled = Mul (p_log, naming)
  p_each = Unsqueeze (p_scaled, last_axis)
  handicap = Gather (concept_handicap, concept_ids)
  said_each = Add (p_each, handicap)
  said = Reshape (said_each, shape_flat)
  word_each = Gather (concept_word, concept_ids)
  said_word = Reshape (word_each, shape_flat)
  scores = ScatterElements <axis = 2, reduction = "max"> (cosine, said_word, said)
"""


def grouped_vocabulary(vectors: np.ndarray) -> np.ndarray:
    """Lays a vocabulary out as the graphs multiply it.

    Args:
        vectors: Unit-norm word vectors (V, D).

    Returns:
        (D + 1, groups * size) float32: one word a column; columns past V are padding that no
        real word loses to, since the last dimension gives them cosine -2.
    """
    n_words, dimension = vectors.shape
    groups, size = group_shape(n_words)
    columns = np.zeros((dimension + 1, groups * size), dtype=np.float32)
    columns[:dimension, :n_words] = vectors.T
    columns[dimension, n_words:] = -2.0
    return columns


def build_words_graph(
    mapper: MapperWeights,
    spoken: Spoken,
    n_words: int,
    shape: tuple[int, int, int],
    method: str,
    weights: Mapping[str, Location],
    *,
    many: bool,
) -> onnx.ModelProto:
    """Builds a graph of one layer and method.

    Args:
        mapper: The mapper whose form and sizes the graph follows.
        spoken: What the mapper's concepts speak for.
        n_words: V.
        shape: The layer's feature map (C, H, W).
        method: One of lavise.graph_terms.GRAPH_METHODS.
        weights: Where each weight lies: the mapper's arrays by name, and ``vocabulary``.
        many: Whether it is for many filters, factorised.

    Returns:
        A model with inputs ``feature_map`` (B, C, H, W), ``filters`` (B, F), ``k`` (1,),
        ``k_groups`` (1,; min(k, groups)) and, for ``activation``, ``threshold`` (B, F);
        outputs ``word_ids`` and their scores ``word_best`` (B, R, k), best first, and ``weight``
        (B, F, 1), zero where a filter is inactive. Where the mapper holds the CNN's classifier, and
        the method takes the feature map as it is, also ``logits`` (B, 1, K_own). R is F, but that
        the graph for few filters then has a row of the whole image behind those of the filters.
    """
    C, H, W = shape
    groups, size = group_shape(n_words)
    A_att = "A_att" if method == "attention-paper" else "A"
    has_logits = mapper.logits_scale is not None and A_att == "A"
    with_whole = has_logits and not many
    inputs = ", float[B,F] threshold" if method == "activation" else ""
    if not many:
        first = _FEW + (_LOGITS_OF_FEW if has_logits else "")
    elif method in _SUM_TO_ONE:
        first = _MANY_THAT_SUM_TO_ONE + _OF_P["both" if parts_of(mapper) == "both" else "one"]
        first += _LOGITS_OF_MANY.format(whole="whole = Identity (P_whole)") if has_logits else ""
    else:
        first = _MANY
        whole = "whole = Add (P_whole, b_first)"
        first += _LOGITS_OF_MANY.format(whole=whole) if has_logits else ""
    outputs = f", float[B,1,{mapper.n_own}] logits" if has_logits else ""
    n_named = min(N_NAMED, len(spoken.word))
    hands = equal_groups(len(spoken.word)) if many else None
    best_concepts = _BEST_CONCEPTS
    if hands:
        best_concepts = best_of("posterior", of="concept", k="n_named", k_groups="n_hands")
    text = (
        _HEADER.format(
            C=C, H=H, W=W, N=H * W, R="R" if with_whole else "F", inputs=inputs, outputs=outputs
        )
        + _ROWS[method].format(rows="filter_rows" if with_whole else "rows")
        + (_ROWS_AND_WHOLE if with_whole else "")
        + first.format(A_att=A_att)
        + map_to_words(mapper, parted=many and method in _SUM_TO_ONE)
        + _TOP_K.format(
            scores="cosine" if mapper.form == "concepts" else "scores",
            naming=_NAMING.format(best_concepts=best_concepts) if mapper.form == "concepts" else "",
            best_words=best_of("scores", of="word", k="k", k_groups="k_groups"),
        )
    )
    constants = {
        "shape_map": np.array([0, C, H * W]),
        "word_shape": np.array([0, 0, groups, size]),
        "word_group_size": np.array(size),
        "concept_shape": np.array([0, 0, *(hands or (1, 1))]),
        "concept_group_size": np.array((hands or (1, 1))[1]),
        "n_hands": np.array([min(n_named, (hands or (1, 1))[0])]),
        "shape_flat": np.array([0, 0, -1]),
        "last_axis": np.array([-1]),
        "row_axis": np.array([1]),
        "row_and_column": np.array([1, 2]),
        "last_row": np.array([-1, 0]),
        "n_own": np.array([np.iinfo(np.int64).max, mapper.n_own]),
        "logits_scale": np.array(mapper.logits_scale or 1.0, dtype=np.float32),
        "split": split_sizes(mapper),
        "one_more_row": np.array([0, 0, 0, 0, 1, 0]),
        "one_more_column": np.array([0, 0, 0, 0, 0, 1]),
        "one": np.array(1, dtype=np.float32),
        "zero": np.array(0, dtype=np.float32),
        "one_cell": np.array(1 / (H * W), dtype=np.float32),
        "tiny": np.array(1e-12, dtype=np.float32),
        "naming": np.array(NAMING_TEMPERATURE, dtype=np.float32),
        "n_named": np.array([n_named]),
        "concept_word": spoken.word,
        "concept_handicap": spoken.handicap + np.float32(1),
    }
    return finished(text, constants, weights)
