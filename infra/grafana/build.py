"""From our panels to Grafana's JSON: `python -m infra.grafana.build` writes `dashboards/*.json`.

The SDK that is installed speaks the schema of Grafana 10.1, the oldest that it is made for: every later Grafana reads
that, none reads a later one. Boards are read-only where they are provisioned; whoever wants another one saves a copy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common as common_parts
from grafana_foundation_sdk.builders import dashboard as parts
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from infra.grafana.models import MODELS
from infra.grafana.regions import REGIONS
from infra.grafana.shapes import Board, Panel
from infra.grafana.streams import STREAMS

BOARDS = (REGIONS, STREAMS, MODELS)
DASHBOARDS_DIR = Path(__file__).with_name("dashboards")
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "meridian"

AnyPanel = stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel


def board_json(board: Board) -> str:
    """Return the JSON of a dashboard, as it is committed."""
    links = parts.DashboardLink("Meridian").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True)
    built = (
        parts.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .timezone("browser")
        .with_variable(parts.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .annotation(_failovers())
        .link(links)
    )
    for row in board.rows:
        if row.title:
            built.with_row(parts.Row(row.title).id(100 + board.rows.index(row)))
        for panel in row.panels:
            built.with_panel(_panel(panel))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _failovers() -> parts.AnnotationQuery:
    """A line in every graph where another region took over."""
    return (
        parts.AnnotationQuery()
        .name("Failovers")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("orange")
        .expr("sum by (region, reason) (changes(meridian_failovers_total[1m])) > 0")
    )


def _panel(panel: Panel) -> AnyPanel:
    made = _states() if panel.kind == "states" else {"stat": _stat, "lines": _lines, "table": _table}[panel.kind](panel)
    made.id(panel.id).title(panel.title).description(panel.description).datasource(SOURCE)
    made.span(panel.width).height(panel.height).unit(panel.unit)
    made.thresholds(_thresholds(panel))
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    if panel.words:
        made.mappings([_mapping(panel)])
    for number, query in enumerate(panel.queries):
        asked = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).ref_id(chr(ord("A") + number))
        asked.datasource(SOURCE)
        if panel.kind in {"stat", "table"}:
            asked.instant()
        else:
            asked.range()
        if panel.kind == "table":
            asked.format(PromQueryFormat.TABLE)
        made.with_target(asked)
    return made


def _stat(panel: Panel) -> AnyPanel:
    made = stat.Panel().graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.BACKGROUND)
    made.reduce_options(common_parts.ReduceDataOptions().calcs(["lastNotNull"])).no_value("none")
    # A region's name says more than the 1 that stands for it.
    return made.text_mode(common.BigValueTextMode.VALUE_AND_NAME if panel.words else common.BigValueTextMode.VALUE)


def _lines(panel: Panel) -> AnyPanel:
    legend = common_parts.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST)
    legend.placement(common.LegendPlacement.BOTTOM).show_legend(True)
    tooltip = common_parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    made = timeseries.Panel().line_width(1).fill_opacity(10).legend(legend).tooltip(tooltip)
    made.show_points(common.VisibilityMode.NEVER)
    if panel.low is not None:
        made.axis_soft_min(panel.low)
    if panel.stacked:
        made.stacking(common_parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if len(panel.steps) > 1:
        # The SDK misspells the name.
        style = common_parts.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        made.thresholds_style(style)
    return made


def _states() -> AnyPanel:
    made = statetimeline.Panel().show_value(common.VisibilityMode.AUTO).row_height(0.85).merge_values(True)
    return made.color_scheme(parts.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))


def _table(panel: Panel) -> AnyPanel:
    shown = {name: place for place, name in enumerate(panel.columns)}
    options: dict[str, Any] = {"include": {"names": list(panel.columns)}}
    made = table.Panel().show_header(True)
    made.with_transformation(dashboard.DataTransformerConfig(id_val="filterFieldsByName", options=options))
    order = {"indexByName": shown, "excludeByName": {}, "renameByName": {}}
    return made.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=order))


def _thresholds(panel: Panel) -> parts.ThresholdsConfig:
    steps = [dashboard.Threshold(value=value, color=color) for value, color in panel.steps]
    return parts.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _mapping(panel: Panel) -> dashboard.ValueMap:
    results = {
        value: dashboard.ValueMappingResult(text=word, color=color, index=place)
        for place, (value, word, color) in enumerate(panel.words)
    }
    return dashboard.ValueMap(options=results)


def main() -> None:
    """Write every board, and say where."""
    for board in BOARDS:
        path = DASHBOARDS_DIR / f"{board.uid}.json"
        path.write_text(board_json(board), encoding="utf-8")
        sys.stdout.write(f"{path}: {len(board.panels)} panels\n")


if __name__ == "__main__":
    main()
