"""What a burst took is given back."""

import platform
import subprocess
import sys

import pytest

BURST = """
import sys, threading
from lavise_service.companion.heap import bound_heap

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

if sys.argv[1] == "bound":
    assert bound_heap()
before = held()
ready = threading.Barrier(17)

def work():
    blocks = [bytes(size) for size in range(1000, 1_000_000, 4000)]
    kept = [bytes(100) for _ in range(1000)]
    del blocks
    ready.wait()

for _ in range(16):
    threading.Thread(target=work).start()
ready.wait()
print(held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own options")
def test_a_burst_is_forgotten() -> None:
    kept = {
        how: int(subprocess.check_output([sys.executable, "-c", BURST, how]))
        for how in ("bound", "free")
    }
    assert kept["bound"] < 0.7 * kept["free"]
