"""The Open Inference Protocol (KServe's V2), said in the handler's own requests.

TorchServe hands a ModelInfer call over as JSON with the bytes of tensors in base64, and drops its
parameters: so every option is an input tensor.

========  ========  =====  =====================================================================
input     datatype  shape
========  ========  =====  =====================================================================
image     BYTES     [n]    the encoded images
filters   any int   [m]    channel indices; left out, the ten most active of each image
k         any int   [1]    words per filter
request   BYTES     [1]    any other option: an ExplainRequest as JSON
========  ========  =====  =====================================================================

The answer has the tensors ``filters``, ``activations`` [n, m], ``words``, ``scores`` [n, m, k],
best first, and ``bundle_digest`` [1]; a filter that is inactive on an image has the words "" there,
with score 0. What was refused has one tensor, ``error`` [1], a google.rpc.Status as JSON.

Over REST this is ``POST /v2/models/NAME/infer``, with bytes in base64 as well. Over gRPC the
service is ``org.pytorch.serve.grpc.openinference.GRPCInferenceService``: TorchServe gave the
protocol a package of its own, where clients made for ``inference.GRPCInferenceService`` do not find
it, and it sends each of the answer's texts with the quotes of JSON around it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from lavise.errors import RequestError
from lavise.messages import image_bytes

Json = dict[str, Any]
_INTEGERS: Final = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))


@dataclass(frozen=True)
class Infer:
    """A ModelInfer request.

    Attributes:
        id: What the answer repeats.
        model: The name of the model, which the answer carries.
        inputs: The input tensors, as they came.
    """

    id: str
    model: str
    inputs: list[Any]

    def entries(self) -> Json:
        """Returns the same request as the entries of a form: image, image_2, ..., request.

        Raises:
            RequestError: A tensor is unknown, wrong, or there twice.
        """
        tensors: dict[str, list[Any]] = {}
        for tensor in self.inputs:
            name = str(tensor.get("name")) if isinstance(tensor, dict) else ""
            if name not in _READERS:
                raise RequestError(
                    f"unknown input tensor {name!r}; accepted: {', '.join(_READERS)}",
                    field="inputs",
                )
            if name in tensors:
                raise RequestError(f"the input tensor {name} is there twice", field=name)
            tensors[name] = _READERS[name](name, tensor)
        images = tensors.get("image")
        if not images:
            raise RequestError("the input tensor image is missing", field="image")
        named = {f"image_{number}": image for number, image in enumerate(images[1:], 2)}
        return {"image": images[0], **named, "request": _options(tensors)}

    def answer(self, payload: Json) -> Json:
        """Returns the answer to this request.

        Args:
            payload: An ExplainResponse, or ``{"error": Status}``, in JSON form.
        """
        if "error" in payload:
            text = orjson.dumps(payload["error"]).decode()
            return self._with([_tensor("error", "BYTES", [1], [text])])
        images = payload["images"]
        rows = [row for image in images for row in image["filters"]]
        # Filters are alike in the number of words, but for the inactive ones, which have none.
        k = max((len(row["words"]) for row in rows), default=0)
        none = [{"word": "", "score": 0.0}] * k
        words = [word for row in rows for word in row["words"] or none]
        each = [len(images), len(rows) // len(images)]
        return self._with(
            [
                _tensor("filters", "INT64", each, [row["index"] for row in rows]),
                _tensor("activations", "FP32", each, [row["activation"] for row in rows]),
                _tensor("words", "BYTES", [*each, k], [word["word"] for word in words]),
                _tensor("scores", "FP32", [*each, k], [word["score"] for word in words]),
                _tensor("bundle_digest", "BYTES", [1], [payload["bundleDigest"]]),
            ]
        )

    def _with(self, outputs: list[Json]) -> Json:
        # TorchServe reads all four, and loses the worker where one is missing.
        names = {"id": self.id, "model_name": self.model, "model_version": ""}
        return {**names, "outputs": outputs}


def read_infer(row: Mapping[str, Any], model: str) -> Infer | None:
    """Returns the ModelInfer request that a row is, or None where it is another.

    Args:
        row: What TorchServe hands over for one request.
        model: The name of the model.
    """
    body = row.get("body")
    if isinstance(body, bytes | bytearray) and b'"inputs"' in body:
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:  # the others' reader says what is wrong
            return None
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        return None
    return Infer(str(body.get("id") or ""), model, body["inputs"])


def _options(tensors: Mapping[str, list[Any]]) -> Json:
    """Returns the ExplainRequest of the tensors beside the images."""
    texts = tensors.get("request", [b"{}"])
    try:
        [request] = map(orjson.loads, texts)
    except ValueError as problem:  # JSONDecodeError among them
        raise RequestError(
            "the input tensor request is no JSON object", field="request"
        ) from problem
    if not isinstance(request, dict) or "profile" in request:
        raise RequestError("the input tensor request is no ExplainRequest", field="request")
    if "filters" in tensors:
        request = {**request, "filters": {"indices": tensors["filters"]}}
    if "k" in tensors:
        if len(tensors["k"]) != 1:
            raise RequestError("the input tensor k is not one value", field="k")
        request = {**request, "topK": tensors["k"][0]}
    return request


def _integers(name: str, tensor: Json) -> list[Any]:
    data = _data(name, tensor, _INTEGERS)
    if not all(type(value) is int for value in data):
        raise RequestError(f"the input tensor {name} holds no whole numbers", field=name)
    return data


def _bytes(name: str, tensor: Json) -> list[Any]:
    data = _data(name, tensor, frozenset({"BYTES"}))
    if not all(isinstance(value, str) for value in data):
        raise RequestError(f"the input tensor {name} holds no base64", field=name)
    return [image_bytes(value) for value in data]


def _data(name: str, tensor: Json, datatypes: frozenset[str]) -> list[Any]:
    """Returns the values of a tensor, once its form is known to be right."""
    datatype, shape, data = str(tensor.get("datatype")), tensor.get("shape"), tensor.get("data")
    if datatype not in datatypes:
        raise RequestError(
            f"the input tensor {name} is {datatype!r}; accepted: {', '.join(sorted(datatypes))}",
            field=name,
        )
    if not isinstance(data, list):
        raise RequestError(
            f"the input tensor {name} has no data; raw_input_contents do not get here", field=name
        )
    sizes = shape if isinstance(shape, list) else [None]
    if not all(type(size) is int for size in sizes) or math.prod(sizes) != len(data):
        raise RequestError(
            f"the input tensor {name} has {len(data)} values, which is not its shape {shape!r}",
            field=name,
        )
    return data


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> Json:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


_READERS: Final[dict[str, Callable[[str, Json], list[Any]]]] = {
    "image": _bytes,
    "filters": _integers,
    "k": _integers,
    "request": _bytes,
}
