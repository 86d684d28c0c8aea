"""A training's course as CSV: any spreadsheet, and TensorBoard's plugins, draw it."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lavise.errors import EnvironmentProblem

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS: Final = (
    "layer",
    "epoch",
    "step",
    "loss",
    "learning_rate",
    "held_out_recall@5",
    "seconds",
)


@dataclass(frozen=True)
class TrainingLog:
    """Lines of one layer's training in a file that all layers share.

    Attributes:
        file: The CSV file.
        layer: Name of the layer.
    """

    file: Path
    layer: str

    def begin(self, epochs: int) -> None:
        """Keeps the lines of other layers, and of this layer's first epochs, and no others.

        Args:
            epochs: That were done before, by a training that now goes on.

        Raises:
            EnvironmentProblem: The file cannot be written, or is something else.
        """
        kept = self._read()
        self._write(
            "w",
            [
                list(COLUMNS),
                *(row for row in kept if row[0] != self.layer or int(row[1]) <= epochs),
            ],
        )

    def _read(self) -> list[list[str]]:
        """The lines that are there."""
        if not self.file.is_file():
            return []
        try:
            with self.file.open(encoding="utf-8", newline="") as stream:
                heading, *rows = [*csv.reader(stream)] or [list(COLUMNS)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise self._problem("cannot be read") from error
        whole = [row for row in rows if len(row) == len(COLUMNS) and row[1].isdecimal()]
        if heading != list(COLUMNS) or len(whole) < len(rows):
            raise self._problem("is no log of a training")
        return whole

    def _problem(self, what: str) -> EnvironmentProblem:
        return EnvironmentProblem(f"log {str(self.file)!r} {what}; name another file", field="log")

    def add(
        self, epoch: int, step: int, loss: float, rate: float, recall: float | None, seconds: float
    ) -> None:
        """Adds the line of an epoch.

        Args:
            epoch: From 1.
            step: Steps so far.
            loss: Mean over the epoch.
            rate: The last learning rate.
            recall: recall@5 on what is held out, or None where nothing is.
            seconds: Since the training began.

        Raises:
            EnvironmentProblem: The file cannot be written.
        """
        said = "" if recall is None else f"{recall:.4f}"
        row = [self.layer, epoch, step, f"{loss:.6g}", f"{rate:.4g}", said, f"{seconds:.1f}"]
        self._write("a", [row])

    def _write(self, mode: str, rows: list[list[object]] | list[list[str]]) -> None:
        try:
            with self.file.open(mode, encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerows(rows)
        except OSError as error:
            raise self._problem(f"could not be written: {error.strerror}") from error
