"""glibc hears how memory is to be kept."""

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own options")
def test_glibc_takes_the_options() -> None:
    # In a process of its own: the options stay for as long as it lives.
    asked = "from lavise.heap import bound_heap; print(bound_heap())"
    assert subprocess.check_output([sys.executable, "-c", asked], text=True) == "True\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own way")
def test_what_lies_free_between_other_blocks_is_given_back() -> None:
    # The last block keeps the heap's end where it is.
    asked = """
import psutil
from lavise.heap import trim_heap
blocks = [bytearray(4000) for _ in range(20_000)]
last = bytearray(4000)
del blocks[:]
before = psutil.Process().memory_info().rss
trim_heap()
print(before - psutil.Process().memory_info().rss)
"""
    given_back = int(subprocess.check_output([sys.executable, "-c", asked], text=True))
    assert given_back > 40 * 2**20
