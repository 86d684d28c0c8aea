"""Joins the CNN and a graph that begins at a feature map to one that begins at images.

One run answers a request: between two runs, threads fall asleep and caches go cold, which cost
about a third of what the words did (docs/architecture.md). So the graph chooses the most active
filters too, and leaves out those that are nowhere active. Letters as in lavise.words_graph; G
filters an image are attended to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from lavise.graph_edit import keep_only, rename_all

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "cnn/"

# A filter of -1 at the j-th place stands for the j-th most active one, whatever else is named.
_CHOOSE: Final = """
  n_filters = Shape <start = 1> (filters)
  best_activation, best = TopK <axis = -1> ({activation}, n_filters)
  is_open = Less (filters, filter_0)
  chosen = Where (is_open, best, filters)
"""
# Active filters first: B images go as far as the one with the most.
_ACTIVE: Final = """
  chosen_peak = GatherElements <axis = 1> (peak, chosen)
  falling_peak, falling = TopK <axis = -1> (chosen_peak, n_filters)
  is_active = Greater (falling_peak, not_active)
  active = Cast <to = 7> (is_active)
  n_active = ReduceSum <keepdims = 0> (active, second)
  n_most = ReduceMax <keepdims = 1> (n_active)
  n_attended = Max (n_most, least)
  places = Slice (falling, first_row, n_attended, second)
  attended = GatherElements <axis = 1> (chosen, places)
"""
_ALL: Final = """
  attended = Identity (chosen)
"""
_THRESHOLDS: Final = """
  threshold = Gather (thresholds, attended)
"""

_CONSTANTS: Final = {
    "filter_0": np.array(0),
    "not_active": np.array(0, dtype=np.float32),
    "first_row": np.array([0]),
    "second": np.array([1]),
    "least": np.array([1]),
}


def join_words(
    cnn: onnx.ModelProto,
    position: int,
    words: onnx.ModelProto,
    *,
    by_mean: bool,
    leave_out: bool,
) -> onnx.ModelProto:
    """Joins the CNN and a words graph.

    Args:
        cnn: cnn.onnx; see lavise.cnn_graph.
        position: Of the layer in it.
        words: From lavise.words_graph.
        by_mean: Whether a mean over space says how active a filter is, or the max.
        leave_out: Whether filters that are nowhere positive are left out.

    Returns:
        A model with inputs ``images`` (B, S, S, 3) uint8; ``filters`` (B, F), indices, or -1 at
        the j-th place for the j-th most active one; ``k``; ``k_groups``; and for ``activation``
        ``thresholds`` (C,), what counts as active when exceeded. Outputs: ``chosen`` (B, F), the
        filters; ``peak`` and ``mean`` (B, C); ``A_f`` (B, G, N), the maps of the filters that were
        attended to, and what the words graph gives for these; ``places`` (B, G), where these stand
        among the chosen, if some are left out; ``logits``, the CNN's (B, K) where the words graph
        does not give them.
    """
    fed = {one.name for one in words.graph.input}
    told = {one.name for one in words.graph.output}
    has_head = cnn.graph.output[0].name == "logits"
    joint = _Joint(cnn, position, logits=has_head and "logits" not in told)
    joint.add_input("filters", TensorProto.INT64, ["B", "F"])
    between = _CHOOSE.format(activation="mean" if by_mean else "peak")
    between += _ACTIVE if leave_out else _ALL
    if "threshold" in fed:
        joint.add_input("thresholds", TensorProto.FLOAT, [None])
        between += _THRESHOLDS
    joint.add_nodes(between)
    joint.add_graph(
        words,
        {"feature_map": joint.map, "filters": "attended", "threshold": "threshold"},
    )
    if leave_out:
        joint.rename_dimension("F", "G")
    joint.add_output("chosen", TensorProto.INT64)
    joint.add_output("A_f", TensorProto.FLOAT)
    if leave_out:
        joint.add_output("places", TensorProto.INT64)
    return joint.model


def join_profile(cnn: onnx.ModelProto, position: int, profile: onnx.ModelProto) -> onnx.ModelProto:
    """Joins the CNN and a profile graph.

    Args:
        cnn: cnn.onnx.
        position: Of the layer in it.
        profile: From lavise.profile_graph.

    Returns:
        A model with input ``images`` (B, S, S, 3) uint8, and outputs ``word_scores`` (B, V),
        ``peak`` and ``mean`` (B, C).
    """
    joint = _Joint(cnn, position, logits=False)
    joint.add_graph(profile, {"feature_map": joint.map})
    return joint.model


class _Joint:
    """A model that begins with the CNN as far as it is needed, its names under a prefix.

    Attributes:
        map: The name of the layer's feature map.
    """

    def __init__(self, cnn: onnx.ModelProto, position: int, *, logits: bool) -> None:
        self.map = f"{_PREFIX}map_{position}"
        told = {f"peak_{position}": "peak", f"mean_{position}": "mean"}
        told |= {"logits": "logits"} if logits else {}
        self.model = onnx.ModelProto()
        self.model.CopyFrom(cnn)
        self._graph = self.model.graph
        keep_only(self._graph, {f"map_{position}", *told})
        ours = told | {self._graph.input[0].name: "images"}
        rename_all(self._graph, lambda name: ours.get(name, _PREFIX + name))
        del self._graph.output[:]
        self._graph.input[0].type.tensor_type.shape.dim[0].dim_param = "B"
        for name in told.values():
            self.add_output(name, TensorProto.FLOAT)

    def add_input(self, name: str, kind: int, shape: list[int | str | None]) -> None:
        self._graph.input.append(helper.make_tensor_value_info(name, kind, shape))

    def add_output(self, name: str, kind: int) -> None:
        self._graph.output.append(helper.make_tensor_value_info(name, kind, None))

    def rename_dimension(self, old: str, new: str) -> None:
        """In what add_graph() added: ONNX Runtime takes sizes of one name for equal."""
        for value in (*self._graph.output, *self._graph.value_info):
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.dim_param == old:
                    dimension.dim_param = new

    def add_nodes(self, text: str) -> None:
        """Nodes in ONNX's text form, and those of _CONSTANTS that they name."""
        nodes = parser.parse_graph(f"between () => () {{{text}}}").node
        used = {name for node in nodes for name in node.input}
        for name, value in _CONSTANTS.items():
            if name in used:
                self._graph.initializer.append(numpy_helper.from_array(value, name))
        self._graph.node.extend(nodes)

    def add_graph(self, model: onnx.ModelProto, stands_for: Mapping[str, str]) -> None:
        """A graph's nodes, outputs and other inputs; ``stands_for`` names what takes inputs' place.

        A node there reads what it is fed by our name. The sizes that the inputs had stay known:
        what is sure to be of one size shares memory, and ScatterElements copies nothing.
        """
        graph = onnx.GraphProto()
        graph.CopyFrom(model.graph)
        for node in graph.node:
            names = [stands_for.get(name, name) for name in node.input]
            del node.input[:]
            node.input.extend(names)
        self._graph.node.extend(graph.node)
        self._graph.initializer.extend(graph.initializer)
        for one in graph.input:
            if one.name in stands_for:
                one.name = stands_for[one.name]
                self._graph.value_info.append(one)
            else:
                self._graph.input.append(one)
        self._graph.value_info.extend(graph.value_info)
        self._graph.output.extend(graph.output)
