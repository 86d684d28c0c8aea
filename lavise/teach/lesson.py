"""The teaching of one layer: which examples, which concepts, and what came of it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lavise.errors import DatasetError
from lavise.manifest import SKILL, MapperEntry
from lavise.teach.annotation import kept_images
from lavise.teach.evaluation import recall_at, skill
from lavise.teach.examples import Examples, Joined, RegionExamples
from lavise.teach.feature_cache import digest_of
from lavise.teach.features import LayerFeatures
from lavise.teach.own_classes import SMOOTHING, TEMPERATURE, Head, draw_examples
from lavise.teach.training import SHARPENING, train_concepts, train_regression
from lavise.word_scores import Spoken, WordScores
from lavise.words import concept_vector

if TYPE_CHECKING:
    from lavise.manifest import CnnEntry, LayerEntry
    from lavise.mapper import MapperWeights
    from lavise.teach.examples import Source
    from lavise.teach.features import Features
    from lavise.teach.fitting import Running
    from lavise.teach.plan import Plan
    from lavise.teach.shards import Rows
    from lavise.teach.subject import Subject

_HELD_OUT: Final = 10
"""One annotated image in so many is never taught: metrics are measured on it."""
_JUDGES: Final = 5
"""With patience, the images of this remainder are not taught either: they decide when to stop."""
_JUDGED_AT_MOST: Final = 2000
_MEASURED_AT_ONCE: Final = 4096
_SEEN_AT_MOST: Final = 1 << 15
_DRAWN_PER_CLASS: Final = 12
_FEWEST_EXAMPLES: Final = 2
"""Of one example there is no variance, and nothing to tell it from."""


@dataclass(frozen=True)
class Lesson:
    """The teaching of one layer.

    Attributes:
        plan: What was asked for.
        subject: Datasets and words.
        entry: The CNN.
        features: Of all layers.
        position: Of the layer.
        head: The classifier of own classes on this layer's mean feature; None where own classes
            are not taught.
        measured: Of that classifier.
    """

    plan: Plan
    subject: Subject
    entry: CnnEntry
    features: Features
    position: int
    head: Head | None
    measured: dict[str, float]

    @property
    def layer(self) -> LayerEntry:
        """The layer."""
        return self.entry.layers[self.position]

    @property
    def _found(self) -> LayerFeatures:
        return self.features.layers[self.position]

    def learn(self, running: Running) -> tuple[MapperWeights, dict[str, float]]:
        """Trains the mapper of this layer and measures it on images held out from teaching.

        Args:
            running: How it is run.

        Returns:
            The mapper, and recall@k and skill on held-out images where there are any.

        Raises:
            DatasetError: There is too little to teach on.
            EnvironmentProblem: A checkpoint or the log cannot be written.
        """
        plan, head = self.plan, self.head
        recipe = plan.taught_by
        if self._untold:
            running.say(f"own classes without a word vector: {', '.join(self._untold)}")
        examples = self._examples()
        rows = self._judging
        if plan.patience and not len(rows):
            running.say("patience has nothing to go by: no image that is held out has a word")
        judge = None if not len(rows) else lambda weights: self._recall(weights, rows)["recall@5"]
        running = replace(running, judge=judge)
        if plan.form == "concepts":
            own = (head.W / TEMPERATURE, head.b / TEMPERATURE) if head is not None else None
            weights = train_concepts(
                examples, self._E, self._names, own, seed=plan.seed, recipe=recipe, running=running
            )
            if head is not None and not head.probed:
                weights = replace(weights, logits_scale=TEMPERATURE / SHARPENING)
        else:
            weights = train_regression(
                examples, self._E, self._names, seed=plan.seed, recipe=recipe, running=running
            )
        return weights, self._measured(weights)

    def describe(self, weights: MapperWeights, metrics: dict[str, float]) -> MapperEntry:
        """What the manifest says of the mapper."""
        return MapperEntry(
            layer=self.layer.name,
            form=weights.form,
            datasets=self.subject.datasets.specs,
            n_own=weights.n_own,
            n_hidden=weights.n_hidden,
            concepts=weights.concepts,
            logits_scale=weights.logits_scale,
            loss=self.plan.taught_by.loss,
            seed=self.plan.seed,
            unseen=self.plan.unseen,
            annotation_rate=self.plan.annotation_rate,
            metrics=metrics | self.measured,
        )

    def digest(self, key: dict[str, Any]) -> str:
        """Names a training: another digest for whatever would make another mapper.

        Args:
            key: What the features depend on.

        Returns:
            A digest.
        """
        digest = hashlib.sha256()
        for array in (self._E, self._concept, *((self.head.W, self.head.b) if self.head else ())):
            digest.update(np.ascontiguousarray(array).data)
        return digest_of(
            {
                "features": key,
                "layer": self.layer.name,
                "form": self.plan.form,
                "recipe": asdict(self.plan.taught_by),
                "seed": self.plan.seed,
                "patience": self.plan.patience,
                "concepts": self._names,
                "arrays": digest.hexdigest(),
            }
        )

    @cached_property
    def _own_vectors(self) -> list[np.ndarray | None]:
        """Word vectors of the own classes, smoothed with their hypernyms; None without a word."""
        if self.head is None:
            return []
        names, source = self.entry.class_names, self.subject.source
        found = [concept_vector(name, source, smoothing=SMOOTHING) for name in names]
        if all(vector is None for vector in found):
            raise DatasetError(
                f"dataset own-classes: none of the {len(names)} class names has a vector in "
                f"{self.plan.words}, such as {names[0]!r}; name the classes in words of it, or "
                "take other words",
                field="class-names",
            )
        return found

    @property
    def _untold(self) -> list[str]:
        """Own classes without a word vector."""
        own = zip(self.entry.class_names, self._own_vectors, strict=False)
        return [name for name, vector in own if vector is None]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """The concepts: own classes, then the categories that are taught."""
        own = self.entry.class_names if self.head is not None else ()
        return (*own, *(self.features.categories[i] for i in sorted(self.subject.vectors)))

    @cached_property
    def _E(self) -> np.ndarray:  # noqa: N802 - the paper's letter
        """(K, D) centred word vectors of the concepts; zero for an own class without a word."""
        zero = np.zeros(self.subject.source.vectors.shape[1], dtype=np.float32)
        own = [zero if vector is None else vector for vector in self._own_vectors]
        taught = [self.subject.vectors[i] for i in sorted(self.subject.vectors)]
        return self.subject.centring(np.stack([*own, *taught]))

    @cached_property
    def _spoken(self) -> Spoken:
        """What the concepts speak for: the same whatever the mapper has learned."""
        return Spoken.by(self._E, self._names, self.subject.vocabulary)

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each region (n,): the concept that it teaches or -1; rows held out; rows that judge.

        The only image of a category is taught.
        """
        taught = sorted(self.subject.vectors)
        concept_of = np.full(len(self.features.categories), -1, dtype=np.int32)
        concept_of[taught] = len(self._own_vectors) + np.arange(len(taught))
        category, image = self.features.category, self.features.image
        remainder = image % _HELD_OUT
        usable = concept_of[category] >= 0
        rate, n_images = self.plan.annotation_rate, len(self._found.images)
        annotated = usable & kept_images(n_images, rate, seed=self.plan.seed)[image]
        tested = remainder == 0
        judges = (remainder == _JUDGES) & bool(self.plan.patience)
        n_taken = np.bincount(
            category[annotated & ~tested & ~judges], minlength=len(self.features.categories)
        )
        # Measured at any rate on the same images.
        has_more = usable & (n_taken > 0)[category]
        tested &= has_more
        judges &= has_more
        concept = np.where(annotated & ~tested & ~judges, concept_of[category], np.int32(-1))
        held_out = np.flatnonzero(tested)
        return concept, held_out, np.flatnonzero(judges) if self.plan.patience else held_out

    @property
    def _concept(self) -> np.ndarray:
        return self._parts[0]

    @property
    def _held_out(self) -> np.ndarray:
        return self._parts[1]

    @property
    def _judging(self) -> np.ndarray:
        """Rows that say after each epoch how good the mapper is, evenly spread."""
        known = np.array(
            [name in self.subject.vocabulary.index for name in self.features.categories], dtype=bool
        )
        rows = self._parts[2]
        rows = rows[known[self.features.category[rows]]]
        spread: np.ndarray = rows[:: max(1, -(-len(rows) // _JUDGED_AT_MOST))]
        return spread

    def _examples(self) -> Source:
        plan, head = self.plan, self.head
        sources: list[Source] = [RegionExamples(self._found.regions, self._concept)]
        needed = bool(self.subject.vectors) or plan.form == "regression"
        if head is not None and needed:
            rng = np.random.default_rng([plan.seed, self.position])
            x, concept = draw_examples(head, self._sample(), _DRAWN_PER_CLASS, rng)
            if plan.form == "regression":
                # A class without a word can be told apart, but not be said.
                sayable = np.array([vector is not None for vector in self._own_vectors])[concept]
                x, concept = x[sayable], concept[sayable]
            sources.append(Examples(x, concept))
        examples = Joined(sources)
        if len(examples) < _FEWEST_EXAMPLES and needed:
            raise DatasetError(
                f"{', '.join(self.subject.datasets.specs)}: {len(examples)} annotated images with "
                f"a usable category; accepted: at least {_FEWEST_EXAMPLES}",
                field="dataset",
            )
        return examples

    def _sample(self) -> LayerFeatures:
        """The layer's features in memory, evenly thinned out where there are very many."""
        found = self._found
        regions, images = _thinned(found.regions), _thinned(found.images)
        return LayerFeatures(regions, images, found.peak, found.lowest)

    def _measured(self, weights: MapperWeights) -> dict[str, float]:
        found = self._recall(weights, self._held_out)
        known = self.subject.vocabulary.index
        names = [self.features.categories[i] for i in self.features.category[self._held_out]]
        names = [name for name in names if name in known]
        skilled = skill(found["recall@10"], names, 10) if names else None
        return found if skilled is None else found | {SKILL: skilled}

    def _recall(self, weights: MapperWeights, rows: np.ndarray) -> dict[str, float]:
        """recall@k of some regions, a part of them in memory at a time."""
        vocabulary = self.subject.vocabulary
        score = WordScores(weights, vocabulary.vectors, self._spoken)
        total: dict[str, float] = {}
        for start in range(0, len(rows), _MEASURED_AT_ONCE):
            some = rows[start : start + _MEASURED_AT_ONCE]
            names = [self.features.categories[i] for i in self.features.category[some]]
            found = recall_at(score, self._found.regions[some], names, vocabulary)
            n = found.get("examples", 0.0)
            for name, value in found.items():
                total[name] = total.get(name, 0.0) + (n if name == "examples" else n * value)
        n = total.get("examples", 0.0)
        return {k: value if k == "examples" else value / n for k, value in total.items()}


def _thinned(rows: Rows) -> np.ndarray:
    step = max(1, -(-len(rows) // _SEEN_AT_MOST))
    return np.asarray(rows[::step])
