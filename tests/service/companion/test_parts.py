from random import Random

from hypothesis import given
from hypothesis import strategies as st

from lavise_service.companion.parts import Part, chain

UPLOAD = "0123456789abcdef"

spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 12)).map(lambda p: (p[0], p[0] + p[1])),
    max_size=12,
)


def part(first: int, end: int, rejected: int = 0) -> Part:
    return Part(UPLOAD, first, end, rejected)


def test_a_name_says_all() -> None:
    named = part(64, 128, 3)
    assert named.file == "0123456789abcdef-000000064-000000128-000000003.parquet"
    assert Part.of(named.file) == named


@given(st.text() | st.just(part(0, 1).file + ".0a1b2c3d.tmp"))
def test_other_names_are_no_parts(name: str) -> None:
    assert Part.of(name) is None


@given(spans)
def test_each_image_before_the_first_gap_counts_once(pairs: list[tuple[int, int]]) -> None:
    held = {i for first, end in pairs for i in range(first, end)}
    reached = next(i for i in range(100) if i not in held)
    counted = [
        i for each, start in chain(part(*pair) for pair in pairs) for i in range(start, each.end)
    ]
    assert counted == list(range(reached))


@given(spans)
def test_where_a_part_counts_it_has_the_images(pairs: list[tuple[int, int]]) -> None:
    for each, start in chain(part(*pair) for pair in pairs):
        assert each.first <= start < each.end


@given(spans, st.randoms(use_true_random=False))
def test_the_order_of_a_listing_does_not_matter(
    pairs: list[tuple[int, int]], random: Random
) -> None:
    parts = [part(*pair) for pair in pairs]
    shuffled = parts.copy()
    random.shuffle(shuffled)
    assert chain(shuffled) == chain(parts)
