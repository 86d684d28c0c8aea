"""What lies in an image that should not, and what its libraries lack."""

import contextlib
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scripts.images.build import said

_TOOLS = {"as", "c++", "cc", "clang", "cpp", "easy_install", "g++", "gcc", "ld", "make", "pip"}
# The 12 of gcc-12, the 3.11 of pip3.11.
_VERSION = re.compile(r"-?[\d.]+$")
_PACKAGES = {"pip", "setuptools", "ensurepip"}
_CACHES = ("var/cache", "var/lib/apt/lists", "root/.cache", "var/log")


@contextlib.contextmanager
def contents(image: str) -> Iterator[Path]:
    """Yields where the files of an image can be read."""
    try:
        yield Path(said("podman", "image", "mount", image))
    finally:
        said("podman", "image", "unmount", image)


def findings(image: str) -> list[str]:
    """Returns the paths of compilers, installers, caches and setuid files."""
    with contents(image) as root:
        found = [f"/{path}/*" for path in _CACHES if any(_files(root / path))]
        for folder, names, files in os.walk(root):
            packages = (Path(folder, name) for name in _PACKAGES.intersection(names))
            found += [f"/{path.relative_to(root)}" for path in packages]
            for path in (Path(folder, name) for name in files):
                mode = path.lstat().st_mode
                setuid = stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID)
                command = _VERSION.sub("", path.name).rpartition("-")[2]
                in_bin = path.parent.name in {"bin", "sbin"} and command in _TOOLS
                if setuid or in_bin:
                    found.append(f"/{path.relative_to(root)}")
        return sorted(found)


def unresolved(image: str) -> set[str]:
    """Returns the shared libraries that ONNX Runtime's CUDA provider asks for in vain."""
    with contents(image) as root:
        [provider] = root.glob(
            "opt/lavise/lib/*/site-packages/onnxruntime/capi/*_providers_cuda.so"
        )
        command = ["chroot", str(root), "ldd", f"/{provider.relative_to(root)}"]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^\s*(\S+) => not found$", answer, re.MULTILINE))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
