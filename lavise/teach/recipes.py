"""Recipes: how a mapper is taught, apart from what on.

| loss | for | source |
|---|---|---|
| ``cross-entropy`` | ``concepts`` | over the concepts' logits |
| ``cosine-cross-entropy`` | ``regression`` | softmax over cosine / 0.07 to all taught words: the \
objective of CLIP's text side (Radford et al., 2021) |
| ``hinge`` | ``regression`` | the paper's ranking loss, max(0, 1 - cos(g, right) + cos(g, wrong)) \
summed over the wrong words (Yang et al., CVPR 2022, equation 3; DeViSE, Frome et al., 2013) |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lavise.errors import SpecError

if TYPE_CHECKING:
    from lavise.mapper import Form

Loss = Literal["cosine-cross-entropy", "hinge", "cross-entropy"]
HIDDEN: Final = 256


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        loss: See the module.
        epochs: Passes over the examples.
        learning_rate: Adam's; the peak of one cycle when ``one_cycle``.
        one_cycle: Whether the rate rises and falls (Smith, 2018) instead of staying.
        batch: Examples a step; fewer where there are few.
        hidden: Hidden units; for ``regression`` the number of channels when 0, as in the paper.
        dropout: Of hidden units.
        input_dropout: Of features.
        weight_decay: Decoupled.
        shift: How far examples are moved as others differ (lavise.teach.shifts).
    """

    loss: Loss
    epochs: int = 12
    learning_rate: float = 1e-3
    one_cycle: bool = True
    batch: int = 256
    hidden: int = HIDDEN
    dropout: float = 0.1
    input_dropout: float = 0.0
    weight_decay: float = 1e-4
    shift: float = 0.0


CONCEPTS_RECIPE: Final = Recipe(
    "cross-entropy", epochs=14, dropout=0.3, input_dropout=0.3, shift=1.0
)
REGRESSION_RECIPE: Final = Recipe("cosine-cross-entropy", hidden=0)
PAPER_RECIPE: Final = Recipe(
    "hinge", epochs=20, learning_rate=1e-4, one_cycle=False, batch=64, hidden=0, weight_decay=0.0
)
_OF_FORM: Final[dict[Form, dict[Loss, Recipe]]] = {
    "concepts": {"cross-entropy": CONCEPTS_RECIPE},
    "regression": {"cosine-cross-entropy": REGRESSION_RECIPE, "hinge": PAPER_RECIPE},
}


def recipe_for(form: Form, loss: Loss | None = None) -> Recipe:
    """The recipe of a form of mapper.

    Args:
        form: Of the mapper.
        loss: Its loss; the form's own when None.

    Returns:
        The recipe.

    Raises:
        SpecError: The form cannot be taught with that loss.
    """
    of_form = _OF_FORM[form]
    if loss is None:
        return next(iter(of_form.values()))
    if loss not in of_form:
        takes = ", ".join(of_form)
        other = next(name for name, losses in _OF_FORM.items() if loss in losses)
        raise SpecError(
            f"a {form} mapper is not taught with {loss}; accepted for it: "
            f"{takes}; or take --mapper {other}",
            field="loss",
        )
    return of_form[loss]
