"""Bundles that differ from the tiny one in one respect."""

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from lavise.bundle import open_bundle, write_manifest
from lavise.manifest import LayerEntry


def without_catalog(bundle: Path, out: Path) -> Path:
    """A copy of a bundle, as it was before it was described."""
    shutil.copytree(bundle, out, ignore=shutil.ignore_patterns("catalog.*"))
    manifest = open_bundle(bundle).manifest
    write_manifest(out, manifest.model_copy(update={"catalogs": ()}))
    return out


def with_ceiling(bundle: Path, out: Path, layer: str, ceiling: float) -> Path:
    """A copy of a bundle, one of whose layers saturates at a value: filters rank by their mean."""
    shutil.copytree(bundle, out)
    for file in out.glob(f"words.{layer}.*.onnx"):
        model = onnx.load(file, load_external_data=False)
        [choice] = [node for node in model.graph.node if "best" in node.output]
        choice.input[0] = "mean"
        onnx.save(model, file)
    manifest = open_bundle(bundle).manifest

    def change(entry: LayerEntry) -> LayerEntry:
        update = {"ceiling": ceiling} if entry.name == layer else {}
        return entry.model_copy(update=update)

    layers = tuple(map(change, manifest.cnn.layers))
    cnn = manifest.cnn.model_copy(update={"layers": layers})
    write_manifest(out, manifest.model_copy(update={"cnn": cnn}))
    return out


def with_nan(bundle: Path, out: Path, shape: tuple[int, ...], place: int | None = None) -> Path:
    """A copy of a bundle whose CNN has NaN in its small weights of a shape, in all or one place."""
    shutil.copytree(bundle, out)
    for file in out.glob("*.onnx"):
        model = onnx.load(file, load_external_data=False)
        for one in model.graph.initializer:
            if tuple(one.dims) == shape and one.data_type == TensorProto.FLOAT:
                array = numpy_helper.to_array(one).copy()
                array[slice(None) if place is None else place] = np.nan
                one.CopyFrom(numpy_helper.from_array(array, one.name))
        onnx.save(model, file)
    write_manifest(out, open_bundle(bundle).manifest)
    return out
