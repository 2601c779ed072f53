"""What the tests of rules, routes and dashboards share: the programs that judge them, and what our processes show."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted((ROOT / "infra" / "prometheus" / "rules").glob("*.yml"))
OTHERS = re.compile(r"etcd_\w+|process_\w+|up|ALERTS|kafka_consumergroup_\w+")
"""Metrics that are shown under names that are not ours."""


def run(program: str, *words: str | Path) -> str:
    """Run a program that may be missing; the test fails with what it says."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed (apt-get install prometheus prometheus-alertmanager)")
    done = subprocess.run([found, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def promtool(*words: str | Path) -> str:
    """Run promtool."""
    return run("promtool", *words)


@cache
def rules() -> list[dict[str, Any]]:
    """All rules, alerts and recordings."""
    files = [yaml.safe_load(path.read_text()) for path in RULES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """The alerts alone."""
    return [rule for rule in rules() if "alert" in rule]


@cache
def shown() -> set[str]:
    """The names that stand in the sources of the processes."""
    source = "\n".join(path.read_text() for path in (ROOT / "services").rglob("*.py"))
    named = set(re.findall(r'"(meridian_[a-z_]+)"', source))
    named |= {f"meridian_inference_{name}" for name in re.findall(r'prefix \+ "([a-z_]+)"', source)}
    return named | {rule["record"] for rule in rules() if "record" in rule}


def unknown_names(expression: str) -> set[str]:
    """Metrics that an expression asks for and no process shows, nor any recording rule makes."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    asked = set(re.findall(r"\b(?:meridian_[a-z_]+|(?:region|deployment):[a-z0-9_]+:[a-z0-9_]+)", bare))

    def known(name: str) -> bool:
        plain = re.sub(r"_(total|bucket|sum|count)$", "", name)
        return bool({name, plain, f"{plain}_total"} & shown())

    return {name for name in asked if not known(name)}
