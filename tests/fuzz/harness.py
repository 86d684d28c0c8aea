"""One target under atheris: ``python tests/fuzz/harness.py TARGET FOLDER [libFuzzer options]``.

FOLDER is what write_seeds.py wrote. libFuzzer keeps what reaches new lines; to it two files of a
bundle that are both read are one. So a quarter of what is tried begins with a seed again.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["lavise", "lavise_request", "lavise_open_inference", "PIL"]
):
    from tests.fuzz import targets

from lavise.manifest import CnnEntry, LayerEntry, Manifest, MapperEntry
from tests.fuzz.mutate_json import mutated

_REQUEST = (
    *("images", "content", "source", "layer", "filters", "indices", "mostActive", "allFilters"),
    *("topK", "method", "heatmaps", "model", "profile", "describeFilters", "getModel", "inputs"),
    *("name", "datatype", "shape", "data", "id", "withWords", "pageSize", "top_k", "all_filters"),
)
_MANIFEST = tuple(
    field for kind in (Manifest, CnnEntry, LayerEntry, MapperEntry) for field in kind.model_fields
)


def main(name: str, folder: Path, options: list[str]) -> None:
    """Fuzzes until libFuzzer is told to stop."""
    seeds = [file.read_bytes() for file in sorted((folder / name / "seeds").iterdir())]
    chosen: dict[str, targets.Target] = {"image": targets.image, "request": targets.request}
    bundle = folder / "tiny-bundle"
    # Whoever starts this removes it: libFuzzer ends the process.
    place = Path(tempfile.mkdtemp())
    target = targets.BundleTarget(bundle, place) if name == "bundle" else chosen[name]
    names = {"request": _REQUEST, "bundle": _MANIFEST}.get(name, ())

    def one(data: bytes) -> None:
        target(data)

    def change(data: bytes, most: int, seed: int) -> bytes:
        if seed % 4 == 0:
            data = seeds[seed // 4 % len(seeds)]
        # Half of the time as JSON is changed, where it is JSON after the first byte.
        changed = data[:1] + mutated(data[1:], seed, names) if seed // 8 % 2 and names else data
        if changed == data or len(changed) > most:
            return bytes(atheris.Mutate(data, most))
        return changed

    atheris.Setup([sys.argv[0], *options], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
