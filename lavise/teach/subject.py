"""The datasets and words of a teaching, opened and checked before anything long begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lavise.errors import DatasetError, SpecError
from lavise.teach.annotation import held_out_categories
from lavise.teach.datasets import open_datasets
from lavise.words import Centring, WordVectors, concept_vector, load_words, restrict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from lavise.cnn import TargetCnn
    from lavise.teach.datasets import Datasets
    from lavise.teach.plan import Plan


@dataclass(frozen=True)
class Subject:
    """What is taught.

    Attributes:
        datasets: As the plan names them.
        source: All words at hand.
        vocabulary: The words of answers, centred.
        centring: How.
        vectors: Unit word vectors of the annotated categories that are to be taught, by position
            among the categories; not centred.
    """

    datasets: Datasets
    source: WordVectors
    vocabulary: WordVectors
    centring: Centring
    vectors: dict[int, np.ndarray]


def open_subject(cnn: TargetCnn, plan: Plan, say: Callable[[str], None]) -> Subject:
    """Opens what a plan names.

    Args:
        cnn: Its class names are words to answer with where they are taught.
        plan: Names datasets and words.
        say: Told what is left out.

    Returns:
        The subject.

    Raises:
        SpecError: A spec is wrong.
        DatasetError: A dataset has nothing to use.
    """
    datasets = open_datasets(plan.datasets, seed=plan.seed, demo_scenes=plan.demo_scenes)
    for dataset in (*datasets.annotated, *datasets.unlabelled):
        for note in dataset.notes:
            say(note)
    source = load_words(plan.words)
    # Unlabelled scenes have categories too, after these: they are not to be taught.
    wanted = tuple(dict.fromkeys(c for d in datasets.annotated for c in d.categories))
    taught = [*wanted, *(cnn.class_names if datasets.own_classes else ())]
    vocabulary = restrict(source, plan.vocabulary, taught=taught)
    if unwritable := [word for word in vocabulary.words if "\n" in word]:
        raise SpecError(
            f"{plan.words} has a word with a line feed: {unwritable[0]!r}", field="words"
        )
    centring = Centring.of(vocabulary.vectors)
    vectors = _taught(wanted, datasets, source, plan, say)
    centred = replace(vocabulary, vectors=centring(vocabulary.vectors))
    return Subject(datasets, source, centred, centring, vectors)


def _taught(
    wanted: Sequence[str],
    datasets: Datasets,
    source: WordVectors,
    plan: Plan,
    say: Callable[[str], None],
) -> dict[int, np.ndarray]:
    """Word vectors of the categories that are to be taught, by position; tells of the others."""
    specs = ", ".join(dataset.spec for dataset in datasets.annotated)
    never = held_out_categories(wanted, plan.unseen, seed=plan.seed)
    if wanted and len(never) == len(wanted):
        raise DatasetError(
            f"all {len(wanted)} categories of {specs} are held out, since unseen is "
            f"{plan.unseen}; take a smaller share",
            field="unseen",
        )
    if never:
        say(f"never taught, as asked: {', '.join(sorted(never))}")
    found = {
        position: concept_vector(name, source, smoothing=0.0)
        for position, name in enumerate(wanted)
        if name not in never
    }
    if left_out := [wanted[position] for position, vector in found.items() if vector is None]:
        say(f"left out, no word vector: {', '.join(left_out)}")
    vectors = {position: vector for position, vector in found.items() if vector is not None}
    if wanted and not vectors:
        raise DatasetError(
            f"no category of {specs} has a word vector in {plan.words}; rename the categories, "
            "or take other words",
            field="dataset",
        )
    return vectors
