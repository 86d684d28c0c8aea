"""Start, watch and stop a TorchServe of our own."""

from lavise_service.torchserve.config import MAX_MESSAGE_BYTES, Ports
from lavise_service.torchserve.foreground import run_forever
from lavise_service.torchserve.process import TorchServe

__all__ = ["MAX_MESSAGE_BYTES", "Ports", "TorchServe", "run_forever"]
