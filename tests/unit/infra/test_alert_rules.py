"""The alert rules: what sets them off (asked of promtool), that what they ask for exists, and that a runbook does."""

import re
from pathlib import Path

import pytest

from infra.grafana.build import BOARDS
from tests.support.monitoring import ROOT, RULES, alerts, promtool, rules, unknown_names

CASES = sorted((ROOT / "infra" / "prometheus" / "tests").glob("*.yml"))
ALERTS = {
    "RegionInactive", "CanaryLost", "StreamStalled", "GapAlarm", "LeaseFlapping", "NoRegionReady", "RtoForecastHigh",
    "ReplicationLagHigh", "FailoverHappened", "FencedWrites", "ReceiptOpen", "InferenceDegraded", "InboxStalled",
    "CoordinationSilent", "ProcessDown", "DeadLetters", "RequestsFail",
}  # fmt: skip
HEADINGS = ("Meaning", "Impact", "Diagnosis", "Mitigation")
LEVELS = re.compile(r"(region|deployment):[a-z0-9_]+:[a-z0-9_]+")


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_promtool_accepts_the_rules(path: Path) -> None:
    """Syntax, and what promtool lints."""
    promtool("check", "rules", "--lint-fatal", path)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_rules_fire_when_they_should_and_only_then(case: Path) -> None:
    """Each alert with its cause, and with what looks like it; a clean run; drills."""
    promtool("test", "rules", case)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_in_a_rule_is_one_that_a_process_shows(rule: dict[str, str]) -> None:
    """A renamed metric would silence its alert for ever: nothing is never above a threshold."""
    assert not unknown_names(rule["expr"])


def test_the_check_of_names_finds_a_wrong_one() -> None:
    """Of a metric, of a counter's ending, of a recorded series; what stands in a string is no name."""
    assert unknown_names("rate(meridian_failover_total[1m]) + region:active:min") == {
        "meridian_failover_total", "region:active:min",
    }  # fmt: skip
    assert not unknown_names('meridian_gateway_request_seconds_bucket{route="meridian_x"} + region:active:max')


def test_recorded_series_are_named_by_level_metric_and_operations() -> None:
    """`region:stream_lag_seconds:max`; what is summed away says so in the level."""
    wrong = [rule["record"] for rule in rules() if "record" in rule and not LEVELS.fullmatch(rule["record"])]
    assert not wrong


def test_every_alert_is_there_and_tried() -> None:
    """One that no case sets off is one that may never fire."""
    assert {rule["alert"] for rule in alerts()} == ALERTS
    tried = "\n".join(case.read_text() for case in CASES)
    fires = {name for name in ALERTS if f'alertname="{name}", alertstate="firing"' in tried}
    assert fires == ALERTS


def test_every_drill_has_its_case() -> None:
    """A drill that comes new must say whom it wakes, or that it wakes nobody."""
    (drills,) = [case for case in CASES if case.name == "drills.yml"]
    named = set(re.findall(r"[a-z]+(?:-[a-z]+)+", " ".join(re.findall(r"- name: (.*)", drills.read_text()))))
    assert named >= {path.stem for path in (ROOT / "region_sim" / "drills").glob("*.toml")}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, dict[str, str]]) -> None:
    """How urgent, what it is, where the page and the panel are; both exist."""
    assert rule["labels"]["severity"] in {"page", "warn"}
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook", "runbook_url", "dashboard_url"}
    page = ROOT / said["runbook"]
    assert page.parent == ROOT / "docs" / "operating"
    assert said["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{page.name}"
    text = page.read_text()
    missing = [word for word in HEADINGS if not re.search(rf"(\*\*{word}\.\*\*|^#+ {word})", text, re.MULTILINE)]
    assert not missing, f"{page.name} lacks {missing}"
    assert rule["alert"] in text, f"{page.name} does not name its alert"
    found = re.fullmatch(r"\{\{ \$externalLabels\.grafana \}\}/d/([a-z-]+)\?viewPanel=(\d+)", said["dashboard_url"])
    assert found is not None, said["dashboard_url"]
    panels = {board.uid: {panel.id for panel in board.panels} for board in BOARDS}
    assert int(found[2]) in panels[found[1]]


def test_the_page_on_monitoring_lists_every_alert() -> None:
    """With its severity and its page."""
    text = (ROOT / "docs" / "operating" / "monitoring.md").read_text()
    for rule in alerts():
        row = (
            rf"\| `{rule['alert']}` \| {rule['labels']['severity']}.*\]\({Path(rule['annotations']['runbook']).name}\)"
        )
        assert re.search(row, text), f"no row for {rule['alert']} ({rule['labels']['severity']})"
