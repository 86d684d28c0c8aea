"""Between the ``lavise.v1`` messages and the library: requests in, JSON out.

Answers are written straight from the arrays with orjson, in the JSON form of the messages
(docs at https://protobuf.dev/programming-guides/json/) with every field present; a test parses
them back through protobuf. Building thousands of message objects first would take longer than the
CNN does.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import orjson
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from lavise.errors import (
    BundleError,
    EnvironmentProblem,
    ImageError,
    InputError,
    LaviseError,
    RequestError,
    first_line,
)
from lavise.options import METHODS, ExplainOptions
from lavise.profile import fingerprint
from lavise.v1 import explain_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lavise.explainer import Explainer, ImageNumbers
    from lavise.explanation import Explanation
    from lavise.v1 import profile_pb2

M = TypeVar("M", bound=Message)
DEFAULT_TOP_K: Final = 5
_CODES: Final = (
    (InputError, code_pb2.INVALID_ARGUMENT),
    (BundleError, code_pb2.FAILED_PRECONDITION),
    (EnvironmentProblem, code_pb2.UNAVAILABLE),
)


def parse_message(data: bytes | dict[str, Any], message: M) -> M:
    """Reads a message from its JSON form.

    Args:
        data: JSON text, or what it parses to.
        message: An empty message; it is filled and returned.

    Returns:
        The message.

    Raises:
        RequestError: It is no JSON, or has an unknown field or a wrong type.
    """
    kind = type(message).__name__
    try:
        parsed = orjson.loads(data) if isinstance(data, bytes | bytearray | memoryview) else data
    except orjson.JSONDecodeError as error:
        raise RequestError(f"request is no JSON: {error}", field="request") from error
    if not isinstance(parsed, dict):
        raise RequestError(f"request is no JSON object of the form {kind}", field="request")
    try:
        return json_format.ParseDict(parsed, message)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        fields = ", ".join(field.name for field in message.DESCRIPTOR.fields)
        raise RequestError(
            f"request is no {kind}: {first_line(error)} Accepted fields: {fields}", field="request"
        ) from error


def options_from_request(request: explain_pb2.ExplainRequest) -> ExplainOptions:
    """What a request asks for, defaults filled in; Explainer.validate checks the values.

    Args:
        request: The message.

    Returns:
        The options.

    Raises:
        RequestError: ``all_filters`` is given as false, which selects nothing.
    """
    selection = request.WhichOneof("selection")
    if selection == "all_filters" and not request.all_filters:
        raise RequestError(
            "all_filters is false, which selects nothing; leave it out", field="all_filters"
        )
    return ExplainOptions(
        layer=request.layer,
        filters=tuple(request.filters.indices) if selection == "filters" else None,
        most_active=request.most_active if selection == "most_active" else None,
        all_filters=selection == "all_filters",
        top_k=request.top_k if request.HasField("top_k") else DEFAULT_TOP_K,
        method=request.method or "attention",
        heatmaps=request.heatmaps,
    )


def image_bytes(content: str) -> bytes:
    """Decodes an image that travels in JSON.

    Args:
        content: base64, standard or URL-safe, padded or not.

    Returns:
        The encoded image.

    Raises:
        RequestError: It is no base64.
    """
    try:
        standard = content.replace("-", "+").replace("_", "/")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            f"image content is no base64: {error}", field="images.content"
        ) from error


def base64_text(content: bytes | np.ndarray) -> str:
    """Bytes as they travel in JSON.

    Args:
        content: Bytes, or an array whose bytes are meant.

    Returns:
        Standard base64.
    """
    return base64.b64encode(content if isinstance(content, bytes) else content.tobytes()).decode()


def explanation_dict(explanation: Explanation, source: str) -> dict[str, Any]:
    """An ImageExplanation in JSON form.

    Args:
        explanation: Of one image.
        source: The image's name.

    Returns:
        What orjson can write.
    """
    catalog = explanation.explainer.catalog(explanation.layer)
    activation = explanation.activation.tolist()
    filters = []
    for row, index in enumerate(explanation.filters.tolist()):
        entry = {
            "layer": explanation.layer,
            "index": index,
            "activation": activation[row],
            "inactive": bool(explanation.inactive[row]),
            "words": [{"word": w, "score": s} for w, s in explanation.words(row)],
            "verdict": "",
            "catalogWords": [],
        }
        if catalog is not None:
            assert explanation.threshold is not None  # noqa: S101 - a catalog has thresholds
            assert explanation.qualified is not None  # noqa: S101 - likewise
            entry["threshold"] = float(explanation.threshold[row])
            entry["qualified"] = bool(explanation.qualified[row])
            entry["verdict"] = catalog.verdict[index]
            entry["catalogWords"] = [{"word": w, "score": s} for w, s in catalog.words[index]]
        if explanation.heatmaps is not None:
            heat = explanation.heatmaps[row]
            height, width = heat.shape
            entry["heatmap"] = {"height": height, "width": width, "values": base64_text(heat)}
        filters.append(entry)
    return {
        "source": _utf_8(source),
        "predictions": [{"label": n, "probability": p} for n, p in explanation.predictions()],
        "filters": filters,
    }


def response_dict(
    explanations: Sequence[Explanation], sources: Sequence[str], digest: str
) -> dict[str, Any]:
    """An ExplainResponse in JSON form.

    Args:
        explanations: One an image.
        sources: The images' names.
        digest: Of the bundle.

    Returns:
        What orjson can write.
    """
    pairs = zip(explanations, sources, strict=True)
    return {"images": [explanation_dict(e, s) for e, s in pairs], "bundleDigest": digest}


def image_profiles(numbers: ImageNumbers, pixels: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """ImageProfiles in JSON form, without thumbnails.

    Args:
        numbers: Of B images.
        pixels: The B prepared images.

    Returns:
        What orjson can write; an image whose numbers are not finite has an error instead.
    """
    activation = numbers.activation.astype("<f4")
    word_scores = numbers.word_scores.astype("<f2")
    qualified = None
    if numbers.qualified is not None:
        qualified = np.packbits(numbers.qualified, axis=1, bitorder="little")
    found: list[dict[str, Any]] = []
    for i, image in enumerate(pixels):
        if not numbers.finite[i]:
            problem = ImageError("the CNN gives values that are not finite for this image")
            found.append({"error": message_dict(error_status(problem))})
            continue
        found.append(
            {
                "fingerprint": base64_text(fingerprint(image)),
                "activation": base64_text(activation[i]),
                "qualified": "" if qualified is None else base64_text(qualified[i]),
                "wordScores": base64_text(word_scores[i]),
            }
        )
    return found


def profile_dict(
    explainer: Explainer, request: profile_pb2.ProfileRequest, images: list[dict[str, Any]]
) -> dict[str, Any]:
    """A ProfileResponse in JSON form.

    Args:
        explainer: What made the numbers.
        request: Says whether the words are wanted.
        images: From image_profiles(), in the order of the request.

    Returns:
        What orjson can write.
    """
    layer = explainer.layer(request.layer)
    answer: dict[str, Any] = {
        "images": images,
        "bundleDigest": explainer.digest,
        "layer": layer.name,
    }
    if request.with_words:
        catalog = explainer.catalog(layer.name)
        answer["words"] = list(explainer.vocabulary)
        answer["filters"] = [
            {
                "words": [w for w, _ in catalog.words[i]] if catalog else [],
                "verdict": catalog.verdict[i] if catalog else "",
            }
            for i in range(layer.channels)
        ]
    return answer


def describe_filters(
    explainer: Explainer, request: explain_pb2.DescribeFiltersRequest
) -> explain_pb2.DescribeFiltersResponse:
    """Looks filters up in the catalog, a page at a time.

    Args:
        explainer: Holds the bundle.
        request: Which layer and filters, and which page.

    Returns:
        The page.

    Raises:
        RequestError: An option is wrong, or the layer was not described.
    """
    explainer.validate(ExplainOptions(layer=request.layer, filters=tuple(request.indices) or None))
    entry, table = explainer.layer(request.layer), explainer.catalog(request.layer)
    if table is None:
        raise RequestError(
            f"layer {entry.name!r} has no catalog; make one with `lavise catalog`", field="layer"
        )
    size = request.page_size or 100
    if not 1 <= size <= 1000:
        raise RequestError(f"page_size is {size}; accepted: 1 to 1000", field="page_size")
    wanted = list(request.indices) or list(range(entry.channels))
    start = 0
    if request.page_token:
        if not re.fullmatch("[0-9]{1,9}", request.page_token):
            raise RequestError("page_token is not one that was given out", field="page_token")
        start = int(request.page_token)
    response = explain_pb2.DescribeFiltersResponse(bundle_digest=explainer.digest)
    for index in wanted[start : start + size]:
        response.filters.add(
            layer=entry.name,
            index=index,
            threshold=float(table.threshold[index]),
            words=[explain_pb2.Word(word=w, score=s) for w, s in table.words[index]],
            verdict=table.verdict[index],
            q_value=float(table.q_value[index]),
            top_images=[
                explain_pb2.TopImage(source=s, activation=a) for s, a in table.top_images[index]
            ],
        )
    if start + size < len(wanted):
        response.next_page_token = str(start + size)
    return response


def model_message(explainer: Explainer) -> explain_pb2.GetModelResponse:
    """What is loaded, as GetModel answers it.

    Args:
        explainer: Holds the bundle.

    Returns:
        The message.
    """
    manifest = explainer.bundle.manifest
    images = {c.layer: c.images for c in manifest.catalogs}
    mappers = {m.layer: m for m in manifest.mappers}
    return explain_pb2.GetModelResponse(
        model=manifest.name,
        bundle_digest=explainer.digest,
        cnn=manifest.cnn.spec,
        input_size=manifest.cnn.input_size,
        layers=[
            explain_pb2.Layer(
                name=e.name,
                channels=e.channels,
                height=e.height,
                width=e.width,
                catalog_images=images.get(e.name, 0),
                mapper=mappers[e.name].form,
                datasets=mappers[e.name].datasets,
            )
            for e in manifest.cnn.layers
        ],
        vocabulary=f"{manifest.vocabulary.words}/{manifest.vocabulary.restriction}",
        vocabulary_size=manifest.vocabulary.size,
        methods=METHODS,
        providers=explainer.providers,
        device=explainer.device,
        versions=manifest.versions,
    )


def message_dict(message: Message) -> dict[str, Any]:
    """A message in JSON form, every field present.

    Args:
        message: Any.

    Returns:
        What orjson can write.
    """
    return dict(json_format.MessageToDict(message, always_print_fields_with_no_presence=True))


def error_status(error: Exception) -> status_pb2.Status:
    """The google.rpc.Status of an error; what was not raised on purpose becomes INTERNAL.

    Args:
        error: Any.

    Returns:
        Code, message and, where the error is about a field, a BadRequest detail.
    """
    if not isinstance(error, LaviseError):
        return status_pb2.Status(
            code=code_pb2.INTERNAL, message="internal error; the server's log has the details"
        )
    code = next((c for kind, c in _CODES if isinstance(error, kind)), code_pb2.INTERNAL)
    message, field = _utf_8(error.message), _utf_8(error.field)
    status = status_pb2.Status(code=code, message=message)
    if field:
        detail = error_details_pb2.BadRequest()
        detail.field_violations.add(field=field, description=message)
        status.details.add().Pack(detail)
    return status


def _utf_8(text: str) -> str:
    """A text that messages can carry: names of files need not be UTF-8, nor what Python makes."""
    return text.encode("utf-8", "replace").decode()
