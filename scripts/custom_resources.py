"""Names the keys of custom resources that their definitions do not have.

Reads YAML documents from standard input. check_chart.py runs it where the packages are installed
that publish the definitions: those of the Prometheus operator, and of KServe.
"""

import importlib
import importlib.metadata
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

KSERVE = {
    "ServingRuntime": "V1alpha1ServingRuntime",
    "InferenceService": "V1beta1InferenceService",
}
OPERATOR = ("ServiceMonitor", "PrometheusRule")


def kserve_class(name: str) -> Any | None:  # noqa: ANN401 - a generated class
    """Returns KServe's class of a type; None where Kubernetes itself defines it."""
    module = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    try:
        return getattr(importlib.import_module(f"kserve.models.{module}"), name)
    except ModuleNotFoundError:
        return None


def prepare_kserve() -> None:
    """Lets the models be imported without KServe's server, whose dependencies are not there."""
    root = Path(str(importlib.metadata.distribution("kserve").locate_file("kserve")))
    for name, folder in (("kserve", root), ("kserve.models", root / "models")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


def kserve_unknown(value: object, kind: str, path: str) -> Iterator[str]:
    """Yields the paths of what a type of KServe does not have."""
    if listed := re.fullmatch(r"list\[(.*)\]", kind):
        for number, item in enumerate(value if isinstance(value, list) else []):
            yield from kserve_unknown(item, listed[1], f"{path}[{number}]")
        return
    model = kserve_class(kind)
    if model is None or not isinstance(value, dict):
        return
    names = {key: name for name, key in model.attribute_map.items()}
    for key, item in value.items():
        if key in names:
            yield from kserve_unknown(item, model.openapi_types[names[key]], f"{path}.{key}")
        else:
            yield f"{path}.{key}"


def operator_unknown(document: Any, kind: str) -> Iterator[str]:  # noqa: ANN401 - YAML
    """Yields the paths of what a kind of the Prometheus operator does not have."""
    models = importlib.import_module("cloudcoil.models.prometheus_operator.v1")
    kept = getattr(models, kind).model_validate(document)
    known = kept.model_dump(by_alias=True, exclude_unset=True, mode="json")
    yield from lost(document["spec"], known["spec"], f"{kind}.spec")


def lost(given: object, kept: object, path: str) -> Iterator[str]:
    """Yields the paths of what a model did not keep."""
    if isinstance(given, dict):
        found = kept if isinstance(kept, dict) else {}
        for key, item in given.items():
            if key in found:
                yield from lost(item, found[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(kept, list):
        for number, (item, other) in enumerate(zip(given, kept, strict=True)):
            yield from lost(item, other, f"{path}[{number}]")


def unknown(document: Any) -> list[str]:  # noqa: ANN401 - YAML
    """Returns the paths of a resource's unknown keys.

    Raises:
        ValueError: A value is wrong, or one is missing.
    """
    kind = document["kind"]
    if kind in KSERVE:
        return list(kserve_unknown(document, KSERVE[kind], kind))
    return list(operator_unknown(document, kind))


if __name__ == "__main__":
    prepare_kserve()
    documents = [one for one in yaml.safe_load_all(sys.stdin) if one]
    custom = [one for one in documents if one["kind"] in (*KSERVE, *OPERATOR)]
    paths = [path for one in custom for path in unknown(one)]
    print(", ".join(one["kind"] for one in custom) or "no custom resource")
    sys.exit("\n".join(f"unknown: {path}" for path in paths) or 0)
