"""The best of many values a filter, in two stages, in ONNX's text form.

The k best values lie in the k groups with the best maxima, so that only those groups are sorted.
It is exact.
"""

from __future__ import annotations

from typing import Final

_FEWEST_GROUPED: Final = 256

_BEST: Final = """
  {of}_grouped = Reshape ({values}, {of}_shape)
  {of}_group_best = ReduceMax <keepdims = 0> ({of}_grouped, last_axis)
  {of}_group_value, {of}_group = TopK <axis = -1> ({of}_group_best, {k_groups})
  {of}_group_index = Unsqueeze ({of}_group, last_axis)
  {of}_candidates = GatherND <batch_dims = 2> ({of}_grouped, {of}_group_index)
  {of}_flat = Reshape ({of}_candidates, shape_flat)
  {of}_best, {of}_place = TopK <axis = -1> ({of}_flat, {k})
  {of}_group_place = Div ({of}_place, {of}_group_size)
  {of}_inside = Mod ({of}_place, {of}_group_size)
  {of}_group_id = GatherElements <axis = 2> ({of}_group, {of}_group_place)
  {of}_offset = Mul ({of}_group_id, {of}_group_size)
  {of}_ids = Add ({of}_offset, {of}_inside)
"""


def best_of(values: str, *, of: str, k: str, k_groups: str) -> str:
    """The nodes from values to ``OF_best`` and ``OF_ids``, best first.

    They read the constants ``OF_shape`` ([0, 0, groups, size]), ``OF_group_size`` and
    ``shape_flat`` ([0, 0, -1]).

    Args:
        values: The name of (B, F, groups * size) values.
        of: What they are of, which begins every name.
        k: The name of how many are wanted.
        k_groups: The name of the lesser of that and the number of groups.
    """
    return _BEST.format(values=values, of=of, k=k, k_groups=k_groups)


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
