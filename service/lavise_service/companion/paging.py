"""Pages of a list that changes meanwhile: newest first, each item once.

A token says after which item the next page begins, not how many were shown: what is added or
removed between two pages moves nothing (https://google.aip.dev/158).
"""

import base64
import binascii
import contextlib
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from lavise.errors import RequestError

DEFAULT_SIZE: Final = 100
LARGEST: Final = 1000
_LONGEST_TOKEN: Final = 256

T = TypeVar("T")


def page(
    items: Iterable[T], place: Callable[[T], tuple[int, str]], size: int, token: str
) -> tuple[list[T], str]:
    """One page of a list.

    Args:
        items: All of them, in any order.
        place: When an item was made, in nanoseconds, and its name, which no other has.
        size: Items of a page, 1 to 1000; 0 stands for 100.
        token: What came with the page before; empty for the first.

    Returns:
        The items, newest first, and the token of the next page: empty where there is none.

    Raises:
        RequestError: The size is out of range, or the token none of ours.
    """
    if not 0 <= size <= LARGEST:
        raise RequestError(
            f"page_size is {size}; accepted: 1 to {LARGEST}, or 0 for {DEFAULT_SIZE}",
            field="page_size",
        )

    def order(item: T) -> tuple[int, str]:
        made, name = place(item)
        return -made, name

    ordered = sorted(items, key=order)
    if token:
        after = _read(token)
        ordered = [item for item in ordered if order(item) > after]
    shown = ordered[: size or DEFAULT_SIZE]
    more = len(shown) < len(ordered)
    return shown, _write(order(shown[-1])) if more else ""


def _write(order: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(f"{-order[0]}:{order[1]}".encode()).decode()


def _read(token: str) -> tuple[int, str]:
    with contextlib.suppress(ValueError, binascii.Error):
        text = base64.b64decode(token[:_LONGEST_TOKEN].encode(), altchars=b"-_", validate=True)
        made, _, name = text.decode().partition(":")
        order = -int(made), name
        if _write(order) == token:  # one text for each place: no signs, blanks or zeros in front
            return order
    raise RequestError(
        "page_token is none that came with a page; leave it out to begin anew", field="page_token"
    )
