"""The two kinds of panels that the dashboards are made of, and the frame around them.

Every query is bound to the dashboard's namespaces, where there are any: IN stands for the matcher.
"""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

# What variables of a panel's query stand for when it is asked outside Grafana.
IN: Final = 'namespace=~"$namespace"'
RATE: Final = "$__rate_interval"
_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_TAG: Final = "lavise"
_HIGH: Final = 8
_WIDTH: Final = 24

Series = tuple[str, str]
"""A query, and what its lines are called: text with {{label}} in it."""


def number(
    title: str,
    description: str,
    query: str,
    *,
    unit: str,
    alarming: float | None = None,
    below: bool = False,
    decimals: int | None = None,
) -> stat.Panel:
    """A number with its recent course, red where it is alarming.

    Args:
        title: What it is.
        description: What it means, and when to worry.
        query: With one answer.
        unit: Grafana's name of the unit.
        alarming: From which value on it is red; never where None.
        below: Red below that value instead, green from it on.
        decimals: Of the number.
    """
    colours = ("red", "green") if below else ("green", "red")
    steps = [Threshold(value=None, color="blue" if alarming is None else colours[0])]
    if alarming is not None:
        steps.append(Threshold(value=alarming, color=colours[1]))
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .height(4)
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_query(query, title, "A"))
    )
    return panel if decimals is None else panel.decimals(decimals)


def lines(
    title: str,
    description: str,
    *series: Series,
    unit: str,
    most: float | None = None,
    stacked: bool = False,
) -> timeseries.Panel:
    """Lines over time.

    Args:
        title: What they are.
        description: What they mean, and when to worry.
        series: The queries.
        unit: Grafana's name of the unit.
        most: The end of the axis, where the unit has one.
        stacked: Whether they add up to something.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_SOURCE)
        .unit(unit)
        .min(0)
        .height(_HIGH)
        .fill_opacity(30 if stacked else 5)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
    )
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    for letter, (query, legend) in zip("ABCDEF", series, strict=False):
        panel.with_target(_query(query, legend, letter))
    return panel


def row(board: dashboard.Dashboard, title: str, *panels: stat.Panel | timeseries.Panel) -> None:
    """Adds a row of panels that share its width."""
    board.with_row(dashboard.Row(title))
    for panel in panels:
        board.with_panel(panel.span(_WIDTH // len(panels)))


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """An empty dashboard: the last hour, all namespaces, links to the others.

    Args:
        uid: Its name in addresses.
        title: Its name for people.
        description: The question that it answers.
    """
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([_TAG])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("LaViSE")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("namespace")
            .label("Namespace")
            .datasource(_SOURCE)
            .query("label_values(lavise_companion_ready, namespace)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            # Also what has no namespace at all, as under compose.
            .all_value(".*")
        )
    )


def quantiles(bucket: str, matchers: str, by: Sequence[str] = ()) -> str:
    """The 95th percentile of a histogram, by some labels."""
    labels = ", ".join((*by, "le"))
    return f"histogram_quantile(0.95, sum by ({labels}) (rate({bucket}{{{matchers}}}[{RATE}])))"


def _query(query: str, legend: str, letter: str) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery().expr(query).legend_format(legend).ref_id(letter).datasource(_SOURCE)
    )
