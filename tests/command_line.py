"""Runs ``lavise`` in this process, or as the program that a shell runs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from typer.testing import CliRunner, Result

from lavise.cli import app

LAVISE = Path(sys.executable).with_name("lavise")
M = TypeVar("M", bound=Message)


def lavise(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def parsed(result: Result, message: M) -> M:
    """The whole of stdout as a message: nothing else may be there."""
    assert result.exit_code == 0, result.stderr
    return json_format.Parse(result.stdout, message)


def program(*words: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs the installed program, as a shell would."""
    return subprocess.run(
        [LAVISE, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def refused(result: Result, *said: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.output
    for text in said:
        assert text in result.stderr
