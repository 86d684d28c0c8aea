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
