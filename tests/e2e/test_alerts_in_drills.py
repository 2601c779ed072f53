"""Real alerts of real drills: a Prometheus beside a deployment that is left alone for a while, and then broken.

Each drill begins with a minute and a half of load in which nothing happens, and nothing may fire; then it breaks
something and keeps it broken for two minutes, in which the right alerts must fire. Run by `make drill-alerts`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.grafana.build import BOARDS
from infra.runtime.network import unavailable
from services.region.network import network_of
from tests.support.deployment import LocalDeployment, meridian, running_deployment
from tests.support.prometheus import Prometheus, running_prometheus

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
QUIET_SECONDS = 70
"""Of load before anything is broken: longer than every `for:` and every rate of a minute."""
BROKEN_SECONDS = 120.0
"""Within which an alert has to fire: what is asked of it."""
SERIES_MAX = 2_000
HALF_LOAD = {"load.searches_per_second": 10.0, "load.events_per_second": 30.0}


@dataclass(frozen=True, slots=True)
class Case:
    """A drill, and what it has to set off."""

    drill: str
    fires: frozenset[str]
    may: frozenset[str] = frozenset()
    """Follows from it as well, sooner or later, or only on a busy machine."""
    network: str = "loopback"
    changes: tuple[str, ...] = ()


LOST = frozenset({"ProcessDown", "NoRegionReady", "ReplicationLagHigh", "ReceiptOpen"})
FOLLOWS = frozenset({"FencedWrites", "InferenceDegraded", "CanaryLost", "RequestsFail"})
CASES = (
    Case("kill-active", frozenset({"FailoverHappened"}) | LOST, FOLLOWS),
    Case(
        "inference-hang",
        frozenset({"InferenceDegraded", "ProcessDown"}),
        frozenset({"FailoverHappened", "NoRegionReady", "ReceiptOpen"}) | FOLLOWS,
    ),
    Case("partition-data-only", frozenset({"ReplicationLagHigh"}), LOST | FOLLOWS, network="namespaces"),
    Case(
        "etcd-quorum-lost",
        frozenset({"RegionInactive", "CoordinationSilent"}),
        frozenset({"FailoverHappened", "LeaseFlapping", "RtoForecastHigh"}) | LOST | FOLLOWS,
        changes=("faults.0.for_seconds=90",),
    ),
)


def starved() -> str | None:
    """Why nothing that happens here would say anything about alerts; None when the machine has time for a drill.

    Regions on a machine with three times as much to do as it can are not well: leases run out, canaries are lost, and
    alerts are right to say so.
    """
    waiting, cores = os.getloadavg()[0], os.cpu_count() or 1
    return f"{waiting:.0f} processes want {cores} cores: regions would not be well" if waiting > 3 * cores else None


def drill(case: Case, deployment: LocalDeployment, out: Path) -> dict[str, float]:
    """Carry it out on the deployment; the unix seconds at which each phase began."""
    changes = [f"{name}={value}" for name, value in HALF_LOAD.items()]
    changes += [f"phases.warm_up_seconds={QUIET_SECONDS}", f"phases.fault_seconds={BROKEN_SECONDS + 5}", *case.changes]
    words = [sys.executable, "-m", "region_sim", "run", case.drill, "--attach", str(deployment.directory)]
    words += ["--out", str(out), *(word for change in changes for word in ("--set", change))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=800, check=False)
    history = out / case.drill / "latest" / "history.jsonl"
    assert history.exists(), done.stdout + done.stderr
    entries = [json.loads(line) for line in history.read_text().splitlines()]
    phases = {entry["note"]: entry["unix_ms"] / 1000 for entry in entries if entry["op"] == "phase"}
    print(f"{case.drill}: exit code {done.returncode}, phases at", {n: round(t) for n, t in phases.items()})
    return phases


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.drill)
def test_nothing_fires_until_something_breaks_and_then_the_right_alerts_do(case: Case, tmp_path: Path) -> None:
    """A clean run, and the drill, over Prometheus' own API; panels and scrapes on the way."""
    if case.network == "namespaces" and (reason := unavailable()) is not None:
        pytest.skip(f"no network namespaces here: {reason}")
    if (busy := starved()) is not None:
        pytest.skip(busy)
    with running_deployment(tmp_path / "d", network=case.network) as (deployment, _):
        config = tmp_path / "prometheus.yml"
        config.write_text(meridian("prometheus-targets", "--data-dir", str(deployment.directory), "--config").stdout)
        with running_prometheus(config, tmp_path / "prometheus", network_of(deployment.deployment)) as prometheus:
            phases = drill(case, deployment, tmp_path / "drills")
            broken, begun = phases["fault"], phases["warm-up"]
            fired = prometheus.alerts(broken, broken + BROKEN_SECONDS)
            early = prometheus.alerts(begun, broken)
            pending = prometheus.alerts(begun + 30, broken, "pending")
            print(f"{case.drill}: fired, seconds after the fault: {fired}; before it: {early}, pending: {pending}")
            assert not early
            assert case.fires <= set(fired), f"missing: {case.fires - set(fired)}"
            assert set(fired) <= case.fires | case.may, f"too many: {set(fired) - case.fires - case.may}"
            every_alert_is_a_whole_sentence(prometheus)
            scrapes_are_few(prometheus, broken - 1)
            no_panel_is_empty(prometheus, broken - 1)


def every_alert_is_a_whole_sentence(prometheus: Prometheus) -> None:
    """No template that found nothing, no link without its beginning."""
    for alert in prometheus.ask("alerts")["alerts"]:
        for name, text in alert["annotations"].items():
            assert "no value" not in text and "error" not in text and "  " not in text, f"{name}: {text}"
        assert Path(alert["annotations"]["runbook_url"]).is_file(), alert["annotations"]
        assert alert["annotations"]["dashboard_url"].startswith("http://"), alert["annotations"]


def scrapes_are_few(prometheus: Prometheus, at: float) -> None:
    """Every process is scraped, a region has few series; times are only shown, a machine that drills is a busy one."""
    assert all(prometheus.up(at).values()), prometheus.up(at)
    series = {
        each["metric"]["region"]: int(float(each["value"][1]))
        for each in prometheus.query("sum by (region) (scrape_samples_post_metric_relabeling)", at)
    }
    usual = _by_process(prometheus, "quantile_over_time(0.5, scrape_duration_seconds[1m])", at)
    worst = _by_process(prometheus, "max_over_time(scrape_duration_seconds[1m])", at)
    print("series:", series)
    print("scrapes in ms, the usual and the worst:", {n: (usual[n], worst[n]) for n in usual})
    assert max(series.values()) < SERIES_MAX


def _by_process(prometheus: Prometheus, expression: str, at: float) -> dict[str, float]:
    """Milliseconds, rounded, of each process of each region."""
    found: dict[str, float] = {}
    for each in prometheus.query(expression, at):
        name = f"{each['metric']['region']}/{each['metric']['process']}"
        found[name] = round(float(each["value"][1]) * 1000, 1)
    return found


def no_panel_is_empty(prometheus: Prometheus, at: float) -> None:
    """Every query of every board has a sample that is a number, while all is well."""
    empty: list[str] = []
    for board in BOARDS:
        for panel in board.panels:
            for query in panel.queries:
                found: list[Any] = prometheus.query(query.expression, at)
                if not any(each["value"][1] != "NaN" for each in found):
                    empty.append(f"{board.uid} {panel.id} {panel.title}: {query.expression}")
    assert not empty, "\n".join(empty)
