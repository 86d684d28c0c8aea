"""The datasets and words of a teaching, opened and checked before anything long begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lavise.errors import DatasetError, SpecError
from lavise.teach.datasets import open_datasets
from lavise.words import Centring, WordVectors, concept_vector, load_words, restrict

if TYPE_CHECKING:
    from collections.abc import Callable

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
    vectors: dict[int, np.ndarray] = {}
    left_out = []
    for position, name in enumerate(wanted):
        vector = concept_vector(name, source, smoothing=0.0)
        if vector is None:
            left_out.append(name)
        else:
            vectors[position] = vector
    if left_out:
        say(f"left out, no word vector: {', '.join(left_out)}")
    if datasets.annotated and not vectors:
        raise DatasetError(
            f"no category of {', '.join(d.spec for d in datasets.annotated)} has a word "
            f"vector in {plan.words}; rename the categories, or take other words",
            field="dataset",
        )
    centred = replace(vocabulary, vectors=centring(vocabulary.vectors))
    return Subject(datasets, source, centred, centring, vectors)
