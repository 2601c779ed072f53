"""The dashboards: the JSON is what the code makes, Grafana can take it, and every question can be answered."""

import json
import re
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from infra.grafana.build import BOARDS, DASHBOARDS_DIR, board_json
from infra.grafana.shapes import Board
from tests.support.monitoring import ROOT, promtool, unknown_names

GRAFANA = ROOT / "infra" / "grafana"
GRID_WIDTH = 24
KINDS = {"stat", "timeseries", "state-timeline", "table", "row"}
UNITS = {"short", "s", "ops", "reqps", "percentunit", "bytes", "Bps"}
each_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)


def committed(board: Board) -> Any:
    """The JSON as Grafana gets it."""
    return json.loads((DASHBOARDS_DIR / f"{board.uid}.json").read_text())


@each_board
def test_the_committed_json_is_what_the_code_makes(board: Board) -> None:
    """To make it again: `python -m infra.grafana.build`."""
    assert (DASHBOARDS_DIR / f"{board.uid}.json").read_text() == board_json(board)


def test_there_is_no_board_besides() -> None:
    """One that nobody makes any more would still be provisioned."""
    assert {path.stem for path in DASHBOARDS_DIR.glob("*.json")} == {board.uid for board in BOARDS}


@each_board
def test_grafana_can_take_it(board: Board) -> None:
    """Its own model reads it and says the same again; ids are unique, panels lie side by side on the grid."""
    plain = committed(board)
    read = Dashboard.from_json(plain)
    assert read.uid == board.uid and len(read.panels or []) == len(plain["panels"])
    assert plain["editable"] is False and plain["schemaVersion"] >= 36
    ids = [panel["id"] for panel in plain["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in plain["panels"]:
        assert panel["type"] in KINDS
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= GRID_WIDTH
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, f"{panel['title']} lies over another panel"
        taken |= cells


@each_board
def test_a_panel_says_what_it_shows(board: Board) -> None:
    """Title, a sentence, a unit; every query goes to the source that is chosen at the top."""
    for panel in committed(board)["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert [target["refId"] for target in panel["targets"]] == ["A", "B", "C"][: len(panel["targets"])]
        for target in panel["targets"]:
            assert target["expr"] and target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert target["instant"] is (panel["type"] in {"stat", "table"})


@each_board
def test_every_metric_of_a_board_is_one_that_a_process_shows(board: Board) -> None:
    """A panel that asks for a renamed metric is empty, and nobody asks why."""
    for panel in board.panels:
        for query in panel.queries:
            assert not unknown_names(query.expression), panel.title


def test_every_query_of_a_board_is_promql(tmp_path: Any) -> None:
    """Asked of promtool, as rules, because it checks those without a server."""
    rules = [
        {"record": f"board_{board.uid.replace('-', '_')}_{panel.id}_{number}", "expr": query.expression}
        for board in BOARDS
        for panel in board.panels
        for number, query in enumerate(panel.queries)
    ]
    file = tmp_path / "boards.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": rules}]}))
    assert re.search(rf"{len(rules)} rules found", promtool("check", "rules", file))


def test_the_first_row_of_regions_says_whether_a_failover_is_safe_now() -> None:
    """Without scrolling: six figures side by side."""
    first = BOARDS[0].rows[0].panels
    assert [panel.title for panel in first] == [
        "Active region", "Epoch", "Regions ready to be promoted", "Worst replication lag", "Canary age",
        "Forecast of a failover",
    ]  # fmt: skip
    assert sum(panel.width for panel in first) == GRID_WIDTH and all(panel.kind == "stat" for panel in first)


def test_boards_are_provisioned_and_cannot_be_changed_in_the_browser() -> None:
    """The source has the name that is written there, and the folder is the one that is mounted."""
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "meridian.yml").read_text())["providers"]
    assert provider["allowUiUpdates"] is False and provider["disableDeletion"] is True
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus" and source["isDefault"] is True and source["editable"] is False


def test_an_unknown_forecast_is_not_painted_green() -> None:
    """It is shown as NaN, and the colour of NaN is that of the lowest step."""
    panels = [panel for board in BOARDS for panel in board.panels if panel.kind == "stat"]
    queries = [query.expression for panel in panels for query in panel.queries if "rto_forecast" in query.expression]
    assert queries and all("rto_forecast_seconds >= 0" in query for query in queries)
