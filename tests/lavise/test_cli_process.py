"""The command line as a process: exit statuses, signals, pipes, imports, serving."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from lavise.bundle import open_bundle
from lavise.cli.errors import exit_status
from lavise.cli.output import shown
from lavise_service.torchserve import Ports
from tests.command_line import LAVISE, lavise, program
from tests.tiny_cnn import SPEC


def test_the_program_ends_as_documented(tiny_bundle: Path, tomato: Path, tmp_path: Path) -> None:
    good = program("explain", tiny_bundle, tomato)
    bad_option = program("explain", tiny_bundle, tomato, "--device", "abacus")
    no_bundle = program("explain", tmp_path, tomato)
    full = subprocess.run(
        ["/bin/sh", "-c", '"$0" "$@" > /dev/full', LAVISE, "explain", tiny_bundle, tomato],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (good.returncode, good.stderr) == (0, "")
    assert "tomato" in good.stdout
    assert (bad_option.returncode, bad_option.stdout) == (2, "")
    assert "abacus" in bad_option.stderr
    assert (no_bundle.returncode, no_bundle.stdout) == (2, "")
    assert no_bundle.stderr.startswith("error: ")
    assert no_bundle.stderr.count("\n") == 1
    assert (full.returncode, full.stderr) == (1, f"error: {os.strerror(errno.ENOSPC)}\n")


def test_debug_adds_the_traceback(tmp_path: Path) -> None:
    ended = program("inspect", tmp_path, LAVISE_DEBUG="1")

    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: ")


def test_a_reader_that_leaves_is_no_error(tiny_bundle: Path, tomato: Path) -> None:
    with subprocess.Popen(
        [LAVISE, "explain", tiny_bundle, *[tomato] * 40, "--all-filters"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.teach
def test_a_signal_ends_teaching_and_leaves_nothing(tmp_path: Path) -> None:
    spec = ["--cnn", SPEC, "--layer", "body", "--dataset", "demo"]
    with subprocess.Popen(
        [LAVISE, "teach", *spec, "--out", tmp_path / "bundle"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs, this test among them maybe, ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads
    ) as process:
        while process.poll() is None and not list(tmp_path.glob(".bundle*/cnn.onnx")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)  # in the middle of an import, often
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_serve_a_bundle_until_a_signal(tiny_bundle: Path, tomato: Path, tmp_path: Path) -> None:
    ports = Ports.free()
    options = {
        "--port": ports.rest,
        "--management-port": ports.management,
        "--metrics-port": ports.metrics,
        "--grpc-port": ports.grpc,
        "--grpc-management-port": ports.grpc_management,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with subprocess.Popen(
        [LAVISE, "serve", "--bundle", tiny_bundle, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "LAVISE_GRPC_LISTEN": "127.0.0.1:0",
            "LAVISE_HTTP_LISTEN": "127.0.0.1:0",
            "LAVISE_STORE": str(tmp_path),
        },
    ) as process:
        assert process.stdout is not None
        example = next(line.split() for line in process.stdout if line.startswith("  curl "))
        with httpx.Client(trust_env=False, timeout=30) as client:
            form = {"image": tomato.read_bytes(), "request": b'{"mostActive": 1}'}
            answer = client.post(example[-1], files=form).json()
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate()
    assert answer["bundleDigest"] == open_bundle(tiny_bundle).digest
    assert (process.returncode, log.splitlines()[-1]) == (0, "stopped")
    ports.check()  # all free again


def test_what_is_imported(tiny_bundle: Path, tomato: Path) -> None:
    # Loading torch takes seconds: commands that only answer must not.
    code = (
        "import sys; from lavise.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "sys.exit(sorted({'torch', 'onnx', 'gensim', 'grpc'} & sys.modules.keys()) or 0)"
    )
    for words in (["--help"], ["explain", tiny_bundle, tomato], ["inspect", tiny_bundle]):
        ended = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def test_unexpected_errors_ask_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("lavise.explainer.Explainer.open", fail)
    result = lavise("inspect", "anything")

    assert result.exit_code == 1
    assert result.stderr.startswith("error: unexpected ZeroDivisionError: two lines. ")
    assert "report" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lavise.catalog", None)
    monkeypatch.delitem(sys.modules, "lavise_service.archive", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delitem(sys.modules, "lavise_service.torchserve", raising=False)
    monkeypatch.delitem(sys.modules, "lavise_service.torchserve.process", raising=False)
    result = lavise("serve", "--model-store", tmp_path)

    assert result.exit_code == 1
    assert "needs the package 'httpx', which is not installed: pip install" in result.stderr


def test_exit_status_of_operating_system_errors() -> None:
    assert exit_status(PermissionError(errno.EACCES, "no", "file")) == 2
    assert exit_status(OSError(errno.ENOSPC, "full", "file")) == 1


def test_shown_names_are_printable() -> None:
    assert shown("cat\x1b[2J.jpg") == "cat�[2J.jpg"
    assert shown(os.fsdecode(b"\xff.jpg")) == "�.jpg"
    assert shown("Zürich 猫.jpg") == "Zürich 猫.jpg"
