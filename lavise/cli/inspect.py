"""``lavise inspect``: what a bundle is, and what its catalog says of filters."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from lavise.cli.arguments import BundleFolder, Filters, Json, Layer, filter_indices
from lavise.cli.output import answers, print_json, shown
from lavise.cli.tables import descriptions_view

if TYPE_CHECKING:
    from lavise.bundle import Bundle
    from lavise.explainer import Explainer

_PAGE = 1000


def inspect(
    bundle: BundleFolder, *, layer: Layer = "", filters: Filters = None, as_json: Json = False
) -> None:
    """Says what a bundle is; with --layer or --filters, what its catalog says of filters.

    With --json it prints a lavise.v1 GetModelResponse, or a DescribeFiltersResponse.
    """
    from lavise.explainer import Explainer
    from lavise.messages import message_dict, model_message

    asked = filter_indices(filters)
    explainer = Explainer.open(bundle, device="cpu")
    if layer or asked is not None:
        described = _describe(explainer, layer, asked)
        if as_json:
            print_json(described)
        else:
            answers().print(descriptions_view(described["filters"]))
    elif as_json:
        print_json(message_dict(model_message(explainer)))
    else:
        _print_bundle(explainer.bundle)


def _describe(
    explainer: "Explainer", layer: str, filters: tuple[int, ...] | None
) -> dict[str, Any]:
    """A DescribeFiltersResponse in JSON form: all pages of it as one."""
    from lavise.messages import describe_filters, message_dict
    from lavise.options import ExplainOptions
    from lavise.v1.explain_pb2 import DescribeFiltersRequest

    # Before a message is built: a number beyond 32 bits does not fit into one.
    explainer.validate(ExplainOptions(layer=layer, filters=filters))
    request = DescribeFiltersRequest(layer=layer, indices=filters or (), page_size=_PAGE)
    response = describe_filters(explainer, request)
    while response.next_page_token:
        request.page_token = response.next_page_token
        page = describe_filters(explainer, request)
        response.filters.extend(page.filters)
        response.next_page_token = page.next_page_token
    return message_dict(response)


def _print_bundle(bundle: "Bundle") -> None:
    manifest = bundle.manifest
    cnn, vocabulary = manifest.cnn, manifest.vocabulary
    facts = Table.grid(padding=(0, 2))
    for name, fact in (
        ("bundle", f"{shown(manifest.name)} (schema version {manifest.schema_version})"),
        ("digest", bundle.digest),
        ("CNN", f"{shown(cnn.spec)}, {cnn.input_size} x {cnn.input_size} pixels"),
        ("mean, std", f"{_numbers(cnn.mean)}, {_numbers(cnn.std)} of pixels in 0 to 255"),
        ("classes", f"{len(cnn.class_names):,} named" if cnn.class_names else "none named"),
        (
            "vocabulary",
            (
                f"{vocabulary.size:,} words of {vocabulary.dimension} numbers, "
                f"{shown(vocabulary.words)} restricted to {shown(vocabulary.restriction)}"
            ),
        ),
        ("written by", ", ".join(f"{k} {v}" for k, v in manifest.versions.items())),
        ("files", f"{len(manifest.files)}, all there and unchanged"),
        ("signature", _signature(bundle)),
    ):
        facts.add_row(name, fact)
    answers().print(facts)
    mappers = {mapper.layer: mapper for mapper in manifest.mappers}
    catalogs = {catalog.layer: catalog for catalog in manifest.catalogs}
    for layer in cnn.layers:
        mapper, catalog = mappers[layer.name], catalogs.get(layer.name)
        facts = Table.grid(padding=(0, 2))
        facts.add_row(
            "layer",
            f"{shown(layer.name)}: {layer.channels} filters, {layer.height} x {layer.width}",
        )
        if layer.ceiling is not None:
            facts.add_row("", f"saturates at {layer.ceiling:g}: filters rank by their mean")
        facts.add_row(
            "mapper",
            f"{mapper.form}, {len(mapper.concepts):,} concepts, taught on "
            f"{shown(', '.join(mapper.datasets))} ({mapper.loss}, seed {mapper.seed})",
        )
        metrics = ", ".join(f"{name} {value:.3g}" for name, value in mapper.metrics.items())
        facts.add_row("held out", metrics or "not measured")
        facts.add_row(
            "catalog",
            f"{catalog.described} of {layer.channels} filters described over "
            f"{catalog.images:,} images of {shown(catalog.probe)}; thresholds within "
            f"{catalog.threshold_error:.1%}"
            if catalog
            else "none; make one with `lavise catalog`",
        )
        answers().print()
        answers().print(facts)


def _signature(bundle: "Bundle") -> str:
    from lavise.signature import SIGNATURE, VARIABLE

    if bundle.verified:
        return f"of a key in {VARIABLE}"
    there = (bundle.path / SIGNATURE).is_file()
    return f"there, not verified: {VARIABLE} names no key" if there else "none"


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
