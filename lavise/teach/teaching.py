"""Teaches a bundle: CNN, datasets and words in, a folder that serves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lavise import bundle as bundles
from lavise.cnn_graph import export_cnn
from lavise.errors import DatasetError, SpecError
from lavise.graph_terms import GRAPH_METHODS
from lavise.manifest import LayerEntry, Manifest, MapperEntry, VocabularyEntry
from lavise.profile_graph import build_profile_graph
from lavise.progress import Track, silent
from lavise.runtime import open_session
from lavise.teach.datasets import ACCEPTED, DEMO_SCENES, Datasets, open_datasets
from lavise.teach.evaluation import recall_at
from lavise.teach.features import Features, extract_features
from lavise.teach.own_classes import SMOOTHING, TEMPERATURE, Head, draw_examples, find_head
from lavise.teach.training import (
    CONCEPTS_RECIPE,
    REGRESSION_RECIPE,
    Examples,
    Recipe,
    train_concepts,
    train_regression,
)
from lavise.tensors import write_tensors
from lavise.word_scores import WordScores, named_words
from lavise.words import Centring, WordVectors, concept_vector, load_words, restrict
from lavise.words_graph import build_words_graph, grouped_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lavise.cnn import TargetCnn
    from lavise.manifest import CnnEntry
    from lavise.mapper import Form, MapperWeights
    from lavise.tensors import Location

_HELD_OUT: float = 0.1
"""Share of the annotated images that metrics are measured on, never taught."""
_DRAWN_PER_CLASS = 12
_FEWEST_EXAMPLES = 2
"""Of one example there is no variance, and nothing to tell it from."""


@dataclass(frozen=True)
class Plan:
    """What to teach.

    Attributes:
        layers: Module or tensor names; the CNN's default when empty.
        datasets: Dataset specs.
        form: Of the mapper.
        words: Word spec.
        vocabulary: Vocabulary spec.
        name: Of the model, as requests name it.
        seed: Makes the run repeatable.
        recipe: How to train; the form's own when None.
        demo_scenes: Scenes to compose for ``demo``.
    """

    datasets: tuple[str, ...]
    layers: tuple[str, ...] = ()
    form: Form = "concepts"
    words: str = "glove-50d"
    vocabulary: str = "concrete-nouns"
    name: str = "lavise"
    seed: int = 0
    recipe: Recipe | None = None
    demo_scenes: int = DEMO_SCENES


def teach(
    cnn: TargetCnn,
    plan: Plan,
    out: Path,
    *,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> bundles.Bundle:
    """Teaches a mapper for each layer and writes the bundle.

    Args:
        cnn: From lavise.cnn.load_cnn.
        plan: What to teach.
        out: Where the bundle goes; a bundle that is there is replaced when all went well.
        track: Shows progress.
        say: Told, in a sentence, what a person should know: what was left out and why.

    Returns:
        The bundle, opened.

    Raises:
        SpecError: A spec is wrong.
        DatasetError: A dataset has nothing to use, or own-classes has no head to use.
        EnvironmentProblem: The disk is full.
    """
    datasets = open_datasets(plan.datasets, seed=plan.seed, demo_scenes=plan.demo_scenes)
    for dataset in (*datasets.annotated, *datasets.unlabelled):
        for note in dataset.notes:
            say(note)
    source = load_words(plan.words)
    taught = [name for dataset in datasets.annotated for name in dataset.categories]
    taught += cnn.class_names if datasets.own_classes else ()
    vocabulary = restrict(source, plan.vocabulary, taught=taught)
    centring = Centring.of(vocabulary.vectors)
    vocabulary = replace(vocabulary, vectors=centring(vocabulary.vectors))
    if unwritable := [word for word in vocabulary.words if "\n" in word]:
        raise SpecError(
            f"{plan.words} has a word with a line feed: {unwritable[0]!r}", field="words"
        )
    with bundles.writing(out) as folder:
        entry = export_cnn(cnn, plan.layers, folder / "cnn.onnx")
        session = open_session(folder / "cnn.onnx")
        heads = _heads(folder / "cnn.onnx", session, entry, own_classes=datasets.own_classes)
        features = extract_features(
            session,
            [*datasets.annotated, *datasets.unlabelled],
            size=entry.input_size,
            track=track,
        )
        entry = _with_ceilings(entry, features)
        # Unlabelled scenes have categories too, after these: they are not to be taught.
        wanted = dict.fromkeys(c for d in datasets.annotated for c in d.categories)
        vectors, left_out = _category_vectors(tuple(wanted), source)
        if left_out:
            say(f"left out, no word vector: {', '.join(left_out)}")
        if datasets.annotated and not vectors:
            raise DatasetError(
                f"no category of {', '.join(d.spec for d in datasets.annotated)} has a word "
                f"vector in {plan.words}; rename the categories, or take other words",
                field="dataset",
            )
        places = write_tensors(
            folder / "vocabulary.safetensors",
            {"vocabulary": grouped_vocabulary(vocabulary.vectors)},
        )
        text = "".join(f"{word}\n" for word in vocabulary.words)
        (folder / "vocabulary.txt").write_text(text, encoding="utf-8")
        mappers = []
        for position, layer in enumerate(entry.layers):
            lesson = _Lesson(plan, datasets, entry, features, position, source, centring, vectors)
            weights, metrics = lesson.learn(heads[position], vocabulary, track, say)
            where = places | write_tensors(
                folder / bundles.layer_file("mapper", layer.name, "safetensors"),
                mapper_arrays(weights),
            )
            shape = (layer.channels, layer.height, layer.width)
            write_graphs(folder, layer.name, weights, vocabulary.vectors, shape, where)
            mappers.append(lesson.describe(weights, metrics))
        manifest = Manifest(
            name=plan.name,
            cnn=entry,
            mappers=tuple(mappers),
            vocabulary=VocabularyEntry(
                words=plan.words,
                restriction=plan.vocabulary,
                size=len(vocabulary.words),
                dimension=vocabulary.vectors.shape[1],
            ),
            versions={},
            files={},
        )
        bundles.write_manifest(folder, manifest)
    return bundles.open_bundle(out)


def write_graphs(
    folder: Path,
    layer: str,
    mapper: MapperWeights,
    vocabulary: np.ndarray,
    shape: tuple[int, int, int],
    weights: Mapping[str, Location],
) -> None:
    """Writes the words graphs and the profile graph of a layer.

    Args:
        folder: Of the bundle.
        layer: Its name.
        mapper: Its mapper.
        vocabulary: (V, D) unit-norm word vectors.
        shape: Its feature map (C, H, W).
        weights: Where in the folder each weight lies.
    """
    named = named_words(mapper.E, vocabulary)
    for method in GRAPH_METHODS:
        graph = build_words_graph(mapper, named, len(vocabulary), shape, method, weights)
        file = folder / bundles.layer_file("words", layer, f"{method}.onnx")
        file.write_bytes(graph.SerializeToString())
    graph = build_profile_graph(mapper, len(vocabulary), shape, weights)
    (folder / bundles.layer_file("profile", layer, "onnx")).write_bytes(graph.SerializeToString())


def mapper_arrays(weights: MapperWeights) -> dict[str, np.ndarray]:
    """A mapper's arrays by the names that the words graphs know them by."""
    names = ("W_first", "b_first", "W_second", "b_second", "E")
    arrays = {name: getattr(weights, name) for name in names}
    return {name: array for name, array in arrays.items() if array.size}


def _heads(
    graph: Path,
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    entry: CnnEntry,
    *,
    own_classes: bool,
) -> list[Head | None]:
    """The head of each layer that feeds one, where own classes are to be taught."""
    if not own_classes:
        return [None] * len(entry.layers)
    others = ACCEPTED.replace("own-classes[:DIR], ", "")
    if "logits" not in [output.name for output in session.get_outputs()]:
        raise DatasetError(
            f"dataset own-classes needs a CNN with a classifier, and {entry.spec!r} has none; "
            f"teach on annotated images instead; {others}",
            field="dataset",
        )
    if not entry.class_names:
        raise DatasetError(
            f"dataset own-classes needs the names of the classes of {entry.spec!r}: give "
            f"--class-names FILE, one a line, or teach on annotated images; {others}",
            field="dataset",
        )
    heads = [find_head(graph, session, i) for i in range(len(entry.layers))]
    for layer, head in zip(entry.layers, heads, strict=True):
        if head is None:
            raise DatasetError(
                f"dataset own-classes needs a layer that feeds the classifier through its mean "
                f"over space, and {layer.name!r} does not; teach this layer on annotated "
                f"images; {others}",
                field="dataset",
            )
        if len(head.W) != len(entry.class_names):
            raise SpecError(
                f"{len(entry.class_names)} class names for a classifier of {len(head.W)} classes",
                field="class-names",
            )
    return heads


def _with_ceilings(entry: CnnEntry, features: Features) -> CnnEntry:
    layers = tuple(
        LayerEntry(**(layer.model_dump() | {"ceiling": found.ceiling()}))
        for layer, found in zip(entry.layers, features.layers, strict=True)
    )
    return entry.model_copy(update={"layers": layers})


def _category_vectors(
    categories: Sequence[str], source: WordVectors
) -> tuple[dict[int, np.ndarray], list[str]]:
    """Unit word vectors of annotated categories by position, and the names without one."""
    vectors: dict[int, np.ndarray] = {}
    left_out = []
    for position, name in enumerate(categories):
        vector = concept_vector(name, source, smoothing=0.0)
        if vector is None:
            left_out.append(name)
        else:
            vectors[position] = vector
    return vectors, left_out


@dataclass(frozen=True)
class _Lesson:
    """The teaching of one layer."""

    plan: Plan
    datasets: Datasets
    entry: CnnEntry
    features: Features
    position: int
    source: WordVectors
    centring: Centring
    vectors: dict[int, np.ndarray]

    def learn(
        self,
        head: Head | None,
        vocabulary: WordVectors,
        track: Track,
        say: Callable[[str], None],
    ) -> tuple[MapperWeights, dict[str, float]]:
        """Trains the mapper of this layer and measures it on images held out from teaching."""
        plan, layer = self.plan, self.features.layers[self.position]
        rng = np.random.default_rng([plan.seed, self.position])
        own_E, own_names = self._own_vectors(head, say)
        taught = sorted(self.vectors)  # positions among the categories
        concept_of = np.full(len(self.features.categories), -1)
        concept_of[taught] = len(own_names) + np.arange(len(taught))
        E = self.centring(np.stack([*own_E, *(self.vectors[i] for i in taught)]))
        names = (*own_names, *(self.features.categories[i] for i in taught))

        usable = concept_of[self.features.category] >= 0
        tested = self.features.image % round(1 / _HELD_OUT) == 0
        n_taken = np.bincount(
            self.features.category[usable & ~tested], minlength=len(self.features.categories)
        )
        tested &= n_taken[self.features.category] > 0  # the only image of a category is taught
        held_out, taken = usable & tested, usable & ~tested
        parts = [Examples(layer.regions[taken], concept_of[self.features.category[taken]])]
        if head is not None and (taught or plan.form == "regression"):
            drawn = draw_examples(head, layer, _DRAWN_PER_CLASS, rng)
            # A class without a word can be told apart, but not be said.
            sayable = np.abs(own_E).sum(axis=1)[drawn[1]] > 0 if plan.form == "regression" else ...
            parts.append(Examples(drawn[0][sayable], drawn[1][sayable]))
        examples = Examples(
            np.concatenate([p.x for p in parts]), np.concatenate([p.concept for p in parts])
        )
        if len(examples.x) < _FEWEST_EXAMPLES and (taught or plan.form == "regression"):
            raise DatasetError(
                f"{', '.join(self.datasets.specs)}: {len(examples.x)} annotated images with a "
                f"usable category; accepted: at least {_FEWEST_EXAMPLES}",
                field="dataset",
            )
        if plan.form == "concepts":
            own = None
            if head is not None:
                own = (head.W / TEMPERATURE, head.b / TEMPERATURE)
            weights = train_concepts(
                examples,
                E,
                names,
                own,
                seed=plan.seed,
                recipe=plan.recipe or CONCEPTS_RECIPE,
                track=track,
            )
        else:
            weights = train_regression(
                examples,
                E,
                names,
                seed=plan.seed,
                recipe=plan.recipe or REGRESSION_RECIPE,
                track=track,
            )
        metrics = recall_at(
            WordScores.of(weights, vocabulary.vectors),
            layer.regions[held_out],
            [self.features.categories[i] for i in self.features.category[held_out]],
            vocabulary,
        )
        return weights, metrics

    def _own_vectors(
        self, head: Head | None, say: Callable[[str], None]
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Word vectors of the own classes, smoothed with their hypernyms; zero for no word."""
        dimension = self.source.vectors.shape[1]
        if head is None:
            return np.zeros((0, dimension), dtype=np.float32), ()
        names = self.entry.class_names
        found = [concept_vector(name, self.source, smoothing=SMOOTHING) for name in names]
        missing = [name for name, vector in zip(names, found, strict=True) if vector is None]
        if len(missing) == len(names):
            raise DatasetError(
                f"dataset own-classes: none of the {len(names)} class names has a vector in "
                f"{self.plan.words}, such as {names[0]!r}; name the classes in words of it, or "
                "take other words",
                field="class-names",
            )
        if missing:
            say(f"own classes without a word vector: {', '.join(missing)}")
        zero = np.zeros(dimension, dtype=np.float32)
        return np.stack([zero if v is None else v for v in found]), names

    def describe(self, weights: MapperWeights, metrics: dict[str, float]) -> MapperEntry:
        """What the manifest says of the mapper."""
        recipe = self.plan.recipe or (
            CONCEPTS_RECIPE if self.plan.form == "concepts" else REGRESSION_RECIPE
        )
        return MapperEntry(
            layer=self.entry.layers[self.position].name,
            form=weights.form,
            datasets=self.datasets.specs,
            n_own=weights.n_own,
            n_hidden=weights.n_hidden,
            concepts=weights.concepts,
            loss=recipe.loss,
            seed=self.plan.seed,
            metrics=metrics,
        )
