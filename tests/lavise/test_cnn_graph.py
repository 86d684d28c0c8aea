import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lavise.cnn import IMAGENET_MEAN, IMAGENET_STD, TargetCnn, load_cnn
from lavise.cnn_graph import export_cnn
from lavise.errors import SpecError
from lavise.images import prepare
from lavise.manifest import CnnEntry
from lavise.runtime import open_session
from lavise.torchvision_on_cpu import import_torchvision

HERE = "python:tests.small_cnns"
DEMO = Path(__file__).parents[2] / "lavise" / "demo"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    """Two threads wait for each other longer than small networks compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(path: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    session = open_session(path, device="cpu")
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def random_images(n: int, size: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def normalised(cnn: TargetCnn, images: np.ndarray) -> torch.Tensor:
    pixels = ((images - np.array(cnn.mean)) / np.array(cnn.std)).astype(np.float32)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def torch_outputs(
    cnn: TargetCnn, layers: Sequence[str], images: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What the module gives, each layer's output copied at the moment it is given."""
    assert cnn.module is not None
    seen: dict[str, np.ndarray] = {}
    handles = [
        cnn.module.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: seen.update(
                {name: out.detach().numpy().copy()}
            )
        )
        for name in layers
    ]
    with torch.no_grad():
        answer = cnn.module(normalised(cnn, images)).numpy()
    for handle in handles:
        handle.remove()
    return answer, [seen[name] for name in layers]


def check_against_torch(cnn: TargetCnn, entry: CnnEntry, path: Path, *, has_head: bool) -> None:
    layers = [layer.name for layer in entry.layers]
    for n in (1, 3):
        images = random_images(n, entry.input_size)
        got = run(path, images)
        answer, maps = torch_outputs(cnn, layers, images)
        assert ("logits" in got) == has_head
        if has_head:
            np.testing.assert_allclose(got["logits"], answer, rtol=1e-3, atol=1e-3)
        for i, (layer, expected) in enumerate(zip(entry.layers, maps, strict=True)):
            assert expected.shape == (n, layer.channels, layer.height, layer.width)
            scale = float(np.abs(expected).max())
            np.testing.assert_allclose(got[f"map_{i}"], expected, atol=1e-4 * max(1, scale))
            np.testing.assert_array_equal(got[f"peak_{i}"], got[f"map_{i}"].max((2, 3)))
            np.testing.assert_allclose(
                got[f"mean_{i}"], got[f"map_{i}"].mean((2, 3)), rtol=1e-3, atol=1e-4 * scale
            )


def test_efficientnet_as_exported_is_efficientnet(tmp_path: Path) -> None:
    cnn, path = load_cnn("efficientnet_lite0"), tmp_path / "cnn.onnx"
    entry = export_cnn(cnn, ["features", "blocks.15"], path)

    assert [(e.channels, e.height, e.width) for e in entry.layers] == [(1280, 7, 7), (320, 7, 7)]
    check_against_torch(cnn, entry, path, has_head=True)
    cat = prepare((DEMO / "chelsea.jpg").read_bytes(), entry.input_size)
    got = run(path, cat[None])
    best = [entry.class_names[i] for i in np.argsort(-got["logits"][0])[:3]]
    assert best[0] in {"Egyptian cat", "tabby", "tiger cat"}
    assert "Egyptian cat" in best
    assert got["map_0"].min() >= 0
    assert got["map_0"].max() <= 6
    assert got["map_1"].min() < 0


def test_default_layer(tmp_path: Path) -> None:
    cnn = load_cnn(f"{HERE}:backbone", input_size=16)
    with pytest.raises(SpecError, match=r"name the layer.*layers of python.*: 0, 1") as caught:
        export_cnn(cnn, [], tmp_path / "cnn.onnx")
    assert caught.value.field == "layer"


def test_resnet18(tmp_path: Path) -> None:
    """The second layer's output is added to in place by what follows it."""
    torch.manual_seed(0)
    made = import_torchvision().models.resnet18(weights=None, num_classes=5)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    cnn = load_cnn(f"torchvision:resnet18:{tmp_path / 'w.pth'}", input_size=64)
    entry = export_cnn(cnn, ["layer4", "layer2.0.bn2", "layer4"], tmp_path / "cnn.onnx")
    assert [layer.name for layer in entry.layers] == ["layer4", "layer2.0.bn2"]
    assert [layer.channels for layer in entry.layers] == [512, 128]
    check_against_torch(cnn, entry, tmp_path / "cnn.onnx", has_head=True)


def test_small_classifier(tmp_path: Path) -> None:
    cnn = load_cnn(f"{HERE}:classifier", class_names=("a", "b", "c", "d"))
    entry = export_cnn(cnn, ["norm", "stem"], tmp_path / "cnn.onnx")
    assert entry.class_names == ("a", "b", "c", "d")
    assert entry.input_size == 16
    check_against_torch(cnn, entry, tmp_path / "cnn.onnx", has_head=True)
    assert cnn.module is not None
    assert not any(one._forward_hooks for one in cnn.module.modules())


def test_backbone_without_a_head(tmp_path: Path) -> None:
    cnn = load_cnn(f"{HERE}:backbone", input_size=16)
    entry = export_cnn(cnn, ["1"], tmp_path / "cnn.onnx")
    check_against_torch(cnn, entry, tmp_path / "cnn.onnx", has_head=False)


def test_head_of_probabilities_is_tapped_before_the_softmax(tmp_path: Path) -> None:
    cnn = load_cnn(f"{HERE}:with_softmax", input_size=16)
    export_cnn(cnn, ["0.stem"], tmp_path / "cnn.onnx")
    images = random_images(2, 16)
    probabilities, _ = torch_outputs(cnn, [], images)
    logits = torch.from_numpy(run(tmp_path / "cnn.onnx", images)["logits"])
    assert not torch.allclose(logits.sum(1), torch.ones(2))
    np.testing.assert_allclose(logits.softmax(1), probabilities, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "layer", "field", "says"),
    [
        ("classifier", "tail", "layer", "no layer 'tail'; layers of .*stem, norm, unused, head"),
        ("classifier", "head", "layer", r"'head' gives \(4,\), not a feature map"),
        ("classifier", "unused", "layer", "'unused' takes no part"),
        ("two_answers", "pair", "layer", "'pair' gives <class 'tuple'>, not a feature map"),
    ],
)
def test_wrong_layers_list_what_is_accepted(
    spec: str, layer: str, field: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        export_cnn(load_cnn(f"{HERE}:{spec}", input_size=16), [layer], tmp_path / "cnn.onnx")
    assert caught.value.field == field


def test_a_size_that_the_cnn_does_not_take(tmp_path: Path) -> None:
    cnn = load_cnn(f"{HERE}:backbone", input_size=2)
    with pytest.raises(SpecError, match=r"does not run on images of 2 x 2 pixels"):
        export_cnn(cnn, ["1"], tmp_path / "cnn.onnx")


# Graphs that people bring.


def given_graph(
    path: Path,
    *,
    nhwc: bool = False,
    opset: int = 20,
    batch: int | str = "N",
    size: int | str = 8,
    head: str = "Identity",
    kind: int = TensorProto.FLOAT,
) -> Path:
    """images -> Conv (3 to 5 channels) -> Relu -> mean over space -> MatMul -> head."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "w": rng.normal(size=(5, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(size=5).astype(np.float32),
        "fc": rng.normal(size=(5, 4)).astype(np.float32),
        "axes": np.array([1, 2] if nhwc else [2, 3], dtype=np.int64),
    }
    mean_inputs = ["relu", "axes"] if opset >= 18 else ["relu"]
    mean_options: dict[str, Any] = {} if opset >= 18 else {"axes": weights["axes"].tolist()}
    into = [helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2])]
    back = [helper.make_node("Transpose", ["conv"], ["nhwc"], perm=[0, 2, 3, 1])]
    nodes = [
        *(into if nhwc else []),
        helper.make_node(
            "Conv", ["nchw" if nhwc else "images", "w", "b"], ["conv"], pads=[1, 1, 1, 1]
        ),
        *(back if nhwc else []),
        helper.make_node("Relu", ["nhwc" if nhwc else "conv"], ["relu"]),
        helper.make_node("ReduceMean", mean_inputs, ["mean"], keepdims=0, **mean_options),
        helper.make_node("MatMul", ["mean", "fc"], ["logits"]),
        helper.make_node(head, ["logits"], ["answer"]),
    ]
    shape = [batch, size, size, 3] if nhwc else [batch, 3, size, size]
    graph = helper.make_graph(
        nodes,
        "given",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def given_outputs(file: Path, images: np.ndarray, *, nhwc: bool) -> dict[str, np.ndarray]:
    """What the given graph computes by itself, with the tensor ``relu`` shown."""
    model = onnx.load(file)
    model.graph.output.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, None))
    onnx.save(model, file.with_suffix(".shown.onnx"))
    pixels = ((images - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)).astype(np.float32)
    fed = pixels if nhwc else pixels.transpose(0, 3, 1, 2)
    session = open_session(file.with_suffix(".shown.onnx"), device="cpu")
    relu, logits = session.run(["relu", "answer"], {"images": np.ascontiguousarray(fed)})
    return {"relu": relu.transpose(0, 3, 1, 2) if nhwc else relu, "answer": logits}


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize("size", [8, "S"])
def test_given_graph(opset: int, size: int | str, tmp_path: Path, *, nhwc: bool) -> None:
    file = given_graph(tmp_path / "given.onnx", nhwc=nhwc, opset=opset, size=size)
    cnn = load_cnn(f"onnx:{file}", input_size=10)

    entry = export_cnn(cnn, ["relu"], tmp_path / "cnn.onnx")

    side = size if isinstance(size, int) else 10
    [layer] = entry.layers
    assert entry.input_size == layer.height == layer.width == side
    assert layer.channels == 5
    for n in (1, 3):
        images = random_images(n, side)
        got = run(tmp_path / "cnn.onnx", images)
        expected = given_outputs(file, images, nhwc=nhwc)
        np.testing.assert_allclose(got["map_0"], expected["relu"], atol=1e-5)
        np.testing.assert_allclose(got["logits"], expected["answer"], atol=1e-4)
        np.testing.assert_array_equal(got["peak_0"], got["map_0"].max((2, 3)))
        np.testing.assert_allclose(got["mean_0"], got["map_0"].mean((2, 3)), atol=1e-5)


def test_tensors_of_an_nhwc_graph_may_be_nchw(tmp_path: Path) -> None:
    """As in what tf2onnx makes: both layouts in one graph."""
    file = given_graph(tmp_path / "given.onnx", nhwc=True)
    entry = export_cnn(load_cnn(f"onnx:{file}"), ["relu", "conv"], tmp_path / "cnn.onnx")
    assert [(e.channels, e.height, e.width) for e in entry.layers] == [(5, 8, 8)] * 2
    got = run(tmp_path / "cnn.onnx", random_images(2, 8))
    np.testing.assert_allclose(got["map_0"], np.maximum(got["map_1"], 0))


def test_exported_torch_graph_is_a_given_graph_too(tmp_path: Path) -> None:
    """Names that ours could clash with included: images, logits, map_0."""
    cnn = load_cnn(f"{HERE}:classifier", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert cnn.module is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            cnn.module,
            (torch.zeros(2, 3, 16, 16),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            input_names=["images"],
            output_names=["logits"],
        )
    assert program is not None
    for node in program.model_proto.graph.node:
        for names in (node.input, node.output):
            names[:] = ["map_0" if name == "relu_" else name for name in names]
    onnx.save(program.model_proto, tmp_path / "given.onnx")
    tap = next(n.output[0] for n in program.model_proto.graph.node if n.op_type == "Relu")
    entry = export_cnn(load_cnn(f"onnx:{tmp_path / 'given.onnx'}"), [tap], tmp_path / "cnn.onnx")
    assert (entry.layers[0].channels, entry.input_size) == (6, 16)
    images = random_images(3, 16)
    answer, _ = torch_outputs(cnn, [], images)
    np.testing.assert_allclose(run(tmp_path / "cnn.onnx", images)["logits"], answer, atol=1e-4)


@pytest.mark.parametrize("head", ["Softmax", "LogSoftmax"])
def test_given_head_of_probabilities(head: str, tmp_path: Path) -> None:
    file = given_graph(tmp_path / "given.onnx", head=head)
    plain = given_graph(tmp_path / "plain.onnx")
    export_cnn(load_cnn(f"onnx:{file}"), ["relu"], tmp_path / "cnn.onnx")
    images = random_images(2, 8)
    expected = given_outputs(plain, images, nhwc=False)["answer"]
    np.testing.assert_allclose(run(tmp_path / "cnn.onnx", images)["logits"], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "tap", "field", "says"),
    [
        ({}, "nope", "tap", "no tensor 'nope'; tensors of onnx.*: conv, relu"),
        ({}, "images", "tap", "no tensor 'images'"),
        ({}, "w", "tap", "no tensor 'w'"),
        ({}, "mean", "tap", "'mean' has 2 dimensions, not the 4"),
        ({}, "", "layer", "name the layer to explain; tensors of onnx.*: conv, relu"),
        ({"kind": TensorProto.UINT8}, "relu", "cnn", "takes UINT8; accepted: FLOAT"),
        ({"batch": 1, "head": "Identity"}, "relu", "cnn", "export it with a dynamic batch"),
    ],
)
def test_wrong_graphs_and_taps(
    options: dict[str, Any], tap: str, field: str, says: str, tmp_path: Path
) -> None:
    file = given_graph(tmp_path / "given.onnx", **options)
    if options.get("batch") == 1:
        fix_batch(file)
    with pytest.raises(SpecError, match=says) as caught:
        export_cnn(load_cnn(f"onnx:{file}"), [tap] if tap else [], tmp_path / "cnn.onnx")
    assert caught.value.field == field


def fix_batch(file: Path) -> None:
    """Reshapes to a batch of one, as exporters without a dynamic batch do."""
    model = onnx.load(file)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1, 5, 8, 8]), "one"))
    relu = next(node for node in graph.node if node.op_type == "Relu")
    relu.input[0] = "reshaped"
    at = list(graph.node).index(relu)
    graph.node.insert(at, helper.make_node("Reshape", ["conv", "one"], ["reshaped"]))
    onnx.save(model, file)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (["N", 3, 8, 6], "6 x 8 pixels; accepted: square"),
        (["N", 4, 8, 8], r"takes shape .*accepted: \(N, 3, H, W\) or \(N, H, W, 3\)"),
        (["N", 3], "accepted: .N, 3, H, W."),
    ],
)
def test_wrong_inputs(shape: list[int | str], says: str, tmp_path: Path) -> None:
    model = onnx.load(given_graph(tmp_path / "given.onnx"))
    given = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    model.graph.input[0].CopyFrom(given)
    onnx.save(model, tmp_path / "given.onnx")
    with pytest.raises(SpecError, match=says) as caught:
        export_cnn(load_cnn(f"onnx:{tmp_path / 'given.onnx'}"), ["relu"], tmp_path / "cnn.onnx")
    assert caught.value.field == "cnn"


def test_two_inputs(tmp_path: Path) -> None:
    model = onnx.load(given_graph(tmp_path / "given.onnx"))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "given.onnx")
    with pytest.raises(SpecError, match="has 2 inputs; accepted: one"):
        export_cnn(load_cnn(f"onnx:{tmp_path / 'given.onnx'}"), ["relu"], tmp_path / "cnn.onnx")


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x0a\x12", bytes(50)])
def test_a_file_that_is_no_graph(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "given.onnx").write_bytes(content)
    with pytest.raises(SpecError, match=r"no readable ONNX file|has 0 inputs") as caught:
        export_cnn(load_cnn(f"onnx:{tmp_path / 'given.onnx'}"), ["relu"], tmp_path / "cnn.onnx")
    assert caught.value.field == "cnn"


def test_an_operator_set_that_cannot_be_converted(tmp_path: Path) -> None:
    file = given_graph(tmp_path / "given.onnx", opset=13)
    model = onnx.load(file)
    model.graph.node[-1].op_type = "Nonsense"
    onnx.save(model, file)
    with pytest.raises(SpecError, match=r"operator set 13.*20 \(.*export it again in 18") as caught:
        export_cnn(load_cnn(f"onnx:{file}"), ["relu"], tmp_path / "cnn.onnx")
    assert caught.value.field == "cnn"
