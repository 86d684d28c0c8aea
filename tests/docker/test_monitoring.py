"""What watches LaViSE names what is there: metrics, rules, their unit tests, dashboards, docs."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lavise_service import torchserve
from lavise_service.companion.metrics import Metrics
from scripts.check_monitoring import EXPLAINED, promtool, seen_live
from scripts.make_dashboards import dashboards
from scripts.monitoring.expressions import (
    DASHBOARDS,
    MONITORING,
    UNIT_TESTS,
    metrics,
    panel_queries,
    panels,
    rule_queries,
    rules,
)
from tests.helm_chart import CHART, ROOT

DOCS = ROOT / "docs" / "operations-monitoring.md"
# What Prometheus makes itself.
OF_PROMETHEUS = {"up", "ALERTS"}
ALERTS = {rule["alert"]: rule for _, rule in rules() if "alert" in rule}
needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="apt-get install prometheus"
)


def of_companion() -> dict[str, str]:
    """Names and types of the companion's own metrics, as a scrape shows them."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in Metrics().registry.collect()
    }


def of_worker() -> dict[str, str]:
    """Names and types of the worker's metrics."""
    declared = yaml.safe_load(
        Path(torchserve.__file__).with_name("metrics.yaml").read_text("utf-8")
    )
    return {
        one["name"]: kind
        for section in ("ts_metrics", "model_metrics")
        for kind, found in declared[section].items()
        for one in found
    }


def series(types: dict[str, str]) -> set[str]:
    """The names of the series of some metrics."""
    parts = {
        f"{name}{part}"
        for name, kind in types.items()
        if kind == "histogram"
        for part in ("_bucket", "_sum", "_count")
    }
    return {name for name, kind in types.items() if kind != "histogram"} | parts


@pytest.mark.parametrize("query", [*panel_queries(), *rule_queries()], ids=lambda one: one.where)
def test_every_expression_names_metrics_that_are_there(query: Any) -> None:
    recorded = {one.records for one in rule_queries()}
    there = series(of_companion()) | series(of_worker()) | recorded | OF_PROMETHEUS
    assert metrics(query.text) <= there


def test_what_is_explained_is_asked_for() -> None:
    assert set(EXPLAINED) <= of_worker().keys() | of_companion().keys()
    assert set(EXPLAINED) <= set.union(*(metrics(one.text) for one in panel_queries()))


def test_names_follow_the_conventions() -> None:
    for name, kind in of_companion().items():
        if name.startswith("lavise_"):
            assert name.endswith("_total") == (kind == "counter"), name
            assert kind != "histogram" or name.endswith("_seconds"), name


def test_dashboards_are_what_the_code_makes() -> None:
    made = dict(dashboards())
    assert set(made) == set(DASHBOARDS)
    for path, content in made.items():
        assert path.read_text("utf-8") == content, "run: make dashboards"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_laid_out_for_people(path: Path) -> None:
    dashboard = json.loads(path.read_text("utf-8"))
    assert dashboard["description"]
    assert len({one["id"] for one in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for one in dashboard["panels"]:
        place = one["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, one["title"]
        taken |= cells
    # The first row answers: numbers, from the top, over the whole width.
    first = [one for one in dashboard["panels"] if one["gridPos"]["y"] == 1]
    assert {one["type"] for one in first} == {"stat"}
    assert sum(one["gridPos"]["w"] for one in first) == 24


@pytest.mark.parametrize(
    "panel", [one for _, one in panels()], ids=[f"{b} {one['title']}" for b, one in panels()]
)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 10
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("alert", ALERTS.values(), ids=list(ALERTS))
def test_an_alert_says_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert len(told["description"]) > 80
    file, _, anchor = told["runbook_url"].partition("#")
    assert (ROOT / file) == DOCS
    assert anchor == alert["alert"].lower()
    assert f"### {alert['alert']}\n" in DOCS.read_text("utf-8")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_test_that_it_fires_and_one_that_it_does_not(name: str) -> None:
    fires, silent = set(), set()
    for path in UNIT_TESTS:
        for group in yaml.safe_load(path.read_text("utf-8"))["tests"]:
            for one in group.get("promql_expr_test", []):
                found = " ".join(sample["labels"] for sample in one["exp_samples"])
                if f'alertname="{name}",alertstate="firing"' in found:
                    fires.add(group["name"])
                elif name in one["expr"]:
                    silent.add(group["name"])
            for one in group.get("alert_rule_test", []):
                if one["alertname"] == name:
                    (fires if one["exp_alerts"] else silent).add(group["name"])
            if any(one["expr"] == "ALERTS" for one in group.get("promql_expr_test", [])):
                silent.add(group["name"])
    assert fires
    assert silent


@needs_prometheus
def test_promtool_finds_nothing_wrong() -> None:
    promtool()


def test_jobs_have_one_name_everywhere() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    jobs = {one["job_name"] for one in config["scrape_configs"]} - {"prometheus"}
    chart = (CHART / "templates" / "monitoring.yaml").read_text("utf-8")
    assert set(re.findall(r"targetLabel: job, replacement: ([\w-]+)", chart)) == jobs
    asked = " ".join(query.text for query in (*panel_queries(), *rule_queries()))
    assert set(re.findall(r'job="([\w-]+)"', asked)) == jobs


def test_the_documentation_lists_every_metric() -> None:
    text = DOCS.read_text("utf-8")
    listed = set(re.findall(r"^\| `(\w+)` ", text, re.MULTILINE))
    own = {name for name in of_companion() if name.startswith("lavise_")}
    assert listed == own | set(of_worker())
    for path in DASHBOARDS:
        assert json.loads(path.read_text("utf-8"))["title"] in text


@pytest.mark.server
@needs_prometheus
def test_every_metric_and_panel_shows_something(tiny_bundle: Path, tmp_path: Path) -> None:
    problems, _ = seen_live(tiny_bundle, tmp_path)
    assert problems == []
