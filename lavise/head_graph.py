"""Sets the classifier of an exported CNN apart: cnn.onnx without it, head.onnx with it alone.

Where the mapper holds the classifier's rows, the words graph gives the logits too, and running the
classifier in cnn.onnx as well would read its weights twice. head.onnx is for answers without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import numpy_helper, parser

if TYPE_CHECKING:
    from pathlib import Path

_HEAD: Final = """
<ir_version: 10, opset_import: ["" : 20]>
head (float[B,{C}] mean) => (float[B,{K}] logits)
{{
  logits = Gemm <transB = 1> (mean, W, b)
}}
"""


def set_head_apart(folder: Path, W: np.ndarray, b: np.ndarray) -> None:
    """Takes the classifier out of cnn.onnx and writes it to head.onnx.

    Args:
        folder: Of the bundle.
        W: (K, C) of the classifier, which is linear in a layer's mean over space.
        b: (K,).
    """
    whole = onnx.load(folder / "cnn.onnx")
    outputs = [output.name for output in whole.graph.output if output.name != "logits"]
    onnx.save(onnx.utils.Extractor(whole).extract_model(["images"], outputs), folder / "cnn.onnx")
    head = parser.parse_model(_HEAD.format(K=W.shape[0], C=W.shape[1]))
    for name, array in {"W": W, "b": b}.items():
        value = np.ascontiguousarray(array, dtype=np.float32)
        head.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.save(head, folder / "head.onnx")
