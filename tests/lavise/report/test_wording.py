import math

import pytest

from lavise.report.wording import (
    brief,
    count,
    digits_for,
    equals,
    file_name,
    full_names,
    headline,
    level,
    number,
    p_value,
    percent,
    short_names,
    signed,
)
from lavise.v1.bias_pb2 import Report, Side
from tests.lavise.report.sample_report import equal_report, sample_report

DASH = "\N{EN DASH}"


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{MINUS SIGN}", "-")


@pytest.mark.parametrize(
    ("value", "bare", "with_sign"),
    [
        (0.1234, "0.123", "+0.123"),
        (-0.1234, "-0.123", "-0.123"),
        (0, "0.000", "0.000"),
        (-0.0001, "0.000", "0.000"),
        (0.0001, "0.000", "0.000"),
        (math.nan, DASH, DASH),
        (-math.inf, DASH, DASH),
    ],
)
def test_numbers(value: float, bare: str, with_sign: str) -> None:
    assert plain(number(value)) == bare
    assert plain(signed(value)) == with_sign


def test_as_many_decimals_as_it_takes() -> None:
    assert digits_for([0.5, -0.127]) == 3
    assert digits_for([0.0127]) == 4
    assert digits_for([12.0]) == 2
    assert digits_for([1e-12]) == 6
    assert digits_for([math.nan, 0.0]) == digits_for([]) == 3


def test_shares_and_probabilities() -> None:
    assert plain(percent(0.256)) == "26 %"
    assert plain(percent(0.256, 1)) == "25.6 %"
    assert plain(level(1 - 0.05 / 2)) == "97.5 %"
    assert p_value(0) == p_value(0.0004) == "< 0.001"
    assert p_value(0.000999) == "0.001"
    assert plain(equals("p", 0.0123)) == "p = 0.012"
    assert plain(equals("q", 1e-9)) == "q < 0.001"


def test_counting() -> None:
    assert count(1, "image") == "1 image"
    assert count(12_000, "image") == "12,000 images"
    assert count(2, "filter does", "filters do") == "2 filters do"


@pytest.mark.parametrize(
    ("source", "name"),
    [("a/b/c.jpg", "c.jpg"), ("C:\\x\\y.png", "y.png"), ("dog", "dog"), ("a/", "a/"), ("", "")],
)
def test_file_names(source: str, name: str) -> None:
    assert file_name(source) == name


def test_a_long_text_keeps_its_beginning() -> None:
    assert brief("traffic light") == "traffic light"
    assert brief("x" * 32) == "x" * 32
    assert brief("x" * 33) == "x" * 31 + "…"


def test_the_headline_is_the_strongest_finding() -> None:
    found = headline(sample_report())
    assert found.words == ["lantern", "lamp", "candle"]
    assert (found.more_in, found.opposite, found.total) == ("a", "bicycle", 4)
    assert headline(equal_report()).words == []


def test_names() -> None:
    report = sample_report()
    assert short_names(report) == full_names(report) == {"a": "Night shift", "b": "Day shift"}
    report.b.display_name = "Night shift"
    assert short_names(report) == {"a": "A", "b": "B"}
    report.b.display_name = "x" * 300
    assert short_names(report) == {"a": "A", "b": "B"}
    assert full_names(Report(a=Side(name="imageSets/x"))) == {"a": "imageSets/x", "b": "Set B"}
