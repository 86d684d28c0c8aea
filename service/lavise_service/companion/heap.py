"""How the process holds its memory: what is given back after a burst, and what is never looked at.

glibc keeps what is freed: in as many heaps as there are threads, and, once large blocks were freed,
in heaps that take such blocks from then on. A process that once held a burst of images would look
as large for ever. With two heaps, and large blocks outside of them, it shrinks again.
"""

import ctypes
import gc
from typing import Final

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE: Final = 256 * 1024
_HEAPS: Final = 2


def bound_heap() -> bool:
    """Says so to glibc; call it before threads are started.

    Returns:
        Whether it was heard; another C library has ways of its own.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    options = (
        (_M_ARENA_MAX, _HEAPS),
        (_M_MMAP_THRESHOLD, _LARGE),
        (_M_TRIM_THRESHOLD, _LARGE),
    )
    return {set_option(*option) for option in options} == {1}


def settle_heap() -> None:
    """Takes what is there out of garbage collection; call it once everything is loaded.

    Modules and doors stay until the end. A full collection that walks over them holds every call
    up, for 60 ms here.
    """
    gc.collect()
    gc.freeze()
