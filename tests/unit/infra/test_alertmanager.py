"""Who is told of an alert: asked of amtool, for every alert that there is."""

import pytest
import yaml

from tests.support.monitoring import ROOT, alerts, run

CONFIG = ROOT / "infra" / "alertmanager" / "alertmanager.yml"


def test_amtool_accepts_it() -> None:
    """Syntax, receivers that exist."""
    run("amtool", "check-config", CONFIG)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_reaches_the_receiver_of_its_severity(rule: dict[str, dict[str, str]]) -> None:
    """And in a deployment that exists to be broken, nobody."""
    severity = rule["labels"]["severity"]
    said = run("amtool", "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={severity}",
               f"alertname={rule['alert']}", f"severity={severity}", "region=east")  # fmt: skip
    assert severity in said


def test_a_drill_wakes_nobody_and_what_nobody_knows_is_not_lost() -> None:
    """`--label drill=yes` goes before severity; a foreign alert goes to whom it disturbs least."""
    run("amtool", "config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=drill",
        "alertname=RegionInactive", "severity=page", "drill=yes")  # fmt: skip
    run("amtool", "config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=warn", "alertname=Foreign")


def test_inhibition_speaks_of_alerts_that_exist() -> None:
    """A renamed alert would inhibit nothing, and say nothing."""
    known = {rule["alert"] for rule in alerts()}
    rules = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
    named = [word for rule in rules for word in [*rule["source_matchers"], *rule["target_matchers"]]]
    names = {name for matcher in named if matcher.startswith("alertname") for name in matcher.split('"')[1].split("|")}
    assert len(names) >= 8 and names <= known


def test_inhibition_keeps_to_its_deployment_and_silences_no_page_by_a_warning() -> None:
    """A drill's alerts go to nobody: what they silenced of a deployment that people use would be heard by nobody."""
    severity = {rule["alert"]: rule["labels"]["severity"] for rule in alerts()}
    for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]:
        assert "drill" in rule["equal"], rule
        (source,), (target,) = (
            [matcher for matcher in rule[side] if matcher.startswith("alertname")]
            for side in ("source_matchers", "target_matchers")
        )
        urgent = {name for name in target.split('"')[1].split("|") if severity[name] == "page"}
        assert not urgent or severity[source.split('"')[1]] == "page", f"{source} silences {urgent}"
