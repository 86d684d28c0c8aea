from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavise.mapper import MapperWeights
from lavise.profile_graph import TEMPERATURE, build_profile_graph
from lavise.runtime import open_session
from lavise.teach.teaching import mapper_arrays
from lavise.tensors import write_tensors
from lavise.words_graph import grouped_vocabulary
from tests.lavise.test_words_graph import FLAVOURS, draw_maps
from tests.oracle import MAPPER_KINDS, profile_scores, random_mapper, unit_rows


def word_scores(
    folder: Path, mapper: MapperWeights, vocabulary: np.ndarray, maps: np.ndarray
) -> np.ndarray:
    places = write_tensors(folder / "mapper.safetensors", mapper_arrays(mapper))
    places |= write_tensors(
        folder / "vocabulary.safetensors", {"vocabulary": grouped_vocabulary(vocabulary)}
    )
    shape = (maps.shape[1], maps.shape[2], maps.shape[3])
    graph = build_profile_graph(mapper, len(vocabulary), shape, places)
    file = folder / "profile.onnx"
    file.write_bytes(graph.SerializeToString())
    [found] = open_session(file, device="cpu", threads=1).run(
        ["word_scores"], {"feature_map": maps}
    )
    return np.asarray(found)


@pytest.mark.parametrize("kind", MAPPER_KINDS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_graph_agrees_with_the_equations(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def size(name: str, low: int, high: int) -> int:
        return data.draw(st.integers(low, high), name)

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    B, C, H, W = size("B", 1, 3), size("C", 1, 6), size("H", 1, 4), size("W", 1, 4)
    V, D = size("V", 1, 30), size("D", 1, 6)
    mapper = random_mapper(rng, C, D, kind)
    vocabulary = unit_rows(rng.normal(size=(V, D))).astype(np.float32)
    maps = draw_maps(rng, (B, C, H, W), data.draw(st.sampled_from(FLAVOURS), "maps"))

    found = word_scores(tmp_path_factory.mktemp("graph"), mapper, vocabulary, maps)

    assert found.shape == (B, V)
    for b in range(B):
        expected, shortest = profile_scores(maps[b], mapper, vocabulary, TEMPERATURE)
        # The direction of a short g(v) is uncertain, and so is what the softmax makes of it.
        np.testing.assert_allclose(found[b], expected, atol=1e-3 * (1 + 1e-3 / max(shortest, 1e-9)))
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()


def test_padding_never_takes_a_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mapper = random_mapper(rng, 3, 4, "both")
    vocabulary = unit_rows(rng.normal(size=(5, 4))).astype(np.float32)  # padded to six
    maps = rng.normal(size=(1, 3, 1, 1)).astype(np.float32)
    found = word_scores(tmp_path, mapper, vocabulary, maps)
    np.testing.assert_allclose(found.sum(), 1.0, atol=1e-5)  # one cell: shares of one softmax


def test_a_neighbour_counts_as_much_as_the_cell(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mapper = random_mapper(rng, 2, 3, "regression")
    vocabulary = unit_rows(rng.normal(size=(4, 3))).astype(np.float32)
    maps = rng.normal(size=(1, 2, 1, 2)).astype(np.float32)
    together = word_scores(tmp_path, mapper, vocabulary, maps)
    swapped = word_scores(tmp_path, mapper, vocabulary, maps[:, :, :, ::-1].copy())
    np.testing.assert_allclose(together, swapped, rtol=1e-5)
