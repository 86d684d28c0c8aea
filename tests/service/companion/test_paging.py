import pytest
from hypothesis import given
from hypothesis import strategies as st

from lavise.errors import RequestError
from lavise_service.companion.paging import page

Item = tuple[int, str]
items = st.lists(
    st.tuples(st.integers(0, 2**62), st.text(min_size=1, max_size=8)), unique_by=lambda i: i[1]
)


def place(item: Item) -> Item:
    return item


@given(items, st.integers(1, 5))
def test_pages_hold_each_item_once_newest_first(all_items: list[Item], size: int) -> None:
    shown: list[Item] = []
    token = ""
    while True:
        found, token = page(all_items, place, size, token)
        shown += found
        if not token:
            break
        assert len(found) == size
    assert shown == sorted(all_items, key=lambda item: (-item[0], item[1]))


def test_what_is_added_or_removed_meanwhile_moves_nothing() -> None:
    before = [(n, f"item-{n}") for n in range(10)]
    first, token = page(before, place, 4, "")
    assert [n for n, _ in first] == [9, 8, 7, 6]
    meanwhile = [(99, "new"), *(item for item in before if item[0] not in {6, 9})]
    second, _ = page(meanwhile, place, 4, token)
    assert [n for n, _ in second] == [5, 4, 3, 2]


def test_a_hundred_where_no_size_is_given() -> None:
    found, token = page([(n, str(n)) for n in range(101)], place, 0, "")
    assert len(found) == 100
    assert token


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1])
def test_a_size_out_of_range_is_refused(size: int) -> None:
    with pytest.raises(RequestError, match="page_size"):
        page([(1, "a")], place, size, "")


@given(st.text(min_size=1) | st.binary(min_size=1).map(lambda b: b.hex()))
def test_other_tokens_are_refused(token: str) -> None:
    with pytest.raises(RequestError, match="page_token"):
        page([(1, "a")], place, 1, token)
