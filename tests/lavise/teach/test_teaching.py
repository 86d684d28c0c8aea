"""Whole teachings, from pictures to a bundle that answers; the CNN is a graph, which is fast."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lavise.bundle import Bundle, open_bundle
from lavise.catalog import load_mapper, load_vocabulary
from lavise.cnn import TargetCnn, load_cnn
from lavise.errors import (
    DatasetError,
    EnvironmentProblem,
    ImageError,
    RequestError,
    SpecError,
)
from lavise.explainer import Explainer
from lavise.graph_terms import GRAPH_METHODS
from lavise.images import prepare
from lavise.mapper import Form
from lavise.options import ExplainOptions
from lavise.teach.annotation import held_out_categories
from lavise.teach.teaching import Plan, mapper_arrays, teach
from lavise.teach.training import CONCEPTS_RECIPE, REGRESSION_RECIPE, Recipe
from lavise.tensors import read_tensors, write_tensors
from tests.full_disk import no_file_over
from tests.oracle import MAPPER_KINDS, random_mapper
from tests.tiny_cnn import COLOURS, INPUT_SIZE, TinyCnn, picture

CLASSES = TinyCnn.class_names


@pytest.fixture
def plan(body: str, tiny_words: Path, tiny_pictures: Path) -> Plan:
    return Plan(
        datasets=(f"folder:{tiny_pictures}",),
        layers=(body,),
        words=f"file:{tiny_words}",
        vocabulary="all",
    )


def changed(plan: Plan, **changes: object) -> Plan:
    return replace(plan, **changes)  # type: ignore[arg-type]


def recipe_of(form: Form) -> Recipe:
    """The form's own, for longer: there are few pictures, and a CNN of few channels."""
    if form == "concepts":
        # Twelve features hold nothing twice: those that are dropped are missed.
        return replace(CONCEPTS_RECIPE, epochs=60, dropout=0.1, input_dropout=0.0)
    return replace(REGRESSION_RECIPE, epochs=150, learning_rate=1e-2, hidden=64)


def right_words(bundle: Bundle, categories: tuple[str, ...]) -> float:
    """Share of new pictures whose colour is the first word, whole images pooled."""
    explainer = Explainer(bundle, device="cpu", threads=1)
    options = ExplainOptions(filters=(0,), top_k=1, method="original")
    hits = []
    for category in categories:
        for seed in range(900, 910):
            image = prepare(encoded(picture(COLOURS[category], seed)), INPUT_SIZE)
            [got] = explainer.explain([image], options)
            hits.append(got.words(0)[0][0] == category)
    return float(np.mean(hits))


def encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["concepts", "regression"])
def test_a_folder_is_learned(
    form: Form, plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    learned = changed(plan, form=form, name="x", recipe=recipe_of(form))
    bundle = teach(open_cnn(), learned, tmp_path / "bundle")

    [entry] = bundle.manifest.mappers
    assert entry.form == form
    assert entry.n_own == 0
    assert set(entry.concepts) == set(COLOURS)
    assert entry.datasets == plan.datasets
    assert bundle.manifest.name == "x"
    assert bundle.manifest.vocabulary.size == len(bundle.words()) == 16
    assert bundle.manifest.vocabulary.dimension == 8
    assert entry.metrics["examples"] == 8  # every tenth of 72 pictures
    # Chance is 1 of 16 for the best and 5 of 16 for the five best.
    assert entry.metrics["recall@5"] >= 0.7
    assert right_words(bundle, tuple(COLOURS)) >= 0.5


@pytest.mark.parametrize("form", ["concepts", "regression"])
def test_own_classes_are_learned_without_annotation(
    form: Form,
    plan: Plan,
    open_cnn: Callable[..., TargetCnn],
    tiny_pictures: Path,
    tmp_path: Path,
) -> None:
    datasets = (f"own-classes:{tiny_pictures}",)
    own = changed(plan, datasets=datasets, form=form, recipe=recipe_of(form))
    bundle = teach(open_cnn(), own, tmp_path / "bundle")
    [entry] = bundle.manifest.mappers
    assert entry.concepts == CLASSES
    assert entry.metrics == {}
    assert right_words(bundle, CLASSES) >= 0.6


def test_own_classes_alone_teach_nothing_else(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    """Scenes only show how features spread: what is in them is not taught."""
    alone = changed(plan, datasets=("own-classes",), demo_scenes=20)
    bundle = teach(open_cnn(), alone, tmp_path / "bundle")
    [entry] = bundle.manifest.mappers
    assert entry.concepts == CLASSES
    assert (entry.n_own, entry.n_hidden) == (4, 0)


def test_the_union_of_all_sources(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tiny_pictures: Path, tmp_path: Path
) -> None:
    union = changed(
        plan,
        datasets=("own-classes", f"folder:{tiny_pictures}"),
        recipe=recipe_of("concepts"),
    )
    bundle = teach(open_cnn(), union, tmp_path / "bundle")
    [entry] = bundle.manifest.mappers
    assert entry.n_own == 4
    assert entry.n_hidden > 0
    assert entry.concepts[:4] == CLASSES
    assert set(entry.concepts[4:]) == set(COLOURS)
    assert right_words(bundle, ("night", "snow")) >= 0.5  # no classes of the head


def test_unseen_categories_are_never_taught(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    said: list[str] = []
    part = changed(plan, unseen=0.34, seed=1)
    bundle = teach(open_cnn(), part, tmp_path / "bundle", say=said.append)
    [entry] = bundle.manifest.mappers
    never = held_out_categories(COLOURS, 0.34, seed=1)
    assert len(never) == 2
    assert set(entry.concepts) == set(COLOURS) - never
    assert entry.unseen == 0.34
    assert any(all(name in line for name in never) for line in said)
    assert never <= set(bundle.words())  # they can be said all the same
    with pytest.raises(DatasetError, match="held out"):
        teach(open_cnn(), changed(plan, unseen=1.0), tmp_path / "nothing")


def test_annotation_rate_leaves_the_test_alone(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    few, all_of_them = (
        teach(open_cnn(), changed(plan, annotation_rate=rate), tmp_path / str(rate)).manifest
        for rate in (0.3, 1.0)
    )
    assert few.mappers[0].annotation_rate == 0.3
    assert few.mappers[0].metrics["examples"] == all_of_them.mappers[0].metrics["examples"]
    assert few.mappers[0].metrics != all_of_them.mappers[0].metrics
    with pytest.raises(DatasetError, match="0 annotated images"):
        teach(open_cnn(), changed(plan, annotation_rate=0.0), tmp_path / "none")
    with pytest.raises(RequestError) as caught:
        changed(plan, annotation_rate=1.5)
    assert caught.value.field == "annotation_rate"


def test_demo_scenes_are_learned(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    demo = changed(
        plan, datasets=("demo",), demo_scenes=90, words="glove-50d", vocabulary="concrete-nouns"
    )
    bundle = teach(open_cnn(), demo, tmp_path / "bundle")
    [entry] = bundle.manifest.mappers
    assert len(entry.concepts) > 100
    assert entry.metrics["examples"] > 0
    assert set(entry.concepts) & set(bundle.words())
    np.testing.assert_allclose(
        np.linalg.norm(load_vocabulary(bundle).vectors, axis=1), 1, atol=1e-5
    )


def test_several_layers_have_a_mapper_each(
    plan: Plan, stem: str, body: str, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    bundle = teach(open_cnn(), changed(plan, layers=(stem, body)), tmp_path / "bundle")
    assert [entry.layer for entry in bundle.manifest.mappers] == [stem, body]
    widths = [load_mapper(bundle, entry).W_first.shape[0] for entry in bundle.manifest.mappers]
    assert widths == [8, 12]
    explainer = Explainer(bundle, device="cpu", threads=1)
    for layer in (stem, body):
        for method in GRAPH_METHODS:
            if method != "activation":
                image = np.zeros((INPUT_SIZE, INPUT_SIZE, 3), dtype=np.uint8)
                explainer.explain([image], ExplainOptions(layer=layer, method=method))


def test_the_same_seed_makes_the_same_bundle(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    first = teach(open_cnn(), plan, tmp_path / "bundle")
    again = teach(open_cnn(), plan, tmp_path / "bundle")
    other = teach(open_cnn(), changed(plan, seed=1), tmp_path / "bundle")
    assert first.digest == again.digest != other.digest


def test_what_has_no_word_is_told(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tiny_pictures: Path, tmp_path: Path
) -> None:
    pictures = Path(shutil.copytree(tiny_pictures, tmp_path / "pictures"))
    (pictures / "lemon").rename(pictures / "xyzzy")
    told: list[str] = []
    names = ("tomato", "plugh", "ocean", "lemon")
    both = changed(plan, datasets=(f"folder:{pictures}", "own-classes"))
    bundle = teach(open_cnn(names), both, tmp_path / "bundle", say=told.append)
    assert any("xyzzy" in line for line in told)
    assert any("plugh" in line for line in told)
    mapper = load_mapper(bundle, bundle.manifest.mappers[0])
    assert "xyzzy" not in mapper.concepts
    assert not mapper.E[mapper.concepts.index("plugh")].any()


def test_the_only_picture_of_a_category_is_taught(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    """Not held out, though it comes first."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "few" / name).mkdir(parents=True)
        picture(colour, number).save(tmp_path / "few" / name / "0.png")
    told: list[str] = []
    few = changed(plan, datasets=(f"folder:{tmp_path / 'few'}",), patience=1)
    bundle = teach(open_cnn(), few, tmp_path / "bundle", say=told.append)
    [entry] = bundle.manifest.mappers
    assert set(entry.concepts) == set(COLOURS)
    assert entry.metrics == {}
    assert told == ["patience has nothing to go by: no image that is held out has a word"]


class Wrong:
    """What may be wrong with a plan, made beside the pictures."""

    def __init__(self, folder: Path, pictures: Path) -> None:
        self.folder, self.pictures = folder, pictures

    def one_picture(self) -> str:
        (self.folder / "one" / "lemon").mkdir(parents=True)
        shutil.copy(self.pictures / "lemon" / "00.png", self.folder / "one" / "lemon")
        return f"folder:{self.folder / 'one'}"

    def no_words(self) -> str:
        (self.folder / "odd" / "xyzzy").mkdir(parents=True)
        shutil.copy(self.pictures / "lemon" / "00.png", self.folder / "odd" / "xyzzy")
        return f"folder:{self.folder / 'odd'}"

    def few(self) -> str:
        (self.folder / "few").mkdir()
        shutil.copy(self.pictures / "lemon" / "00.png", self.folder / "few")
        return f"own-classes:{self.folder / 'few'}"

    def damaged(self) -> str:
        (self.folder / "bad" / "lemon").mkdir(parents=True)
        (self.folder / "bad" / "lemon" / "0.png").write_bytes(b"no image")
        return f"folder:{self.folder / 'bad'}"


@pytest.mark.parametrize(
    ("what", "kind", "says", "field"),
    [
        ("one_picture", DatasetError, "1 annotated images.*at least 2", "dataset"),
        ("no_words", DatasetError, "no category of folder.*has a word vector", "dataset"),
        ("few", DatasetError, "at least 16 images", "dataset"),
        ("damaged", ImageError, r"bad/lemon/0\.png", None),
    ],
)
def test_datasets_with_nothing_to_use(
    what: str,
    kind: type[DatasetError | ImageError],
    says: str,
    field: str | None,
    plan: Plan,
    open_cnn: Callable[..., TargetCnn],
    tiny_pictures: Path,
    tmp_path: Path,
) -> None:
    spec = getattr(Wrong(tmp_path, tiny_pictures), what)()
    form = "regression" if what == "few" else "concepts"
    with pytest.raises(kind, match=says) as caught:
        teach(open_cnn(), changed(plan, datasets=(spec,), form=form), tmp_path / "bundle")
    assert field is None or caught.value.field == field
    assert not (tmp_path / "bundle").exists()
    assert not list(tmp_path.glob(".bundle*"))


def test_own_classes_need_a_head(plan: Plan, tmp_path: Path) -> None:
    backbone = load_cnn("python:tests.small_cnns:backbone", input_size=INPUT_SIZE)
    with pytest.raises(DatasetError, match=r"classifier, and .* has none.*demo, folder:DIR") as e:
        teach(backbone, changed(plan, layers=("1",), datasets=("own-classes",)), tmp_path / "b")
    assert e.value.field == "dataset"


def test_own_classes_need_names(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    own = changed(plan, datasets=("own-classes",), demo_scenes=20)
    for names, kind, says, field in (
        ((), DatasetError, "needs the names of the classes.*--class-names", "dataset"),
        (("lemon", "snow"), SpecError, "2 class names for a classifier of 4", "class-names"),
        (
            ("xyzzy", "plugh", "qwop", "zork"),
            DatasetError,
            "none of the 4 class names",
            "class-names",
        ),
    ):
        with pytest.raises(kind, match=says) as caught:
            teach(open_cnn(names), own, tmp_path / "bundle")
        assert caught.value.field == field


def test_own_classes_of_a_layer_that_does_not_feed_the_head(
    plan: Plan,
    stem: str,
    body: str,
    open_cnn: Callable[..., TargetCnn],
    tiny_pictures: Path,
    tmp_path: Path,
) -> None:
    """By what the head says of unlabelled images; alone, and beside annotated ones."""
    told: list[str] = []
    alone = changed(plan, layers=(stem, body), datasets=(f"own-classes:{tiny_pictures}",))
    bundle = teach(open_cnn(), alone, tmp_path / "alone", say=told.append)
    probed, fed = bundle.manifest.mappers
    assert [line for line in told if "does not feed the classifier" in line] == told
    assert (probed.concepts, probed.n_own, probed.n_hidden) == (CLASSES, 4, 0)
    assert probed.metrics["head-agreement"] >= 0.7
    assert fed.metrics == {}
    assert right_words(bundle, CLASSES) >= 0.6

    both = changed(plan, layers=(stem,), datasets=("own-classes", f"folder:{tiny_pictures}"))
    bundle = teach(open_cnn(), both, tmp_path / "both")
    [entry] = bundle.manifest.mappers
    assert (entry.n_own, set(entry.concepts[4:])) == (4, set(COLOURS))
    assert set(entry.metrics) >= {"recall@5", "head-agreement"}
    assert right_words(bundle, ("night", "snow")) >= 0.5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"datasets": ("coco",)}, "dataset"),
        ({"datasets": ()}, "dataset"),
        ({"words": "word2vec"}, "words"),
        ({"vocabulary": "verbs"}, "vocabulary"),
        ({"layers": ("tail",)}, "tap"),
    ],
)
def test_wrong_plans_name_their_field(
    changes: dict[str, object],
    field: str,
    plan: Plan,
    open_cnn: Callable[..., TargetCnn],
    tmp_path: Path,
) -> None:
    with pytest.raises(SpecError) as caught:
        teach(open_cnn(), changed(plan, **changes), tmp_path / "bundle")
    assert caught.value.field == field
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_bundle(
    plan: Plan, open_cnn: Callable[..., TargetCnn], tmp_path: Path
) -> None:
    digest = teach(open_cnn(), plan, tmp_path / "bundle").digest
    for limit in (100, 3000, 20_000):
        with (
            no_file_over(limit),
            pytest.raises(EnvironmentProblem, match="could not be written") as caught,
        ):
            teach(open_cnn(), changed(plan, seed=1), tmp_path / "bundle")
        assert caught.value.field == "out"
        assert open_bundle(tmp_path / "bundle").digest == digest
        assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("kind", MAPPER_KINDS)
def test_mappers_come_back_from_the_disk_whole(kind: str, tmp_path: Path) -> None:
    """Parts that a mapper does not have are not written."""
    mapper = random_mapper(np.random.default_rng(0), 5, 4, kind)
    write_tensors(tmp_path / "m.safetensors", mapper_arrays(mapper))
    read = read_tensors(tmp_path / "m.safetensors")
    assert ("E" in read) == (kind != "regression")
    assert ("W_second" in read) == (kind != "own")
    for name, array in read.items():
        np.testing.assert_array_equal(array, getattr(mapper, name))
