"""Every PromQL expression of the dashboards and the rules, and the metrics that each names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import promql_parser
import yaml

MONITORING: Final = Path(__file__).resolve().parents[2] / "docker" / "monitoring"
RULES: Final = sorted((MONITORING / "rules").glob("*.yaml"))
DASHBOARDS: Final = sorted((MONITORING / "dashboards").glob("*.json"))
UNIT_TESTS: Final = sorted((MONITORING / "tests").glob("*.yaml"))


class Query(NamedTuple):
    """An expression.

    Attributes:
        where: The dashboard and panel, or the file and rule.
        text: In PromQL; a dashboard's variables stand in it.
        records: The name that its value is recorded under, if it is.
    """

    where: str
    text: str
    records: str = ""


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each panel that asks something, with the title of its dashboard."""
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text("utf-8"))
        yield from ((dashboard["title"], one) for one in dashboard["panels"] if "targets" in one)


def panel_queries() -> Iterator[Query]:
    """Each query of each panel."""
    for dashboard, panel in panels():
        for target in panel["targets"]:
            yield Query(f"{dashboard} / {panel['title']} {target['refId']}", target["expr"])


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each rule, with the name of its file."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            yield from ((path.name, rule) for rule in group["rules"])


def rule_queries() -> Iterator[Query]:
    """The expression of each rule."""
    for file, rule in rules():
        recorded = rule.get("record", "")
        yield Query(f"{file} / {recorded or rule['alert']}", rule["expr"], recorded)


def asked(text: str, interval: str) -> str:
    """A panel's query as Grafana asks it, for all namespaces.

    Args:
        text: With Grafana's variables.
        interval: What the range of rates is.
    """
    return text.replace("$namespace", ".*").replace("$__rate_interval", interval)


def metrics(text: str) -> set[str]:
    """The names of the series that an expression reads.

    Raises:
        ValueError: It is no PromQL.
    """
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            if not node.name:
                raise ValueError(f"a selector without a name in {text}")
            found.add(node.name)
        return True

    promql_parser.walk(promql_parser.parse(asked(text, "1m")), visit)
    return found
