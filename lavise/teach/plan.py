"""What a teaching is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lavise.teach.annotation import check_share
from lavise.teach.datasets import DEMO_SCENES
from lavise.teach.recipes import recipe_for

if TYPE_CHECKING:
    from lavise.mapper import Form
    from lavise.teach.recipes import Recipe


@dataclass(frozen=True)
class Plan:
    """What to teach: all that decides on the bundle.

    Attributes:
        layers: Module or tensor names; the CNN's default when empty.
        datasets: Dataset specs.
        form: Of the mapper.
        words: Word spec.
        vocabulary: Vocabulary spec.
        name: Of the model, as requests name it.
        seed: Makes the run repeatable.
        recipe: How to train; the form's own when None.
        patience: Epochs without a better recall@5, on images held out for that, after which
            training stops; 0: never.
        demo_scenes: Scenes to compose for ``demo``.
        unseen: Share of the annotated categories that is never taught, drawn by the seed.
        annotation_rate: Share of the images whose annotation is used, drawn by the seed; the
            others only show own-classes what features look like.

    Raises:
        RequestError: A share is outside 0 to 1.
    """

    datasets: tuple[str, ...]
    layers: tuple[str, ...] = ()
    form: Form = "concepts"
    words: str = "glove-50d"
    vocabulary: str = "concrete-nouns"
    name: str = "lavise"
    seed: int = 0
    recipe: Recipe | None = None
    patience: int = 0
    demo_scenes: int = DEMO_SCENES
    unseen: float = 0.0
    annotation_rate: float = 1.0

    def __post_init__(self) -> None:
        """Refuses shares outside 0 to 1, before the long pass over the images."""
        check_share(self.unseen, "unseen")
        check_share(self.annotation_rate, "annotation_rate")

    @property
    def taught_by(self) -> Recipe:
        """The recipe: the one given, or the form's own."""
        return self.recipe or recipe_for(self.form)
