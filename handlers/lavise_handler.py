"""TorchServe in, Explainer out.

TorchServe calls ``handle`` with a batch of requests and sends back one answer for each. An error
of one request is that request's answer; it never becomes an exception, because TorchServe would
fail the whole batch for it. gRPC drops the status, so the payload carries the error as well.

What a request may look like stands in lavise_request.py and, for those of the Open Inference
Protocol, in lavise_open_inference.py, what Prometheus sees in lavise_metrics.py; they are in the
archive as well.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from google.rpc import code_pb2

from lavise.errors import LaviseError, RequestError, SpecError
from lavise.explainer import DEFAULT_MOST_ACTIVE, Explainer
from lavise.heap import settle_heap
from lavise.images import encode_jpeg, prepare
from lavise.messages import (
    base64_text,
    describe_filters,
    error_status,
    image_profiles,
    message_dict,
    model_message,
    profile_dict,
    response_dict,
)
from lavise.options import ExplainOptions
from lavise.v1.explain_pb2 import GetModelRequest
from lavise_machine import Machine
from lavise_metrics import Metrics
from lavise_open_inference import Infer, read_infer
from lavise_request import Ask, Lookup, read_request

_IMAGES_AT_ONCE = 16
"""Images of several requests per pass of the CNN: bounds memory, and how long small ones wait."""
_PROFILES_AT_ONCE = 16
"""Images whose every cell is mapped at once: each takes some megabytes."""
_NICENESS = 5
"""A third of the weight of a process that has none."""
_BYTES_PER_WORD = len('{"word":"a","score":0.5},')
_LONGEST_TEXT = 1000
_DEFAULT_MAX_RESPONSE_BYTES = 6_553_500  # TorchServe's own
_HTTP_STATUS = {
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.UNAVAILABLE: 503,
}

_log = logging.getLogger(__name__)


class Context(Protocol):
    """What the handler uses of TorchServe's context (ts.context.Context)."""

    model_name: str
    model_yaml_config: Mapping[str, Any]
    metrics: Any

    @property
    def system_properties(self) -> Mapping[str, Any]:
        """``model_dir`` and, where the worker has a GPU, ``gpu_id``."""

    def get_request_header(self, idx: int, key: str) -> Any:  # noqa: ANN401 - str, or a part's headers
        """A header of a request; under an entry's name, the headers of that entry."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Sets the content type of one answer."""

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        """Sets the HTTP status of one answer."""


def handle(data: Sequence[Mapping[str, Any]] | None, context: Context) -> list[bytes] | None:
    """TorchServe's entry point: loads the bundle when ``data`` is None, answers a batch else."""
    if data is None:
        _give_way()
        _HANDLER.initialize(context)
        _HANDLER.watch(Machine(context.system_properties.get("gpu_id")))
        return None
    return _HANDLER.handle(data, context)


def _give_way() -> None:
    """Lets those who take calls in, and say no, go first where cores are short.

    Linux has this for a thread and for those that it starts, so it comes before any other.
    """
    with suppress(OSError, AttributeError):  # not everywhere, and no worker should fail for it
        os.nice(_NICENESS)


class LaviseHandler:
    """Answers batches with one Explainer."""

    def initialize(self, context: Context) -> None:
        """Opens the bundle in the archive and explains one blank image, so that READY is true.

        Raises:
            LaviseError: If the bundle, the device or the settings are wrong; the worker's log
                carries the message, and TorchServe does not become ready.
        """
        self._name = context.model_name
        gpu = context.system_properties.get("gpu_id")
        self._explainer = Explainer.open(
            Path(context.system_properties["model_dir"]) / "bundle",
            device="cpu" if gpu is None else "auto",
            device_id=gpu or 0,
            threads=_threads(context.model_yaml_config) or None,
        )
        self._max_bytes = int(
            os.environ.get("LAVISE_MAX_RESPONSE_BYTES", _DEFAULT_MAX_RESPONSE_BYTES)
        )
        self._pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
        self._metrics = Metrics(context.metrics, self._name)
        side = self._explainer.input_size
        self._explainer.explain([np.zeros((side, side, 3), dtype=np.uint8)])
        settle_heap()
        _log.info(
            "lavise: bundle %s on %s (%s)",
            self._explainer.digest[:12],
            self._explainer.device,
            ", ".join(self._explainer.providers),
        )
        if gpu is not None and self._explainer.device == "cpu":
            _log.warning(
                "lavise: TorchServe gives GPU %s, but this ONNX Runtime has no CUDA provider: "
                "pip install 'lavise[gpu]'",
                gpu,
            )

    def watch(self, machine: Machine) -> None:
        """Shows Prometheus what the machine says."""
        self._metrics.watch(machine)

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """Returns one JSON answer per request, in order; raises nothing."""
        if context.get_request_header(0, "describe") == "True":
            return [orjson.dumps(message_dict(model_message(self._explainer)))]
        batch = _Batch([read_infer(row, self._name) for row in data], self._max_bytes)
        try:
            self._answer(data, context, batch)
        except Exception as problem:  # noqa: BLE001 - TorchServe would fail every request
            for index in range(len(data)):
                batch.fail_unanswered(index, problem)
        return batch.replies(context)

    def _answer(self, data: Sequence[Mapping[str, Any]], context: Context, batch: "_Batch") -> None:
        """Answers every request of a batch, and counts what was done."""
        start, graphs = time.perf_counter(), dict(self._explainer.seconds)
        asks: dict[int, Ask] = {}
        for index, row in enumerate(data):
            with batch.answering(index):
                infer = batch.infers[index]
                entries = infer.entries() if infer else row
                read = read_request(entries, _content_type(context, index))
                if isinstance(read, Ask):
                    asks[index] = self._check(read)
                else:
                    batch.answer(index, self._look_up(read))
        decoding = time.perf_counter()
        images = self._decode(asks, batch)
        decode_s = time.perf_counter() - decoding if asks else 0.0
        words = {index: those for index, those in images.items() if not asks[index].profile}
        filters = self._explain(asks, words, batch)
        for index in images.keys() - words.keys():
            with batch.answering(index):
                batch.answer(index, self._profile(asks[index], images[index]))
        self._metrics.record(
            requests=len(data),
            images=sum(map(len, images.values())),
            filters=filters,
            errors=batch.errors,
            seconds=time.perf_counter() - start,
            stages={"decode": decode_s}
            | {graph: spent - graphs[graph] for graph, spent in self._explainer.seconds.items()},
        )

    def _check(self, ask: Ask) -> Ask:
        """Returns what was asked for, once every option is known to be right."""
        self._check_model(ask.model)
        self._explainer.validate(ask.options)
        self._check_answer_size(ask.options, len(ask.encoded))
        return ask

    def _look_up(self, lookup: Lookup) -> dict[str, Any]:
        """Returns the answer to a request without an image."""
        self._check_model(lookup.message.model)
        if isinstance(lookup.message, GetModelRequest):
            return message_dict(model_message(self._explainer))
        return message_dict(describe_filters(self._explainer, lookup.message))

    def _check_model(self, name: str) -> None:
        known = (self._name, self._explainer.bundle.manifest.name)
        if name and name not in known:
            raise RequestError(
                f"model {name!r} is not served here; accepted: {' or '.join(dict.fromkeys(known))}"
                ", or none",
                field="model",
            )

    def _check_answer_size(self, options: ExplainOptions, n_images: int) -> None:
        """Refuses, before any compute, what could not be sent back."""
        layer = self._explainer.layer(options.layer)
        channels = layer.channels
        if options.filters is not None:
            n_filters = len(options.filters)
        elif options.all_filters:
            n_filters = channels
        else:
            n_filters = min(options.most_active or DEFAULT_MOST_ACTIVE, channels)
        a_filter = options.top_k * _BYTES_PER_WORD
        if options.heatmaps:
            a_filter += layer.height * layer.width * 4 // 3  # base64
        if n_images * n_filters * a_filter > self._max_bytes:
            raise RequestError(
                f"{n_images} images x {n_filters} filters x {options.top_k} words"
                f"{' with heat maps' * options.heatmaps} make an answer of more than "
                f"{self._max_bytes:,} bytes: ask for less at a time",
                field="top_k",
            )

    def _decode(self, asks: dict[int, Ask], batch: "_Batch") -> dict[int, list[Any]]:
        """Returns the images of each request, without the requests that have a broken one.

        A profile keeps the good ones: the error of a broken one stands in its place.
        """
        work = [
            (index, field, content)
            for index, ask in asks.items()
            for field, content in zip(ask.fields, ask.encoded, strict=True)
        ]
        images: dict[int, list[Any]] = {index: [] for index in asks}

        def decode(one: tuple[int, str, bytes | bytearray]) -> np.ndarray | Exception | None:
            index, field, content = one
            try:
                return prepare(content, self._explainer.input_size, name=field)
            except Exception as problem:  # noqa: BLE001 - the neighbours must live
                if asks[index].profile:
                    return problem
                batch.fail(index, problem)
            return None

        # A lone image is faster without the pool.
        run = self._pool.map if len(work) > 1 else map
        for (index, _, _), image in zip(work, run(decode, work), strict=True):
            if image is not None:
                images[index].append(image)
        return {index: done for index, done in images.items() if not batch.failed(index)}

    def _explain(
        self, asks: dict[int, Ask], images: dict[int, list[np.ndarray]], batch: "_Batch"
    ) -> int:
        """Answers the requests whose images are there; returns how many filters were explained.

        All go together. Should that fail, each goes alone, so that whatever is
        wrong with one stays with that one.
        """
        groups = _groups({index: len(decoded) for index, decoded in images.items()})
        explained = 0
        while groups:
            group = groups.pop()
            try:
                answers = iter(
                    self._explainer.explain(
                        [image for index in group for image in images[index]],
                        [asks[index].options for index in group for _ in images[index]],
                    )
                )
            except Exception as problem:  # noqa: BLE001 - the worker must live
                if len(group) > 1:
                    _log.warning("lavise: a batch failed, each request goes alone", exc_info=True)
                    groups += [[index] for index in group]
                else:
                    batch.fail(group[0], problem)
                continue
            for index in group:
                with batch.answering(index):
                    explanations = [next(answers) for _ in images[index]]
                    explained += sum(len(one.filters) for one in explanations)
                    batch.answer(
                        index,
                        response_dict(explanations, asks[index].sources, self._explainer.digest),
                    )
        return explained

    def _profile(self, ask: Ask, images: list[Any]) -> dict[str, Any]:
        """Returns the numbers of a request's images; a broken one has its error instead."""
        request = ask.profile
        assert request is not None  # noqa: S101 - the caller sorted them
        found: list[dict[str, Any]] = [
            {"error": message_dict(error_status(image))} if isinstance(image, Exception) else {}
            for image in images
        ]
        good = [i for i, image in enumerate(images) if not isinstance(image, Exception)]
        for start in range(0, len(good), _PROFILES_AT_ONCE):
            some = good[start : start + _PROFILES_AT_ONCE]
            pixels = [images[i] for i in some]
            numbers = self._explainer.profile(pixels, request.layer)
            for i, one in zip(some, image_profiles(numbers, pixels), strict=True):
                found[i] = one
                if request.with_thumbnails and "error" not in one:
                    one["thumbnail"] = base64_text(encode_jpeg(images[i]))
        return profile_dict(self._explainer, request, found)


class _Batch:
    """The answers of a batch, good and bad, as they come.

    Args:
        infers: For each request, what it asks of the Open Inference Protocol; None for another.
        max_bytes: Of an answer.
    """

    def __init__(self, infers: Sequence[Infer | None], max_bytes: int) -> None:
        self.infers = infers
        self._max_bytes = max_bytes
        self._payloads = [b""] * len(infers)
        self._codes: list[int] = [code_pb2.OK] * len(infers)

    @property
    def errors(self) -> Counter[str]:
        """How many requests failed, by the name of the google.rpc code."""
        return Counter(code_pb2.Code.Name(code) for code in self._codes if code != code_pb2.OK)

    def failed(self, index: int) -> bool:
        """Whether a request has an error for its answer."""
        return self._codes[index] > 0

    def answer(self, index: int, payload: dict[str, Any]) -> None:
        """Keeps the answer of a request.

        Raises:
            RequestError: If TorchServe could not carry it (it would kill the worker).
        """
        content = self._written(index, payload)
        if len(content) > self._max_bytes:
            raise RequestError(
                f"the answer has {len(content):,} bytes, more than the {self._max_bytes:,} that "
                "can be sent: ask for fewer images, filters or words at a time",
                field="request",
            )
        self._payloads[index] = content

    def fail_unanswered(self, index: int, problem: Exception) -> None:
        """Makes an error the answer of a request that has none yet."""
        if not self._payloads[index]:
            self.fail(index, problem)

    def fail(self, index: int, problem: Exception) -> None:
        """Makes an error the answer of a request; the first one stands."""
        if self.failed(index):
            return
        if isinstance(problem, LaviseError):
            # A message may repeat what was sent, whatever its length.
            problem = type(problem)(_shortened(problem.message), field=_shortened(problem.field))
        else:
            _log.error("lavise: a request failed", exc_info=problem)
        status = error_status(problem)
        self._codes[index] = status.code
        name = code_pb2.Code.Name(status.code)
        error = {"error": message_dict(status) | {"status": name}}
        self._payloads[index] = self._written(index, error)

    def _written(self, index: int, payload: dict[str, Any]) -> bytes:
        """Returns a payload in the form that the request wants."""
        infer = self.infers[index]
        return orjson.dumps(infer.answer(payload) if infer else payload)

    @contextmanager
    def answering(self, index: int) -> Iterator[None]:
        """Turns whatever a block raises into the answer of a request."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - the worker and the neighbours must live
            self.fail(index, problem)

    def replies(self, context: Context) -> list[bytes]:
        """Returns the payloads, and tells TorchServe their status and type."""
        for index, code in enumerate(self._codes):
            context.set_response_content_type(index, "application/json")
            if code != code_pb2.OK:
                # TorchServe dies of a phrase that is not ASCII: this one is.
                phrase = code_pb2.Code.Name(code)
                context.set_response_status(_HTTP_STATUS.get(code, 500), phrase, index)
        return self._payloads


def _shortened(text: str) -> str:
    """Returns a text without its middle where it is long."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:600]} ... {text[-300:]}"


def _groups(sizes: Mapping[int, int]) -> list[list[int]]:
    """Puts requests together, in order, up to so many images at once."""
    groups: list[list[int]] = []
    held = 0
    for index, size in sizes.items():
        if not groups or held + size > _IMAGES_AT_ONCE:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += size
    return groups


def _content_type(context: Context, index: int) -> str:
    """Returns the content type of a body."""
    headers = context.get_request_header(index, "body")
    return headers.get("content-type", "") if isinstance(headers, dict) else ""


def _threads(config: Mapping[str, Any]) -> int:
    """Returns the threads that model-config.yaml gives ONNX Runtime; 0 leaves it to it."""
    threads = (config.get("lavise") or {}).get("threads", 0)
    if type(threads) is not int or threads < 0:  # yaml's true is an int as well
        raise SpecError(
            f"lavise.threads in model-config.yaml is {threads!r}; accepted: a whole number, 0 for "
            "all cores",
            field="lavise.threads",
        )
    return threads


_HANDLER = LaviseHandler()
