"""In torch's place, in the worker's image.

TorchServe 0.12 imports torch in order to ask whether an answer is a Tensor. The answers of our
handler are bytes and ONNX Runtime computes them: 750 MB can stay away. It lies behind everything
else on the path, so that a real torch that is installed on top wins.
"""


class Tensor:
    """What no answer is."""
