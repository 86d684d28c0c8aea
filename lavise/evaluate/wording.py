"""What methods, sources and scores are called where a person reads them."""

from __future__ import annotations

from typing import Final

METHODS: Final = {
    "attention": "words, matched attention (default)",
    "attention-paper": "words, the paper's attention",
    "attention-code": "words, the published code's attention",
    "activation": "words, map masked",
    "original": "words, whole image",
    "image": "words, image masked",
    "netdissect": "Network Dissection, labelled on these images",
    "netdissect-other-half": "Network Dissection, labelled on others",
}
SOURCES: Final = {
    "catalog": "catalog's words",
    "netdissect": "Network Dissection",
    "soft-wpmi": "CLIP-Dissect, soft-WPMI",
}
SCORES: Final = {
    "auprc": "AUPRC",
    "f1": "F1",
    "correlation": "correlation",
    "auroc": "AUROC",
}
