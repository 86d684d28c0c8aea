"""Cuts and renames ONNX graphs.

onnx.utils.Extractor and onnx.compose do so too, but know nothing of what a subgraph (of If, Loop,
Scan) takes from around it, and the former nothing of sparse weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import onnx


def keep_only(graph: onnx.GraphProto, outputs: Collection[str]) -> None:
    """Takes out of a graph what some of its outputs do not need, in place.

    Args:
        graph: Its nodes in order.
        outputs: Names of those that stay.
    """
    needed = set(outputs)
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed |= _names_read(node)
    for output in [one for one in graph.output if one.name not in needed]:
        graph.output.remove(output)
    for weights in [one for one in graph.initializer if one.name not in needed]:
        graph.initializer.remove(weights)
    for sparse in [one for one in graph.sparse_initializer if one.values.name not in needed]:
        graph.sparse_initializer.remove(sparse)
    for node in [node for node in graph.node if not needed.intersection(node.output)]:
        graph.node.remove(node)
    del graph.value_info[:]


def _subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    found = [one.g for one in node.attribute if one.HasField("g")]
    return found + [graph for one in node.attribute for graph in one.graphs]


def _names_read(node: onnx.NodeProto) -> set[str]:
    """All names that a node may take from around it, its subgraphs' own among them."""
    names = set(node.input)
    for graph in _subgraphs(node):
        names.update(one.name for one in graph.output)
        for inner in graph.node:
            names |= _names_read(inner)
    return names


def rename_all(graph: onnx.GraphProto, new: Callable[[str], str]) -> None:
    """Renames everything in a graph and in its subgraphs, in place.

    Args:
        graph: Any.
        new: Gives the new name for an old one; no two old names may get the same.
    """
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name and new(name) for name in names]
        for inner in _subgraphs(node):
            rename_all(inner, new)
    for sparse in graph.sparse_initializer:
        sparse.values.name = new(sparse.values.name)
        sparse.indices.name = new(sparse.indices.name)
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = new(value.name)
    for weights in graph.initializer:
        weights.name = new(weights.name)
