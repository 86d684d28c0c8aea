"""How a process holds its memory: what is given back, and what is never looked at again.

glibc keeps what is freed: in as many heaps as there are threads, and, once large blocks were freed,
in heaps that take such blocks from then on. A process that once held a burst of images would look
as large for ever, and one that reads windows of examples grows window by window. With few heaps,
and large blocks outside of them, it shrinks again.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from typing import Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MiB: Final = 2**20
_HEAPS: Final = 2
WHILE_TEACHING: Final = 8 * _MiB
"""What is large while teaching: windows of examples are, what a step of training needs is not."""


def bound_heap(*, large: int = _MiB // 4) -> bool:
    """Says so to glibc; call it before threads are started.

    Args:
        large: Bytes from which on a block is the system's again as soon as it is freed. Such a
            block costs a page fault every 4 KiB, so it is no size that is needed at every step.

    Returns:
        Whether it was heard; another C library has ways of its own.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    options = ((_M_ARENA_MAX, _HEAPS), (_M_MMAP_THRESHOLD, large), (_M_TRIM_THRESHOLD, large))
    return {set_option(*option) for option in options} == {1}


def trim_heap() -> None:
    """Gives free pages back to the system, those between others as well; takes milliseconds."""
    gc.collect()  # errors hold on to the frames that they came through, and these to images
    with suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def settle_heap() -> None:
    """Takes what is there out of garbage collection; call it once everything is loaded.

    Modules and doors stay until the end. A full collection that walks over them holds every call
    up, for 70 ms in the companion.
    """
    gc.collect()
    gc.freeze()
