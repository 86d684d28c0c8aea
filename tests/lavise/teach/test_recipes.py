import pytest

from lavise.errors import SpecError
from lavise.mapper import Form
from lavise.teach.recipes import (
    CONCEPTS_RECIPE,
    PAPER_RECIPE,
    REGRESSION_RECIPE,
    Loss,
    Recipe,
    recipe_for,
)


@pytest.mark.parametrize(
    ("form", "loss", "recipe"),
    [
        ("concepts", None, CONCEPTS_RECIPE),
        ("concepts", "cross-entropy", CONCEPTS_RECIPE),
        ("regression", None, REGRESSION_RECIPE),
        ("regression", "cosine-cross-entropy", REGRESSION_RECIPE),
        ("regression", "hinge", PAPER_RECIPE),
    ],
)
def test_each_loss_has_its_recipe(form: Form, loss: Loss | None, recipe: Recipe) -> None:
    assert recipe_for(form, loss) is recipe


@pytest.mark.parametrize(
    ("form", "loss", "says"),
    [
        ("concepts", "hinge", "accepted for it: cross-entropy; or take --mapper regression"),
        ("concepts", "cosine-cross-entropy", "not taught with cosine-cross-entropy"),
        (
            "regression",
            "cross-entropy",
            "accepted for it: cosine-cross-entropy, hinge; or take --mapper concepts",
        ),
    ],
)
def test_a_form_that_cannot_be_taught_so(form: Form, loss: Loss, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        recipe_for(form, loss)
    assert caught.value.field == "loss"
