"""What a bundle says of itself: the pydantic models behind manifest.json."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION: Final = 5


SKILL: Final = "skill@10"
"""Among a mapper's metrics: see lavise.teach.evaluation.skill()."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerEntry(_Entry):
    """A tapped layer: its feature map is (channels, height, width)."""

    name: str
    channels: int = Field(gt=0)
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    ceiling: float | None = None
    """The value that the layer saturates at, such as 6 after ReLU6; a filter's activation is
    then the mean over space, since maxima tie."""


class CnnEntry(_Entry):
    """The target CNN as exported: uint8 images in, feature maps and logits out."""

    spec: str
    input_size: int = Field(gt=0, le=4096)
    mean: tuple[float, float, float]
    """Subtracted from pixels in 0..255, RGB."""
    std: tuple[float, float, float]
    class_names: tuple[str, ...] = ()
    """Of the CNN's own head; empty where it has none."""
    layers: tuple[LayerEntry, ...] = Field(min_length=1)


class MapperEntry(_Entry):
    """How the mapper of a layer was taught."""

    layer: str
    form: Literal["concepts", "regression"]
    datasets: tuple[str, ...]
    n_own: int
    n_hidden: int
    concepts: tuple[str, ...]
    logits_scale: float | None = None
    """What the own classes' logits are multiplied by to be the CNN's own; None where this layer
    does not feed its classifier."""
    loss: str
    seed: int
    unseen: float = 0.0
    """Share of the annotated categories that were held out from teaching, drawn by the seed."""
    annotation_rate: float = 1.0
    """Share of the images whose annotation was used, drawn by the seed."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """On examples held out from teaching."""


class VocabularyEntry(_Entry):
    """The words that answers are made of; one a line in vocabulary.txt."""

    words: str
    """Word spec, such as glove-50d."""
    restriction: str
    """Vocabulary spec, such as concrete-nouns."""
    size: int = Field(gt=0)
    dimension: int = Field(gt=0)


class CatalogEntry(_Entry):
    """The probe set behind a layer's catalog."""

    layer: str
    probe: str
    images: int = Field(gt=0)
    described: int
    threshold_error: float
    """Largest relative error of the thresholds T_f."""


class Manifest(_Entry):
    """All that a bundle holds; ``files`` names every other file with its sha256."""

    schema_version: int = SCHEMA_VERSION
    name: str
    cnn: CnnEntry
    mappers: tuple[MapperEntry, ...]
    vocabulary: VocabularyEntry
    catalogs: tuple[CatalogEntry, ...] = ()
    versions: dict[str, str]
    files: dict[str, str]
    checksum: str = ""
    """sha256 of manifest.json itself with this left empty."""
