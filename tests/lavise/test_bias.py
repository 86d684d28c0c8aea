from dataclasses import replace

import numpy as np
import pytest

from lavise.bias import _examples, check_comparison, compare, qualified_rates
from lavise.errors import RequestError
from lavise.profile import Profile
from tests.profiles import make_profile

FILTER_WORDS = (("word3", "word5"), ("word5",), ("word0",))


def draw(
    seed: int, n: int = 120, planted: float = 0.05, *, catalog: bool = True
) -> tuple[Profile, np.ndarray]:
    """A profile of 12 words and 3 filters; words 3 and 4, and filter 0, follow one object."""
    rng = np.random.default_rng(seed)
    there = rng.random(n) < planted
    scores = rng.random((n, 12)) ** 6 * 0.5
    scores[there, 3] = 0.9
    scores[there, 4] = 0.5
    activation = rng.random((n, 3))
    activation[there, 0] += 1
    profile = make_profile(
        scores,
        activation,
        qualified=activation > 1 if catalog else None,
        filter_words=FILTER_WORDS if catalog else (),
        seed=seed,
        name=f"set{seed}",
    )
    return profile, there


@pytest.fixture(scope="module")
def planted() -> tuple[Profile, Profile, np.ndarray, np.ndarray]:
    a, in_a = draw(1, planted=0.5)
    b, in_b = draw(2, planted=0.05)
    return a, b, in_a, in_b


def test_a_planted_difference_is_the_first_finding(
    planted: tuple[Profile, Profile, np.ndarray, np.ndarray],
) -> None:
    a, b, in_a, in_b = planted
    report = compare(a, b)
    first = report.findings[0]
    assert list(first.words) == ["word3", "word4"]
    assert list(first.filters) == [0]
    assert first.significant
    assert first.difference > 0
    word = report.words[0]
    assert word.word == "word3"
    assert word.mean_a == pytest.approx(float(a.word_scores[:, 3].astype(float).mean()))
    assert word.low < word.difference < word.high
    assert word.low > 0
    assert word.p_value == pytest.approx(1 / 1001)
    assert (word.n_a, word.n_b) == (120, 120)
    assert word.qualified_a == pytest.approx(in_a.mean())
    assert word.qualified_b == pytest.approx(in_b.mean())
    assert [e.value for e in word.examples_a] == pytest.approx([0.9] * 3, abs=1e-3)
    assert all(a.sources[e.index] == e.source for e in word.examples_a)
    filter_ = report.filters[0]
    assert filter_.index == 0
    assert filter_.significant
    assert filter_.auroc > 0.6
    assert filter_.rate_a - filter_.rate_b == pytest.approx(filter_.difference)
    assert filter_.low < filter_.difference < filter_.high
    assert list(filter_.catalog_words) == ["word3", "word5"]
    assert list(report.caveats) == []


def test_examples_are_the_greatest_of_each_column() -> None:
    profile = make_profile(np.zeros((3, 4)))
    values = np.array([[1.0, 6.0], [3.0, 5.0], [2.0, 4.0]])
    for count, expected in ((2, [[1, 2], [0, 1]]), (9, [[1, 2, 0], [0, 1, 2]])):
        found = _examples(profile, values, count)
        assert [[one.index for one in column] for column in found] == expected
        for column, those in enumerate(found):
            assert [one.value for one in those] == sorted(values[:, column], reverse=True)[:count]
            assert all(one.source == f"image-{one.index}.jpg" for one in those)


def test_sides_swap(planted: tuple[Profile, Profile, np.ndarray, np.ndarray]) -> None:
    a, b, _, _ = planted
    report = compare(b, a)
    assert list(report.findings[0].words) == ["word3", "word4"]
    assert report.findings[0].difference < 0
    assert report.words[0].high < 0
    assert list(report.findings[0].filters) == [0]


def test_the_same_seed_gives_the_same_report(
    planted: tuple[Profile, Profile, np.ndarray, np.ndarray],
) -> None:
    a, b, _, _ = planted
    assert compare(a, b, seed=3) == compare(a, b, seed=3)


def test_sets_that_do_not_differ_give_an_empty_report() -> None:
    reports = [compare(draw(10 + i)[0], draw(60 + i)[0], permutations=200) for i in range(40)]
    assert sum(r.significant_words > 0 for r in reports) <= 4
    assert sum(r.significant_filters > 0 for r in reports) <= 4
    assert all(not f.significant for f in reports[0].findings)
    assert reports[0].findings, "the ranking is given all the same"


def test_small_sets_and_missing_catalog_are_said() -> None:
    a, b = draw(1, 20, catalog=False)[0], draw(2, 200, catalog=False)[0]
    report = compare(a, b)
    assert any("20 images" in c and "power is low" in c for c in report.caveats)
    assert any("no catalog" in c for c in report.caveats)
    assert not report.words[0].HasField("qualified_a")
    assert not report.filters[0].HasField("rate_a")
    assert not report.filters[0].catalog_words


def test_duplicates_across_and_within_sets_are_said() -> None:
    a, b = draw(1)[0], draw(2)[0]
    prints = [*a.fingerprints[:3], *b.fingerprints[3:]]
    prints[10] = prints[11]
    report = compare(a, replace(b, fingerprints=prints))
    assert report.duplicate_count == 3
    assert (report.duplicates[0].source_a, report.duplicates[0].source_b) == (
        "set1-0.jpg",
        "set2-0.jpg",
    )
    assert any("3 images of A are in B" in c for c in report.caveats)
    assert any("1 of the 120 images of B repeat" in c for c in report.caveats)


def test_the_papers_own_study() -> None:
    a, in_a = draw(1, planted=0.5)
    b, in_b = draw(2)
    rates = qualified_rates(a, b)
    assert rates["word3"] == pytest.approx((in_a.mean(), in_b.mean()))
    assert rates["word0"] == pytest.approx((0, 0))
    assert a.qualified is not None
    assert rates["word5"][0] == pytest.approx((a.qualified[:, 0] | a.qualified[:, 1]).mean())
    assert qualified_rates(draw(1, catalog=False)[0], draw(2, catalog=False)[0]) == {}


def test_what_cannot_be_compared_is_refused() -> None:
    a = draw(1)[0]
    for other, said in (
        (make_profile(digest="b" * 64), "different bundles"),
        (make_profile(layer="stem"), "'stem'"),
        (make_profile(np.ones((1, 12))), "1 images"),
    ):
        with pytest.raises(RequestError, match=said):
            compare(a, other)


def test_a_seed_out_of_range() -> None:
    with pytest.raises(RequestError, match="seed is -1; accepted: 0 and more"):
        check_comparison(0.05, 1000, -1)


@pytest.mark.parametrize(
    ("alpha", "permutations", "said"),
    [
        (0.0, 1000, "alpha is 0"),
        (float("nan"), 1000, "alpha is nan"),
        (0.9, 1000, "alpha is 0.9"),
        (0.05, 99, "permutations is 99"),
        (0.05, 10**6, "permutations is 1000000"),
        (0.001, 1000, "at least 1999"),
    ],
)
def test_options_out_of_range(alpha: float, permutations: int, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        check_comparison(alpha, permutations, 0)


def test_constant_scores_differ_nowhere() -> None:
    flat = make_profile(np.full((30, 4), 0.25), np.zeros((30, 3)))
    report = compare(flat, flat)
    assert report.significant_words == report.significant_filters == 0
    assert not report.findings
    assert all(f.auroc == 0.5 for f in report.filters)
