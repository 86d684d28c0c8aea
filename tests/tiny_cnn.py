"""A CNN small enough to teach in seconds, and coloured pictures that it can tell apart."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

SPEC = "python:tests.tiny_cnn:make"
LAYERS = ("stem", "body")
CHANNELS = {"stem": 8, "body": 12}
INPUT_SIZE = 32
DEAD_FILTER = 11  # of body: inactive on every image

COLOURS = {
    "tomato": (214, 40, 30),
    "lettuce": (70, 170, 50),
    "ocean": (20, 60, 160),
    "lemon": (245, 225, 60),
    "night": (16, 16, 30),
    "snow": (240, 244, 250),
}
OTHER_WORDS = ("apple", "fruit", "leaf", "sea", "sky", "cloud", "coal", "milk", "sun", "fire")
DIMENSION = 8


class TinyCnn(torch.nn.Module):
    """Two convolutions and a linear head; weights are drawn from a fixed seed."""

    input_size = INPUT_SIZE
    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)
    class_names = ("tomato", "lettuce", "ocean", "lemon")

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU())
        self.body = torch.nn.Sequential(torch.nn.Conv2d(8, 12, 3, 2, 1), torch.nn.ReLU())
        self.head = torch.nn.Linear(12, 4)
        drawn = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=drawn))
            last = self.body[0]
            assert isinstance(last, torch.nn.Conv2d)
            assert last.bias is not None
            last.bias[DEAD_FILTER] = -1000.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 32, 32) to (B, 4)."""
        answer: torch.Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
        return answer


def make() -> TinyCnn:
    """The factory that SPEC names."""
    return TinyCnn()


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A noisy patch of a colour on a grey ground, 40 x 36."""
    rng = np.random.default_rng(seed)
    pixels = np.full((36, 40, 3), rng.integers(90, 160), dtype=np.float64)
    top, left = rng.integers(0, 10, 2)
    pixels[top : top + 24, left : left + 28] = colour
    noisy = pixels + rng.normal(0, 8, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, per_category: int = 12) -> Path:
    """A ``folder:`` dataset: one folder of pictures for each colour."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        (folder / name).mkdir(parents=True)
        for i in range(per_category):
            picture(colour, 100 * number + i).save(folder / name / f"{i:02}.png")
    return folder


def write_words(path: Path, dimension: int = DIMENSION) -> Path:
    """A GloVe text file with a vector for every colour and some more words."""
    rng = np.random.default_rng(0)
    lines = [
        " ".join([word, *(f"{x:.5f}" for x in rng.normal(size=dimension))])
        for word in (*COLOURS, *OTHER_WORDS)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
