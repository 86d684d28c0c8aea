"""Teaches a bundle: CNN, datasets and words in, a folder that serves out."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch

from lavise import bundle as bundles
from lavise.cnn_graph import export_cnn
from lavise.cnn_weights import set_weights_apart
from lavise.graph_terms import GRAPH_METHODS
from lavise.joined_graph import join_profile, join_words
from lavise.manifest import LayerEntry, Manifest, VocabularyEntry
from lavise.profile_graph import build_profile_graph
from lavise.progress import Track, silent
from lavise.runtime import Device, open_session, resolve_device
from lavise.teach.checkpoints import Checkpoint
from lavise.teach.feature_cache import cached_features, stored_features
from lavise.teach.fitting import Running
from lavise.teach.heads import check_head, heads_of
from lavise.teach.lesson import Lesson
from lavise.teach.parallel import joined
from lavise.teach.plan import Plan
from lavise.teach.subject import Subject, open_subject
from lavise.teach.training_log import TrainingLog
from lavise.tensors import write_tensors
from lavise.word_scores import Spoken
from lavise.words_graph import build_words_graph, grouped_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    from lavise.cnn import TargetCnn
    from lavise.manifest import CnnEntry, MapperEntry
    from lavise.mapper import MapperWeights
    from lavise.teach.features import Features
    from lavise.teach.own_classes import Head
    from lavise.teach.parallel import Ranks
    from lavise.tensors import Location
    from lavise.words import WordVectors

__all__ = ["Plan", "mapper_arrays", "teach", "write_graphs"]


def teach(
    cnn: TargetCnn,
    plan: Plan,
    out: Path,
    *,
    cache: Path | None = None,
    workers: int = 2,
    device: Device = "auto",
    log: Path | None = None,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> bundles.Bundle:
    """Teaches a mapper for each layer and writes the bundle.

    Started by torchrun, the processes share the work, and the first one writes.

    Args:
        cnn: From lavise.cnn.load_cnn.
        plan: What to teach.
        out: Where the bundle goes; a bundle that is there is replaced when all went well.
        cache: Folder where features and checkpoints are kept, so that another run uses them again
            and a killed one goes on; None: beside the bundle, and removed at the end.
        workers: Threads that read and decode images.
        device: Where the CNN and the training run.
        log: CSV file of the training's course (lavise.teach.training_log).
        track: Shows progress.
        say: Told, in a sentence, what a person should know: what was left out and why.

    Returns:
        The bundle, opened.

    Raises:
        SpecError: A spec is wrong.
        DatasetError: A dataset has nothing to use, or own-classes has no head to use.
        EnvironmentProblem: The disk is full, or torchrun's processes do not find each other.
    """
    on_gpu = resolve_device(device) == "cuda" and torch.cuda.is_available()
    with joined(cuda=on_gpu) as ranks:
        if not ranks.leads:
            track, say, log = silent, _say_nothing, None
        there = torch.device("cuda", ranks.local) if on_gpu else torch.device("cpu")
        running = Running(
            track=track,
            say=say,
            ranks=ranks,
            device=there,
            precision=_half_precision() if on_gpu else None,
            patience=plan.patience,
        )
        if log is not None:
            TrainingLog(log, "").begin(0)  # a file that will not do is told before the long pass
        subject = open_subject(cnn, plan, say)
        with bundles.writing(out) if ranks.leads else nullcontext() as written:
            folder = Path(ranks.told(str(written)))
            entry = _exported(cnn, plan, folder, ranks)
            session = open_session(folder / "cnn.onnx", device=device, device_id=ranks.local)
            if subject.datasets.own_classes:
                check_head(session, entry)
            features, key = _features(subject, entry, session, folder, cache, workers, running)
            entry = _with_ceilings(entry, features)
            heads = _heads(subject, entry, session, folder, features, say)
            lessons = [
                Lesson(plan, subject, entry, features, position, head, measured)
                for position, (head, measured) in enumerate(heads)
            ]
            marks = [_checkpoint(cache, key, lesson) for lesson in lessons]
            learned = []
            for lesson, mark in zip(lessons, marks, strict=True):
                lines = None if log is None else TrainingLog(log, lesson.layer.name)
                weights, metrics = lesson.learn(replace(running, checkpoint=mark, log=lines))
                learned.append((weights, lesson.describe(weights, metrics)))
            ranks.wait()  # the others may still read features
            if ranks.leads:
                shutil.rmtree(folder / _FEATURES, ignore_errors=True)
                set_weights_apart(folder)
                _write(folder, plan, entry, subject, learned)
        if ranks.leads:
            for mark in marks:  # the bundle is there: nothing is left to go on with
                if mark is not None:
                    mark.file.unlink(missing_ok=True)
        ranks.wait()
    return bundles.open_bundle(out, trusted=True)


_FEATURES = "features"
"""Folder of features that are not kept, inside the bundle while it is written."""


def _say_nothing(_: str) -> None:
    """What all but the first process say."""


def _half_precision() -> torch.dtype:
    """bfloat16 where the GPU has it: it needs no scaling of gradients."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _exported(cnn: TargetCnn, plan: Plan, folder: Path, ranks: Ranks) -> CnnEntry:
    """Has the first process write cnn.onnx, and tells all what it is."""
    entry = export_cnn(cnn, plan.layers, folder / "cnn.onnx") if ranks.leads else None
    told = ranks.told(entry)
    assert told is not None  # noqa: S101 - the first process has it
    return told


def _features(
    subject: Subject,
    entry: CnnEntry,
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    folder: Path,
    cache: Path | None,
    workers: int,
    running: Running,
) -> tuple[Features, dict[str, Any]]:
    """The features, and what they depend on: nothing where they are not kept."""
    datasets = [*subject.datasets.annotated, *subject.datasets.unlabelled]
    if cache is not None:
        return cached_features(
            session,
            datasets,
            cache,
            graph=folder / "cnn.onnx",
            entry=entry,
            workers=workers,
            running=running,
        )
    place = folder / _FEATURES
    place.mkdir(exist_ok=True)
    features = stored_features(
        session, datasets, place, size=entry.input_size, workers=workers, running=running
    )
    return features, {}


def _with_ceilings(entry: CnnEntry, features: Features) -> CnnEntry:
    layers = tuple(
        LayerEntry(**(layer.model_dump() | {"ceiling": found.ceiling()}))
        for layer, found in zip(entry.layers, features.layers, strict=True)
    )
    return entry.model_copy(update={"layers": layers})


def _heads(
    subject: Subject,
    entry: CnnEntry,
    session: Any,  # noqa: ANN401 - onnxruntime.InferenceSession, which has no types
    folder: Path,
    features: Features,
    say: Callable[[str], None],
) -> Sequence[tuple[Head | None, dict[str, float]]]:
    """The classifier of each layer and what was measured of it, where own classes are taught."""
    names = [layer.name for layer in entry.layers]
    if not subject.datasets.own_classes:
        return [(None, {})] * len(names)
    return heads_of(folder / "cnn.onnx", session, names, features, say)


def _checkpoint(cache: Path | None, key: dict[str, Any], lesson: Lesson) -> Checkpoint | None:
    if cache is None:
        return None
    return Checkpoint(cache / f"training-{lesson.digest(key)}.pt")


def _write(
    folder: Path,
    plan: Plan,
    entry: CnnEntry,
    subject: Subject,
    learned: Sequence[tuple[MapperWeights, MapperEntry]],
) -> None:
    """Writes all of a bundle but the CNN's own graph, which is there."""
    vocabulary = subject.vocabulary
    places = write_tensors(
        folder / "vocabulary.safetensors", {"vocabulary": grouped_vocabulary(vocabulary.vectors)}
    )
    text = "".join(f"{word}\n" for word in vocabulary.words)
    (folder / "vocabulary.txt").write_text(text, encoding="utf-8")
    for position, (layer, (weights, _)) in enumerate(zip(entry.layers, learned, strict=True)):
        where = places | write_tensors(
            folder / bundles.layer_file("mapper", layer.name, "safetensors"),
            mapper_arrays(weights),
        )
        write_graphs(folder, layer, position, weights, vocabulary, where)
    manifest = Manifest(
        name=plan.name,
        cnn=entry,
        mappers=tuple(described for _, described in learned),
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


def write_graphs(
    folder: Path,
    layer: LayerEntry,
    position: int,
    mapper: MapperWeights,
    vocabulary: WordVectors,
    weights: Mapping[str, Location],
) -> None:
    """Writes the words graphs and the profile graph of a layer.

    Args:
        folder: Of the bundle, where cnn.onnx is without its weights.
        layer: What is known of it.
        position: Of the layer in cnn.onnx.
        mapper: Its mapper.
        vocabulary: The words.
        weights: Where in the folder each weight lies.
    """
    cnn = onnx.load(folder / "cnn.onnx", load_external_data=False)
    shape, by_mean = (layer.channels, layer.height, layer.width), layer.ceiling is not None
    spoken, n_words = Spoken.by(mapper.E, mapper.concepts, vocabulary), len(vocabulary.words)
    for method in GRAPH_METHODS:
        for many, suffix in ((False, f"{method}.onnx"), (True, f"{method}.many.onnx")):
            words = build_words_graph(mapper, spoken, n_words, shape, method, weights, many=many)
            leave_out = many and method == "attention"
            graph = join_words(cnn, position, words, by_mean=by_mean, leave_out=leave_out)
            file = folder / bundles.layer_file("words", layer.name, suffix)
            file.write_bytes(graph.SerializeToString())
    profile = build_profile_graph(mapper, n_words, shape, weights)
    graph = join_profile(cnn, position, profile)
    file = folder / bundles.layer_file("profile", layer.name, "onnx")
    file.write_bytes(graph.SerializeToString())


def mapper_arrays(weights: MapperWeights) -> dict[str, np.ndarray]:
    """A mapper's arrays by the names that the words graphs know them by."""
    names = ("W_first", "b_first", "W_second", "b_second", "E")
    arrays = {name: getattr(weights, name) for name in names}
    return {name: array for name, array in arrays.items() if array.size}
