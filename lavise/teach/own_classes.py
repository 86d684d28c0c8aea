"""The CNN's own classes as a source: its classifier and class names are the annotation.

Where the classifier is linear in the mean feature of the tapped layer, its rows say which
direction of feature space each class name lies in; no image is needed for that. Examples of a
class are drawn as

    x = mu + s·m·Sigma·w_c + residual / 2,

with mu the mean feature, Sigma the features' covariance, w_c the class's centred classifier row,
s such that the logit margin is 12, m uniform in 0.6 to 1.4, and the residual one of a real feature:
Sigma·w_c is the likeliest direction of a class under a Gaussian with shared covariance (linear
discriminant analysis: w = Sigma^-1·(mu_c - mu), solved for mu_c).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from lavise.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from lavise.teach.features import LayerFeatures

TEMPERATURE: Final = 2.0
"""Divides the classifier's logits: its softmax is too sure to blend neighbouring classes."""
SMOOTHING: Final = 0.5
"""Weight of a class name's hypernyms, a step: what the CNN mistakes for a class is often of its
kind."""
_MARGIN: Final = 12.0
_SPREAD: Final = (0.6, 1.4)
_SHRINKAGE: Final = 0.1


@dataclass(frozen=True)
class Head:
    """A linear classifier on the mean feature of a layer.

    Attributes:
        W: (K, C).
        b: (K,).
        probed: Whether it was fitted to what the CNN's classifier says, rather than being it.
    """

    W: np.ndarray
    b: np.ndarray
    probed: bool = False


def find_head(graph: Path, session: Any, position: int) -> Head | None:  # noqa: ANN401
    """Finds the classifier in cnn.onnx and checks that a layer feeds it.

    Args:
        graph: cnn.onnx.
        session: Of that graph.
        position: Of the layer.

    Returns:
        The classifier, or None where the CNN has none or this layer does not feed it through a
        mean over space.
    """
    model = onnx.load(graph)
    producer = {name: node for node in model.graph.node for name in node.output}
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    head = _linear_of("logits", producer, weights)
    if head is None:
        return None
    side = session.get_inputs()[0].shape[1]
    noise = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    logits, mean = session.run(["logits", f"mean_{position}"], {"images": noise})
    if mean.shape[1] != head.W.shape[1]:
        return None
    error = np.abs(mean @ head.W.T + head.b - logits).max()
    return head if error <= 1e-3 * max(1.0, float(np.abs(logits).max())) else None


def _linear_of(
    name: str, producer: dict[str, onnx.NodeProto], weights: dict[str, np.ndarray]
) -> Head | None:
    """The W and b of the linear layer that makes a value, however it is written."""
    node = producer.get(name)
    if node is None:
        return None
    if node.op_type in {"Identity", "Reshape", "Squeeze", "Flatten"}:
        return _linear_of(node.input[0], producer, weights)
    if node.op_type == "Gemm" and node.input[1] in weights:
        W = weights[node.input[1]]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        W = W if attributes.get("transB", 0) else W.T
        b = np.zeros(1, dtype=np.float32)
        if len(node.input) > 2:
            b = weights.get(node.input[2], b)
        return Head(W, np.broadcast_to(b.ravel(), len(W)))  # a row, a column, or one for all
    if node.op_type == "MatMul" and node.input[1] in weights:
        W = weights[node.input[1]].T
        return Head(W, np.zeros(len(W), dtype=np.float32))
    if node.op_type == "Add":
        for one, other in ((0, 1), (1, 0)):
            inner = _linear_of(node.input[one], producer, weights)
            if inner is not None and node.input[other] in weights:
                return Head(inner.W, inner.b + weights[node.input[other]].ravel())
    return None


def draw_examples(
    head: Head, layer: LayerFeatures, per_class: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws features of every class of the head.

    Args:
        head: K classes.
        layer: What real features look like.
        per_class: Examples a class.
        rng: Seeded.

    Returns:
        (K * per_class, C) features and (K * per_class,) classes.

    Raises:
        DatasetError: There are too few images to know how features spread.
    """
    more = layer.regions if len(layer.regions) > len(layer.images) else layer.images
    seen: np.ndarray = more[:]
    if len(seen) < 16:
        raise DatasetError(
            f"own-classes needs at least 16 images to know how features spread, and found "
            f"{len(seen)}; name a folder of them: own-classes:DIR, or add the dataset demo",
            field="dataset",
        )
    mean = seen.mean(axis=0)
    residuals = seen - mean
    covariance = residuals.T @ residuals / len(seen)
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(np.diag(covariance))
    centred = head.W - head.W.mean(axis=0)  # (K, C)
    direction = centred @ covariance  # (K, C)
    gain = np.einsum("kc,kc->k", centred, direction)  # the margin that one step brings
    step = _MARGIN / np.maximum(gain, 1e-6)
    label = np.repeat(np.arange(len(head.W)), per_class)
    scale = rng.uniform(*_SPREAD, size=label.size) * step[label]
    drawn = mean + scale[:, None] * direction[label]
    drawn += 0.5 * residuals[rng.integers(0, len(residuals), label.size)]
    if layer.lowest >= 0:
        np.maximum(drawn, 0.0, out=drawn)  # a layer behind a ReLU has no negative features
    return drawn.astype(np.float32), label
