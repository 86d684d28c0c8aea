"""What Prometheus sees of who is turned away, and of the store."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trustme

from lavise.errors import EnvironmentProblem, InputError
from lavise_service.companion.certificates import expiry
from lavise_service.companion.metrics import Metrics
from lavise_service.companion.objects import open_objects
from lavise_service.companion.problems import (
    REFUSALS,
    NotFound,
    PermissionDenied,
    RequestTimeout,
    ResourceExhausted,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.full_disk import no_file_over

Value = Callable[..., float | None]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def value(metrics: Metrics) -> Value:
    def of(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"lavise_companion_{name}", labels)

    return of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unauthenticated("x"), "unauthenticated"),
        (PermissionDenied("x"), "permission"),
        (TooLarge("x"), "size"),
        (RequestTimeout("x"), "slow"),
        (ResourceExhausted("x"), "concurrency"),
        (ResourceExhausted("x", limit="rate"), "rate"),
        (ResourceExhausted("x", limit="store"), "store"),
        (Unavailable("x"), None),
        (InputError("x"), None),
        (NotFound("x"), None),
        (ValueError("x"), None),
    ],
)
def test_who_is_turned_away_is_counted_by_reason(
    metrics: Metrics, value: Value, error: Exception, reason: str | None
) -> None:
    metrics.refused(error)
    counts = {each: value("refusals_total", reason=each) for each in REFUSALS}
    assert counts == {each: float(each == reason) for each in REFUSALS}


def test_the_end_of_a_certificate_is_shown(tmp_path: Path, metrics: Metrics, value: Value) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    file = tmp_path / "server.pem"
    for pem in trustme.CA().issue_cert("lavise", not_after=ends).cert_chain_pems:
        file.write_bytes(pem.bytes())
    metrics.watch_certificate("server", partial(expiry, file))
    name = "certificate_expiry_timestamp_seconds"
    assert value(name, certificate="server") == ends.timestamp()
    file.write_bytes(b"-----BEGIN")  # being replaced: the scrape must not fail
    assert math.isnan(value(name, certificate="server") or 0)
    file.unlink()
    assert math.isnan(value(name, certificate="server") or 0)


def test_operations_of_the_store_are_timed_and_weighed(
    tmp_path: Path, value: Value, metrics: Metrics
) -> None:
    objects = open_objects(str(tmp_path / "store"), metrics=metrics.store)  # writes a probe
    objects.write("a/b", b"12345")
    assert objects.read("a/b") == b"12345"
    with objects.reading("a/b") as file:
        assert file.read(2) == b"12"
    assert [one.path for one in objects.list("a")] == ["a/b"]
    objects.delete("a/b")
    objects.delete_folder("a")
    with pytest.raises(FileNotFoundError):
        objects.read("a/b")
    counts = {
        operation: value("store_operation_seconds_count", operation=operation)
        for operation in ("write", "read", "list", "delete")
    }
    assert counts == {"write": 2, "read": 3, "list": 1, "delete": 3}
    assert value("store_written_bytes_total") == 5
    assert value("store_read_bytes_total") == 10
    # That a file is not there is an answer, and no error.
    assert value("store_errors_total", operation="read", reason="unavailable") == 0


def test_what_fails_in_the_store_is_counted(tmp_path: Path, value: Value, metrics: Metrics) -> None:
    objects = open_objects(str(tmp_path / "store"), metrics=metrics.store)
    with no_file_over(2**12), pytest.raises(ResourceExhausted) as caught:
        objects.write("large", bytes(2**16))
    assert caught.value.limit == "store"
    assert value("store_errors_total", operation="write", reason="full") == 1
    (tmp_path / "store" / "file").write_bytes(b"")
    with pytest.raises(EnvironmentProblem):
        objects.read("file/below")
    assert value("store_errors_total", operation="read", reason="unavailable") == 1
    assert value("store_written_bytes_total") == 0
