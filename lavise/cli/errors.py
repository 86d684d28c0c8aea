"""Every failure as one line on stderr and an exit status; never a traceback."""

import os
import sys
import traceback
from types import FrameType
from typing import Any, Final, NoReturn

from typer.core import TyperGroup

from lavise.errors import EnvironmentProblem, LaviseError

BAD_INPUT: Final = 2
FAILED: Final = 1
_DEBUG: Final = "LAVISE_DEBUG"
_signals: Final[list[int]] = []
"""Those that asked this process to end."""


def end_by_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """A signal handler: ends the process with 128 + number, cleaning up on the way.

    Args:
        number: The signal.

    Raises:
        SystemExit: Always.
    """
    _signals.append(number)
    raise SystemExit(128 + number)


class Commands(TyperGroup):
    """The commands, and what becomes of the errors that leave them.

    Wrong options are answered by Typer itself, with exit status 2.
    """

    def main(self, *args: Any, **extra: Any) -> Any:  # noqa: ANN401 - Typer's own signature
        """Runs a command; ends the process with its exit status."""
        try:
            return super().main(*args, **extra)
        except Exception as error:  # noqa: BLE001 - the last place before a traceback
            _end(error)


def exit_status(error: Exception) -> int:
    """The exit status of an error.

    Args:
        error: What left a command.

    Returns:
        2 where another input would help, 1 otherwise.
    """
    if isinstance(error, LaviseError):
        return FAILED if isinstance(error, EnvironmentProblem) else BAD_INPUT
    named_wrongly = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
    return BAD_INPUT if isinstance(error, named_wrongly) else FAILED


def show_error(error: Exception) -> None:
    """Says on stderr what was wrong, in one line; with its traceback where LAVISE_DEBUG is set.

    Args:
        error: What left a command, or one image of several.
    """
    if os.environ.get(_DEBUG):
        traceback.print_exception(error)
    sys.stderr.write(f"error: {_sentence(error)}\n")


def _sentence(error: Exception) -> str:
    if isinstance(error, LaviseError):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package not in {"lavise", "lavise_service", "lavise_handler"}:
            return (
                f"this command needs the package {package!r}, which is not installed: "
                "pip install 'lavise[teach,serve]'"
            )
    what = " ".join(str(error).split())
    return (
        f"unexpected {type(error).__name__}: {what}. This is a defect of LaViSE: please report "
        f"it, with what {_DEBUG}=1 adds to this line"
    )


def _end(error: Exception) -> NoReturn:
    if _signals:
        # Compiled modules turn what a signal raises inside them into errors of their own.
        raise SystemExit(128 + _signals[0]) from None
    if isinstance(error, OSError) and error.filename is None:
        # stdout may be what failed, with lines still waiting that would fail again at the end.
        _let_go_of_stdout()
    show_error(error)
    raise SystemExit(exit_status(error)) from None


def _let_go_of_stdout() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
