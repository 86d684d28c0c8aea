"""The Open Inference Protocol at both doors of a real TorchServe."""

import base64
import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.client import GrpcClient, Json
from lavise_service.torchserve import TorchServe
from lavise_service.torchserve.config import torchserve_home
from tests.tiny_cnn import CHANNELS, COLOURS, picture

pytestmark = pytest.mark.server
SERVICE = "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/"
PROTO = "open_inference_grpc.proto"
# Where a datatype's values lie in the messages.
CONTENTS = {
    "BYTES": "bytes_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
}
Tensor = tuple[str, str, list[Any]]
Infer = Callable[..., Json]


def png(name: str) -> bytes:
    buffer = BytesIO()
    picture(COLOURS[name], 7).save(buffer, "PNG")
    return buffer.getvalue()


TOMATO, OCEAN = png("tomato"), png("ocean")
IMAGES: Tensor = ("image", "BYTES", [TOMATO, OCEAN])


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The protocol's messages, from TorchServe's own description of them."""
    folder = tmp_path_factory.mktemp("proto")
    with zipfile.ZipFile(torchserve_home() / "ts" / "frontend" / "model-server.jar") as jar:
        (folder / PROTO).write_bytes(jar.read(f"proto/{PROTO}"))
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"--python_out={folder}"]
    subprocess.run([*protoc, PROTO], check=True)
    spec = importlib.util.spec_from_file_location("oip", folder / "open_inference_grpc_pb2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    model_store = tmp_path_factory.mktemp("store")
    write_archive(tiny_bundle, model_store, config=WorkerConfig(threads=1))
    with TorchServe(model_store) as running:
        yield running


@pytest.fixture(scope="module")
def channel(server: TorchServe) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_target) as opened:
        yield opened


@pytest.fixture(scope="module")
def by_grpc(channel: grpc.Channel, messages: Any) -> Infer:
    call = channel.unary_unary(
        f"{SERVICE}ModelInfer",
        request_serializer=messages.ModelInferRequest.SerializeToString,
        response_deserializer=messages.ModelInferResponse.FromString,
    )

    def infer(*tensors: Tensor) -> Json:
        request = messages.ModelInferRequest(model_name="lavise", id="seven")
        for name, datatype, data in tensors:
            contents = messages.InferTensorContents(**{CONTENTS[datatype]: data})
            request.inputs.add(name=name, datatype=datatype, shape=[len(data)], contents=contents)
        answer = call(request, timeout=60)
        assert (answer.id, answer.model_name) == ("seven", "lavise")
        found = {}
        for output in answer.outputs:
            values = getattr(output.contents, CONTENTS[output.datatype])
            data = [json.loads(x) for x in values] if output.datatype == "BYTES" else list(values)
            found[output.name] = np.array(data).reshape(list(output.shape))
        return found

    return infer


@pytest.fixture(scope="module")
def by_rest(server: TorchServe) -> Infer:
    def infer(*tensors: Tensor) -> Json:
        inputs = []
        for name, datatype, data in tensors:
            sent = [base64.b64encode(x).decode() for x in data] if datatype == "BYTES" else data
            inputs.append({"name": name, "datatype": datatype, "shape": [len(data)], "data": sent})
        answer = httpx.post(
            f"{server.rest_url}/v2/models/lavise/infer",
            json={"id": "seven", "inputs": inputs},
            trust_env=False,
            timeout=60,
        )
        body = answer.json()
        assert (body["id"], body["model_name"]) == ("seven", "lavise")
        found = {
            one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in body["outputs"]
        }
        assert answer.status_code == (400 if "error" in found else 200)
        return found

    return infer


@pytest.fixture(params=["by_grpc", "by_rest"])
def infer(request: pytest.FixtureRequest) -> Infer:
    door: Infer = request.getfixturevalue(request.param)
    return door


def test_filters_and_k_are_tensors(infer: Infer, server: TorchServe) -> None:
    found = infer(IMAGES, ("filters", "INT64", [3, 1]), ("k", "INT32", [2]))
    with GrpcClient(server.grpc_target) as client:
        request = {"filters": {"indices": [3, 1]}, "topK": 2}
        expected = client.explain([TOMATO, OCEAN], request)
    assert found["bundle_digest"].tolist() == [expected["bundleDigest"]]
    assert found["filters"].tolist() == [[3, 1], [3, 1]]
    assert found["words"].shape == found["scores"].shape == (2, 2, 2)
    for i, image in enumerate(expected["images"]):
        for j, row in enumerate(image["filters"]):
            assert found["activations"][i, j] == pytest.approx(row["activation"], rel=1e-6)
            words = [word["word"] for word in row["words"]]
            assert found["words"][i, j].tolist() == (words or ["", ""])
            scores = [word["score"] for word in row["words"]]
            assert found["scores"][i, j].tolist() == pytest.approx(scores or [0, 0], rel=1e-6)


def test_other_options_go_as_an_explain_request(infer: Infer) -> None:
    options = json.dumps({"layer": "body", "allFilters": True}).encode()
    found = infer(IMAGES, ("request", "BYTES", [options]))
    assert found["filters"].tolist() == [list(range(CHANNELS["body"]))] * 2


@pytest.mark.parametrize(
    ("tensors", "field"),
    [
        ([], "image"),
        ([("image", "BYTES", [b"no image"])], "image"),
        ([IMAGES, ("filters", "INT64", [99])], "filters"),
        ([IMAGES, ("k", "INT32", [0])], "top_k"),
        ([IMAGES, ("method", "BYTES", [b"image"])], "inputs"),
    ],
)
def test_what_is_refused_says_why_and_the_worker_lives(
    infer: Infer, server: TorchServe, tensors: list[Tensor], field: str
) -> None:
    before = worker(server)
    [text] = infer(*tensors)["error"]
    error = json.loads(text)
    assert (error["code"], error["status"]) == (3, "INVALID_ARGUMENT")
    assert error["details"][0]["fieldViolations"][0]["field"] == field
    assert worker(server) == before


def test_both_protocols_share_a_batch(by_grpc: Infer, server: TorchServe) -> None:
    before = worker(server)

    def ask(number: int) -> bool:
        if number % 2:
            return bool(by_grpc(IMAGES, ("k", "INT32", [1]))["words"].shape[2] == 1)
        with GrpcClient(server.grpc_target) as client:
            return len(client.explain([TOMATO])["images"]) == 1

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))
    assert worker(server) == before


def test_readiness_is_the_models_own(channel: grpc.Channel, messages: Any) -> None:
    ready = channel.unary_unary(
        f"{SERVICE}ModelReady",
        request_serializer=messages.ModelReadyRequest.SerializeToString,
        response_deserializer=messages.ModelReadyResponse.FromString,
    )
    assert ready(messages.ModelReadyRequest(name="lavise"), timeout=10).ready
    with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
        ready(messages.ModelReadyRequest(name="birds"), timeout=10)


def worker(server: TorchServe) -> tuple[int, str]:
    """The process that computes, and whether it is well."""
    answer = httpx.get(f"{server.management_url}/models/lavise", trust_env=False).json()
    [one] = answer[0]["workers"]
    return one["pid"], one["status"]
