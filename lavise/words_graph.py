"""The ONNX graphs that turn a feature map into words: attention, mapper, vocabulary, top-k.

Two graphs a layer and method, for few filters and for many, a few kilobytes each: the weights lie
beside them in safetensors files that all graphs of a bundle share (ONNX external data). The graphs
are written in ONNX's own text form (https://onnx.ai/onnx/repo-docs/Syntax.html) because that reads
like the equations. Letters: B images, F filters an image, C channels, N = H·W cells, D word
dimensions, V words.

What makes them fast is exact:

* **Factorised attention.** The mapper's first linear W is linear in the attended feature
  v = A·w_f, so for many filters P = A^T·W (N x H) is computed once an image and multiplied by
  the attention rows, instead of pooling and mapping filter by filter.
* **The classifier runs once.** Where the mapper holds the CNN's own classifier, the image's mean
  feature is one more row of the same product, and what comes out of it are the CNN's logits.
* **Top-k in two stages.** Words are dealt into about sqrt(V) groups. The k best words lie in the
  k groups with the best maxima, so only those groups are sorted.
* **Normalising last.** The cosine's |g(v)| divides k scores, not V.

What a word scores stands in lavise.word_scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, parser

from lavise.graph_terms import group_shape
from lavise.word_scores import N_NAMED, NAMING_TEMPERATURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lavise.mapper import MapperWeights
    from lavise.tensors import Location
    from lavise.word_scores import Spoken

_FEWEST_GROUPED: Final = 256
"""Concepts that are dealt into groups."""
_HEADER: Final = """
<ir_version: 10, opset_import: ["" : 20]>
words (float[B,{C},{H},{W}] feature_map, int64[B,F] filters, int64[1] k, int64[1] k_groups{inputs})
  => (int64[B,F,T] word_ids, float[B,F,T] scores, float[B,F,1] weight{outputs})
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
  rows = Div (positive, area_safe)
""",
    "activation": """
  T_f = Unsqueeze (threshold, last_axis)
  above = Greater (A_f, T_f)
  mask = Cast <to = 1> (above)
  weight = ReduceSum <keepdims = 1> (mask, last_axis)
  area_safe = Max (weight, tiny)
  rows = Div (mask, area_safe)
""",
    "original": """
  zeros = Mul (A_f, zero)
  rows = Add (zeros, one_cell)
  weight = ReduceSum <keepdims = 1> (rows, last_axis)
""",
    "attention-code": """
  norm = ReduceL2 <keepdims = 1> (A_f, last_axis)
  norm_safe = Max (norm, tiny)
  unit = Div (A_f, norm_safe)
  rows = Mul (unit, one_cell)
  weight = ReduceL1 <keepdims = 1> (rows, last_axis)
""",
    "attention-paper": """
  norm = ReduceL2 <keepdims = 1> (A_f, last_axis)
  norm_safe = Max (norm, tiny)
  rows = Div (A_f, norm_safe)
  weight = ReduceL1 <keepdims = 1> (rows, last_axis)
  channel_mean = ReduceMean <keepdims = 1> (A, last_axis)
  channel_norm = ReduceL2 <keepdims = 1> (A, last_axis)
  channel_safe = Max (channel_norm, tiny)
  channel_scale = Div (channel_mean, channel_safe)
  A_att = Mul (A, channel_scale)
""",
}

_FEW: Final = """
  A_t = Transpose <perm = [0, 2, 1]> ({A_att})
  v = MatMul (rows, A_t)
  first = MatMul (v, W_first)
  first_all = Add (first, b_first)
"""
_FEW_AND_LOGITS: Final = """
  A_t = Transpose <perm = [0, 2, 1]> (A)
  v_filters = MatMul (rows, A_t)
  v = Concat <axis = 1> (v_filters, mean)
  first = MatMul (v, W_first)
  first_and_whole = Add (first, b_first)
  first_all = Slice (first_and_whole, start, before_last, row_axis)
  own_whole = Slice (first_and_whole, last_row, n_own, row_and_column)
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

# The best of many values a filter, in two stages: those of the best groups, then the best of these.
_BEST: Final = """
  {of}_grouped = Reshape ({values}, {of}_shape)
  {of}_group_best = ReduceMax <keepdims = 0> ({of}_grouped, last_axis)
  {of}_group_value, {of}_group = TopK <axis = -1> ({of}_group_best, {k_groups})
  {of}_group_index = Unsqueeze ({of}_group, last_axis)
  {of}_candidates = GatherND <batch_dims = 2> ({of}_grouped, {of}_group_index)
  {of}_flat = Reshape ({of}_candidates, shape_flat)
  {best}, {of}_place = TopK <axis = -1> ({of}_flat, {k})
  {of}_group_place = Div ({of}_place, {of}_group_size)
  {of}_inside = Mod ({of}_place, {of}_group_size)
  {of}_group_id = GatherElements <axis = 2> ({of}_group, {of}_group_place)
  {of}_offset = Mul ({of}_group_id, {of}_group_size)
  {place} = Add ({of}_offset, {of}_inside)
"""
_BEST_CONCEPTS: Final = """
  p_best, concept = TopK <axis = -1> (posterior, n_named)
"""

# Padding words get cosine -1 - something through one more dimension, which is |g(v)| in every row.
_TOP_K: Final = """
  g_norm = ReduceL2 <keepdims = 1> (g_v, last_axis)
  g_safe = Max (g_norm, tiny)
  g_wide = Concat <axis = -1> (g_v, g_safe)
  {dot} = MatMul (g_wide, vocabulary)
  {naming}
  {best_words}
  scores = Div (dot_best, g_safe)
}}
"""

# Each of the best concepts speaks for several words: see lavise.word_scores.Spoken.
_NAMING: Final = """
  {best_concepts}
  p_safe = Max (p_best, tiny)
  p_log = Log (p_safe)
  p_scaled = Mul (p_log, naming)
  p_each = Unsqueeze (p_scaled, last_axis)
  handicap = Gather (concept_handicap, concept)
  said_each = Add (p_each, handicap)
  said = Reshape (said_each, shape_flat)
  said_dot = Mul (said, g_safe)
  word_each = Gather (concept_word, concept)
  said_word = Reshape (word_each, shape_flat)
  dot = ScatterElements <axis = 2, reduction = "max"> (cosine_dot, said_word, said_dot)
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
        outputs ``word_ids`` and ``scores`` (B, F, k), best first, and ``weight`` (B, F, 1), zero
        where a filter is inactive. Where the mapper holds the CNN's classifier, and the method
        takes the feature map as it is, also ``logits`` (B, 1, K_own), for which the graph for few
        filters takes ``mean`` (B, 1, C), the mean over space.
    """
    C, H, W = shape
    groups, size = group_shape(n_words)
    A_att = "A_att" if method == "attention-paper" else "A"
    has_logits = mapper.logits_scale is not None and A_att == "A"
    inputs = ", float[B,F] threshold" if method == "activation" else ""
    if has_logits and not many:
        inputs += f", float[B,1,{C}] mean"
    if not many:
        first = _FEW_AND_LOGITS if has_logits else _FEW
    elif method in _SUM_TO_ONE:
        first = _MANY_THAT_SUM_TO_ONE + _OF_P["both" if _parts(mapper) == "both" else "one"]
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
        best_concepts = _BEST.format(
            of="concept",
            values="posterior",
            k_groups="concept_k_groups",
            k="n_named",
            best="p_best",
            place="concept",
        )
    text = (
        _HEADER.format(C=C, H=H, W=W, inputs=inputs, outputs=outputs)
        + _ROWS[method]
        + first.format(A_att=A_att)
        + map_to_words(mapper, parted=many and method in _SUM_TO_ONE)
        + _TOP_K.format(
            dot="cosine_dot" if mapper.form == "concepts" else "dot",
            naming=_NAMING.format(best_concepts=best_concepts) if mapper.form == "concepts" else "",
            best_words=_BEST.format(
                of="word",
                values="dot",
                k_groups="k_groups",
                k="k",
                best="dot_best",
                place="word_ids",
            ),
        )
    )
    constants = {
        "shape_map": np.array([0, C, H * W]),
        "word_shape": np.array([0, 0, groups, size]),
        "word_group_size": np.array(size),
        "concept_shape": np.array([0, 0, *(hands or (1, 1))]),
        "concept_group_size": np.array((hands or (1, 1))[1]),
        "concept_k_groups": np.array([min(n_named, (hands or (1, 1))[0])]),
        "shape_flat": np.array([0, 0, -1]),
        "last_axis": np.array([-1]),
        "row_axis": np.array([1]),
        "row_and_column": np.array([1, 2]),
        "start": np.array([0]),
        "before_last": np.array([-1]),
        "last_row": np.array([-1, 0]),
        "n_own": np.array([np.iinfo(np.int64).max, mapper.n_own]),
        "logits_scale": np.array(mapper.logits_scale or 1.0, dtype=np.float32),
        "split": split_sizes(mapper),
        "zero": np.array(0, dtype=np.float32),
        "one_cell": np.array(1 / (H * W), dtype=np.float32),
        "tiny": np.array(1e-12, dtype=np.float32),
        "naming": np.array(NAMING_TEMPERATURE, dtype=np.float32),
        "n_named": np.array([n_named]),
        "concept_word": spoken.word,
        "concept_handicap": spoken.handicap + np.float32(1),
    }
    return finished(text, constants, weights)


def equal_groups(n: int) -> tuple[int, int] | None:
    """How n values fall into equal groups.

    Args:
        n: How many.

    Returns:
        (groups, size) nearest to the square root of n; None where neither is within half and twice
        of it, or the values are so few that it brings nothing.
    """
    root = n**0.5
    near = [d for d in range(max(1, int(root / 2)), int(2 * root) + 1) if n % d == 0]
    if n < _FEWEST_GROUPED or not near:
        return None
    groups = min(near, key=lambda d: abs(d - root))
    return groups, n // groups


def map_to_words(mapper: MapperWeights, *, parted: bool = False) -> str:
    """The nodes from ``first_all``, the first linear's output, to ``g_v``, in word space.

    Args:
        mapper: The mapper.
        parted: Whether ``own`` and ``hidden_in`` are there in its place, where it has both.
    """
    parts = _parts(mapper)
    first = "" if parted or parts != "both" else _PARTED
    return first + _LOGITS[parts] + _DECODE[mapper.form]


def _parts(mapper: MapperWeights) -> str:
    return "both" if mapper.n_own and mapper.n_hidden else "own" if mapper.n_own else "taught"


def split_sizes(mapper: MapperWeights) -> np.ndarray:
    """The constant ``split`` of map_to_words()."""
    return np.array([mapper.n_own, mapper.n_hidden])


def finished(
    text: str, constants: Mapping[str, np.ndarray], weights: Mapping[str, Location]
) -> onnx.ModelProto:
    """A graph's text with the constants and weights that its nodes name.

    Args:
        text: In ONNX's text form.
        constants: By name; those that no node reads are left out.
        weights: Where each weight lies; likewise.

    Returns:
        The model.
    """
    model = parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    for name, value in constants.items():
        if name in used:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    for name, place in weights.items():
        if name in used:
            model.graph.initializer.append(_external(name, place))
    return model


def _external(name: str, place: Location) -> onnx.TensorProto:
    """An initializer whose bytes lie in a safetensors file beside the graph."""
    tensor = TensorProto(
        name=name,
        data_type=TensorProto.FLOAT,
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (
        ("location", place.file),
        ("offset", str(place.offset)),
        ("length", str(place.length)),
    ):
        tensor.external_data.add(key=key, value=value)
    return tensor
