"""The CNN's own classifier for each layer: as it is where a layer feeds it, else as a probe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.errors import DatasetError, SpecError
from lavise.teach.datasets import ACCEPTED
from lavise.teach.own_classes import Head, find_head
from lavise.teach.probe import probe_head

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lavise.manifest import CnnEntry
    from lavise.teach.features import Features

_WEAK: Final = 0.3
"""Share of agreement with the head below which own classes are little worth."""


def check_head(session: Any, entry: CnnEntry) -> None:  # noqa: ANN401 - onnxruntime has no types
    """Sees to it that a CNN has own classes, before the long pass over the images.

    Args:
        session: Of cnn.onnx.
        entry: The CNN.

    Raises:
        DatasetError: It has no classifier, or its classes have no names.
        SpecError: There are more or fewer names than classes.
    """
    others = ACCEPTED.replace("own-classes[:DIR], ", "")
    if "logits" not in [output.name for output in session.get_outputs()]:
        raise DatasetError(
            f"dataset own-classes needs a CNN with a classifier, and {entry.spec!r} has none; "
            f"teach on annotated images instead; {others}",
            field="dataset",
        )
    if not entry.class_names:
        raise DatasetError(
            f"dataset own-classes needs the names of the classes of {entry.spec!r}: give "
            f"--class-names FILE, one a line, or teach on annotated images; {others}",
            field="dataset",
        )
    black = np.zeros((1, entry.input_size, entry.input_size, 3), dtype=np.uint8)
    [logits] = session.run(["logits"], {"images": black})
    if logits.shape[1] != len(entry.class_names):
        raise SpecError(
            f"{len(entry.class_names)} class names for a classifier of {logits.shape[1]} classes",
            field="class-names",
        )


def heads_of(
    graph: Path,
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    layers: Sequence[str],
    features: Features,
    say: Callable[[str], None],
) -> list[tuple[Head, dict[str, float]]]:
    """The classifier of own classes for each layer.

    Args:
        graph: cnn.onnx.
        session: Of it.
        layers: Names.
        features: Of images of any kind.
        say: Told how well a probe does.

    Returns:
        For each layer the classifier and what was measured of it.

    Raises:
        DatasetError: There are too few images for a probe.
    """
    found: list[tuple[Head, dict[str, float]]] = []
    for position, layer in enumerate(layers):
        head = find_head(graph, session, position)
        if head is not None:
            found.append((head, {}))
            continue
        head, agreement = probe_head(features.layers[position].images, features.logits)
        say(
            f"{layer} does not feed the classifier: own classes by what the classifier says of "
            f"{len(features.logits)} images; the layer alone gives its answer for {agreement:.0%} "
            "of those held out"
            + ("; few words will be right, take a later layer" if agreement < _WEAK else "")
        )
        found.append((head, {"head-agreement": agreement}))
    return found
