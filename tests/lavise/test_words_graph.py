from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.attention import attention_rows
from lavise.best_graph import equal_groups
from lavise.graph_terms import GRAPH_METHODS, group_shape
from lavise.mapper import MapperWeights
from lavise.runtime import open_session
from lavise.teach.teaching import mapper_arrays
from lavise.tensors import write_tensors
from lavise.word_scores import Spoken, WordScores
from lavise.words_graph import build_words_graph, grouped_vocabulary
from tests.oracle import MAPPER_KINDS, random_mapper, scores, strange_words, unit_rows

# What feature maps look like: a plain normal draw, behind ReLU6 and saturated, mostly zero, all
# negative, and one with a filter that is zero everywhere.
FLAVOURS = ("normal", "saturated", "sparse", "negative", "dead", "constant", "tiny")


def draw_maps(rng: np.random.Generator, shape: tuple[int, ...], flavour: str) -> np.ndarray:
    maps = rng.normal(size=shape)
    if flavour == "saturated":
        maps = np.clip(12 * maps, 0, 6)
    elif flavour == "sparse":
        maps = np.where(rng.random(shape) < 0.1, maps, 0)
    elif flavour == "negative":
        maps = -np.abs(maps)
    elif flavour == "dead":
        maps[:, 0] = 0
    elif flavour == "constant":
        maps[:] = 1.5
    elif flavour == "tiny":
        maps *= 1e-6
    return maps.astype(np.float32)


def draw_words(rng: np.random.Generator, mapper: MapperWeights, V: int, D: int) -> np.ndarray:
    """Word vectors, some of which name concepts."""
    vocabulary = unit_rows(rng.normal(size=(V, D)))
    n = min(len(mapper.E), V) // 2
    vocabulary[:n] = unit_rows(mapper.E[:n] + 0.02 * rng.normal(size=(n, D)))
    return vocabulary.astype(np.float32)


def session_of(
    folder: Path,
    mapper: MapperWeights,
    vocabulary: np.ndarray,
    shape: tuple[int, int, int],
    method: str,
    *,
    many: bool = False,
) -> Any:
    places = write_tensors(folder / "mapper.safetensors", mapper_arrays(mapper))
    places |= write_tensors(
        folder / "vocabulary.safetensors", {"vocabulary": grouped_vocabulary(vocabulary)}
    )
    spoken = Spoken.by(mapper.E, mapper.concepts, strange_words(vocabulary))
    graph = build_words_graph(mapper, spoken, len(vocabulary), shape, method, places, many=many)
    file = folder / "words.onnx"
    file.write_bytes(graph.SerializeToString())
    return open_session(file, device="cpu", threads=1)


def run(
    session: Any,
    maps: np.ndarray,
    filters: np.ndarray,
    k: int,
    n_words: int,
    threshold: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fed = {
        "feature_map": maps,
        "filters": filters,
        "k": np.array([k]),
        "k_groups": np.array([min(k, group_shape(n_words)[0])]),
    }
    if threshold is not None:
        fed["threshold"] = threshold
    ids, found, weight = session.run(["word_ids", "word_best", "weight"], fed)
    n = filters.shape[1]
    return ids[:, :n], found[:, :n], weight[:, :, 0] == 0


def check_words(
    ids: np.ndarray, found: np.ndarray, expected: np.ndarray, tolerance: float, k: int
) -> None:
    """The k best words by score: which of two equal ones comes first is open."""
    assert ids.shape == found.shape == (k,)
    assert len(set(ids.tolist())) == k
    assert ids.min() >= 0
    assert ids.max() < len(expected)
    assert (np.diff(found) <= 0).all()
    np.testing.assert_allclose(found, expected[ids], atol=tolerance)
    np.testing.assert_allclose(found, np.sort(expected)[::-1][:k], atol=tolerance)


@pytest.mark.parametrize("kind", MAPPER_KINDS)
@pytest.mark.parametrize("method", GRAPH_METHODS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_graph_agrees_with_the_equations(
    method: str, kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def size(name: str, low: int, high: int) -> int:
        return data.draw(st.integers(low, high), name)

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    shape = (size("C", 1, 7), size("H", 1, 4), size("W", 1, 4))
    B, V, D = size("B", 1, 3), size("V", 1, 40), size("D", 1, 6)
    F = size("F", 1, 9)
    k = size("k", 1, V)
    flavour = data.draw(st.sampled_from(FLAVOURS), "maps")
    mapper = random_mapper(rng, shape[0], D, kind)
    if mapper.n_own and data.draw(st.booleans(), "holds the classifier"):
        mapper = replace(mapper, logits_scale=1.4)
    vocabulary = draw_words(rng, mapper, V, D)
    maps = draw_maps(rng, (B, *shape), flavour)
    filters = rng.integers(0, shape[0], (B, F))
    threshold = None
    if method == "activation":
        threshold = rng.normal(size=(B, F)).astype(np.float32)
    folder = tmp_path_factory.mktemp("graph")

    many = data.draw(st.booleans(), "many")
    session = session_of(folder, mapper, vocabulary, shape, method, many=many)
    ids, found, inactive = run(session, maps, filters, k, V, threshold)

    known: dict[tuple[int, int, float], tuple[np.ndarray, float] | None] = {}
    for b in range(B):
        for row in range(F):
            f, T = int(filters[b, row]), 0.0 if threshold is None else float(threshold[b, row])
            if (b, f, T) not in known:
                known[b, f, T] = scores(maps[b], f, mapper, vocabulary, method, T)
            expected = known[b, f, T]
            assert inactive[b, row] == (expected is None)
            if expected is not None:
                check_words(ids[b, row], found[b, row], *expected, k)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("method", GRAPH_METHODS)
@pytest.mark.parametrize("kind", ["own", "both"])
def test_logits_are_the_classifiers(kind: str, method: str, tmp_path: Path, *, many: bool) -> None:
    """W_own·mean + b_own, scaled back; the paper's own formula changes the map, and has none."""
    rng = np.random.default_rng(1)
    mapper = replace(random_mapper(rng, 6, 4, kind), logits_scale=1.4)
    vocabulary = draw_words(rng, mapper, 9, 4)
    maps = draw_maps(rng, (3, 6, 2, 3), "saturated")
    session = session_of(tmp_path, mapper, vocabulary, (6, 2, 3), method, many=many)
    fed: dict[str, np.ndarray] = {
        "feature_map": maps,
        "filters": np.zeros((3, 1), dtype=np.int64),
        "k": np.array([1]),
        "k_groups": np.array([1]),
        "threshold": np.ones((3, 1), dtype=np.float32),
    }
    taken = {one.name for one in session.get_inputs()}
    if method == "attention-paper":
        assert "logits" not in {one.name for one in session.get_outputs()}
        return
    [logits] = session.run(["logits"], {name: fed[name] for name in taken})
    mean = maps.astype(np.float64).mean((2, 3))
    own = slice(0, mapper.n_own)
    expected = 1.4 * (mean @ mapper.W_first[:, own] + mapper.b_first[own])
    np.testing.assert_allclose(logits[:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", GRAPH_METHODS)
def test_both_forms_of_attention_agree(method: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mapper = random_mapper(rng, 40, 8, "both")
    vocabulary = unit_rows(rng.normal(size=(60, 8))).astype(np.float32)
    maps = draw_maps(rng, (2, 40, 7, 7), "saturated")
    filters = np.stack([rng.permutation(40) for _ in range(2)])
    T = np.full(filters.shape, 2.0, dtype=np.float32) if method == "activation" else None
    few, many = (
        run(
            session_of(tmp_path, mapper, vocabulary, (40, 7, 7), method, many=many),
            *(maps, filters, 9, 60, T),
        )
        for many in (False, True)
    )
    np.testing.assert_allclose(many[1], few[1], atol=1e-5)
    np.testing.assert_array_equal(many[2], few[2])


@given(n_words=st.integers(1, 500_000))
def test_groups_hold_all_words_and_little_more(n_words: int) -> None:
    groups, size = group_shape(n_words)
    assert n_words <= groups * size < n_words + size


@pytest.mark.parametrize("n_words", [1, 2, 3, 4, 5, 7, 10, 17, 30])
@pytest.mark.parametrize("dead", [False, True])
def test_padding_is_never_an_answer(n_words: int, tmp_path: Path, *, dead: bool) -> None:
    """Not even for k = V, where all words are worse than nothing or the mapper gives zero."""
    rng = np.random.default_rng(n_words)
    mapper = random_mapper(rng, 3, 2, "own")
    mapper.E[:] = 0.0 if dead else (1.0, 0.0)
    vocabulary = np.tile(np.array([-1.0, 0.0], dtype=np.float32), (n_words, 1))
    session = session_of(tmp_path, mapper, vocabulary, (3, 2, 2), "attention")
    maps = draw_maps(rng, (1, 3, 2, 2), "constant")

    ids, found, _ = run(session, maps, np.array([[0]]), n_words, n_words)

    assert sorted(ids[0, 0].tolist()) == list(range(n_words))
    np.testing.assert_allclose(found, 0.0 if dead else -1.0, atol=1e-6)


def test_ties_across_groups(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    mapper = random_mapper(rng, 3, 2, "own")
    mapper.E[:] = (1.0, 0.0)
    vocabulary = np.tile(np.eye(2, dtype=np.float32), (15, 1))  # every other word is right
    session = session_of(tmp_path, mapper, vocabulary, (3, 2, 2), "attention")
    maps = draw_maps(rng, (1, 3, 2, 2), "constant")
    for k in (1, 7, 15, 16, 30):
        ids, found, _ = run(session, maps, np.array([[1]]), k, 30)
        check_words(ids[0, 0], found[0, 0], np.tile([1.0, 0.0], 15), 1e-6, k)


def test_graph_is_small_whatever_the_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mapper = random_mapper(rng, 512, 50, "both")
    vocabulary = unit_rows(rng.normal(size=(2000, 50))).astype(np.float32)
    session_of(tmp_path, mapper, vocabulary, (512, 7, 7), "attention")
    assert (tmp_path / "words.onnx").stat().st_size < 20_000


def test_values_fall_into_equal_groups() -> None:
    assert equal_groups(1530) == (34, 45)
    assert equal_groups(307) is None  # a prime
    assert equal_groups(100) is None  # too few
    assert equal_groups(0) is None
    for n in range(256, 2000):
        if groups := equal_groups(n):
            assert groups[0] * groups[1] == n
            assert 0.4 * n**0.5 <= groups[0] <= 2 * n**0.5


@pytest.mark.parametrize("n_own", [1, 120])
@pytest.mark.parametrize("n_concepts", [300, 307, 1530])
def test_many_concepts_give_the_same_in_both_graphs(
    n_concepts: int, n_own: int, tmp_path: Path
) -> None:
    """Where there are many, the best concepts are chosen in two stages, or not: 307 is a prime."""
    rng = np.random.default_rng(n_concepts)
    channels, n_hidden, dimension = 4, 3, 6
    mapper = MapperWeights(
        form="concepts",
        n_own=n_own,
        n_hidden=n_hidden,
        W_first=rng.normal(size=(channels, n_own + n_hidden)).astype(np.float32),
        b_first=rng.normal(size=n_own + n_hidden).astype(np.float32),
        W_second=rng.normal(size=(n_hidden, n_concepts - n_own)).astype(np.float32),
        b_second=rng.normal(size=n_concepts - n_own).astype(np.float32),
        E=unit_rows(rng.normal(size=(n_concepts, dimension))).astype(np.float32),
        concepts=tuple(f"concept {i}" for i in range(n_concepts)),
    )
    vocabulary = draw_words(rng, mapper, 40, dimension)
    maps = draw_maps(rng, (2, channels, 3, 3), "normal")
    filters = np.tile(np.arange(channels), (2, 1))
    answers = []
    for many in (False, True):
        folder = tmp_path / str(many)
        folder.mkdir()
        session = session_of(folder, mapper, vocabulary, maps.shape[1:], "attention", many=many)
        answers.append(run(session, maps, filters, 40, 40))
    (ids, found, inactive), (other_ids, other, also) = answers
    np.testing.assert_array_equal(inactive, also)
    np.testing.assert_allclose(found, other, atol=1e-4)
    score = WordScores.of(mapper, strange_words(vocabulary))
    for b, f in zip(*np.nonzero(~inactive), strict=True):
        feature = attention_rows(maps[b, f].reshape(1, -1)) @ maps[b].reshape(channels, -1).T
        [expected] = score(feature.astype(np.float32))
        check_words(ids[b, f], found[b, f], expected, 2e-3, 40)
        check_words(other_ids[b, f], other[b, f], expected, 2e-3, 40)
