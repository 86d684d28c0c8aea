"""Factories for ``python:`` specs, good and bad: small CNNs of the kinds that people bring."""

import torch


def seeded(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Draws every parameter and running statistic, and puts the module in eval mode."""
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.copy_(0.2 + 0.4 * torch.rand(value.shape, generator=drawn))
    return module.eval()


class Classifier(torch.nn.Module):
    """Convolution, BatchNorm, an addition in place, a mean over space, a linear head."""

    input_size = 16

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 6, 3, 2, 1)
        self.norm = torch.nn.BatchNorm2d(6)
        self.unused = torch.nn.Conv2d(3, 6, 1)
        self.head = torch.nn.Linear(6, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, 4)."""
        x = self.norm(self.stem(images))
        x += 1.0  # as a residual block does, on the very tensor that norm returned
        x.relu_()
        answer: torch.Tensor = self.head(x.mean((2, 3)))
        return answer


def classifier() -> torch.nn.Module:
    """With a head."""
    return seeded(Classifier())


def with_softmax() -> torch.nn.Module:
    """A head that ends in probabilities."""
    return seeded(torch.nn.Sequential(Classifier(), torch.nn.Softmax(dim=1)))


def backbone() -> torch.nn.Module:
    """Without a head: it ends in a feature map."""
    return seeded(torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, 2), torch.nn.ReLU()))


class TwoAnswers(torch.nn.Module):
    """A layer whose output is no tensor."""

    class Pair(torch.nn.Module):
        """Gives two tensors."""

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Twice the same."""
            return x, x

    def __init__(self) -> None:
        super().__init__()
        self.pair = self.Pair()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One of them."""
        one: torch.Tensor = self.pair(x)[0]
        return one


def two_answers() -> torch.nn.Module:
    """See TwoAnswers."""
    return TwoAnswers()


class Normalised(torch.nn.Module):
    """Carries its means as a buffer, as many do, in the shape that broadcasts."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([120.0, 110.0, 100.0]).view(1, 3, 1, 1))
        self.std = [60.0, 61.0, 62.0]
        self.conv = torch.nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One convolution."""
        answer: torch.Tensor = self.conv(x)
        return answer


def normalised() -> torch.nn.Module:
    """See Normalised."""
    return Normalised()


def grey() -> torch.nn.Module:
    """Has one mean for all colours."""
    module = Normalised()
    module.std = [60.0]
    return module


def fails() -> torch.nn.Module:
    """Needs a file that is not there, say."""
    raise FileNotFoundError("weights.bin")


def needs_argument(depth: int) -> torch.nn.Module:
    """A factory that cannot be called as it is."""
    return torch.nn.Identity() if depth else torch.nn.ReLU()


def no_module() -> int:
    """Returns something else."""
    return 3


NOT_CALLABLE = 3
