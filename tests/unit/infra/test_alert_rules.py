"""The alert rules: what sets them off (asked of promtool), that what they ask for exists, and that a runbook does."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "infra" / "prometheus" / "rules" / "meridian.yml"
CASES = sorted((ROOT / "infra" / "prometheus" / "tests").glob("*.yml"))
ALERTS = ["RegionInactive", "ReplicationLagHigh", "FailoverHappened", "ReceiptOpen", "GapAlarm"]


def promtool(*words: str | Path) -> None:
    """Run promtool; the test fails with what it says."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed: the alert rules are not tested here")
    done = subprocess.run([found, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    """Syntax, and what promtool lints."""
    promtool("check", "rules", RULES)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_rules_fire_when_they_should_and_only_then(case: Path) -> None:
    """Each alert with its cause, and with what looks like it."""
    promtool("test", "rules", case)


def test_every_metric_in_a_rule_is_one_that_a_process_shows() -> None:
    """A renamed metric would silence its alert for ever: nothing is never above a threshold."""
    source = "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    shown = set(re.findall(r'"(meridian_[a-z_]+)"', source))
    asked = set(re.findall(r"\bmeridian_[a-z_]+", RULES.read_text()))
    assert len(asked) >= 8
    assert not {name for name in asked if name not in shown and name.removesuffix("_total") not in shown}


def test_every_alert_is_there_and_has_its_runbook() -> None:
    """Whoever is woken up is told what to do."""
    text = RULES.read_text()
    assert re.findall(r"- alert: (\w+)", text) == ALERTS
    runbooks = re.findall(r"runbook: (\S+)", text)
    assert len(runbooks) == len(ALERTS)
    assert not [name for name in runbooks if not (ROOT / name).is_file()]
