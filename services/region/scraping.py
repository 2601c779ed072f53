"""What a Prometheus scrapes of a deployment: its processes, each with the site and the process that it is.

Processes do not say in their metrics where they run, because they would say it in every series. The scrape says it:
`region` is the site, `process` the one that answers there. Rules and dashboards count on these two labels.

A list of targets (file_sd), and not a look-up of names or of what is registered: a region that is gone must stay a
target, so that `up` becomes 0. Whoever asks DNS or the registry is told that there is nothing to scrape.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from services.common.deployment import Deployment, Site
from services.common.region_settings import RegionSettings

PROCESSES: Final = {
    "gateway": "gateway",
    "processor": "processor",
    "inference": "inference",
    "controller": "control",
    "replicator": "replicator",
}
"""Processes of a region that have a /metrics page, and the listener (of PORT_OFFSETS) that it is on."""
ALONE: Final = ("gateway", "processor", "inference")
"""What a region runs that has no other beside it."""
ETCD: Final = "etcd"
RULES_DIR: Final = Path(__file__).resolve().parents[2] / "infra" / "prometheus" / "rules"
RUNBOOKS_DIR: Final = Path(__file__).resolve().parents[2] / "docs" / "operating"
GRAFANA_URL: Final = "http://127.0.0.1:3000"
ETCD_KEPT: Final = (
    "etcd_server_(has_leader|is_leader|is_learner|leader_changes_seen_total|proposals_(failed|pending|committed)_?.*)"
    "|etcd_disk_(wal_fsync|backend_commit)_duration_seconds_.*|etcd_mvcc_db_total_size_in_bytes"
    "|process_(resident_memory_bytes|cpu_seconds_total|open_fds|start_time_seconds)"
)
"""etcd shows over a thousand series, most of them of gRPC: these say how it is."""


class TargetGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of Prometheus' file_sd and http_sd."""

    targets: list[str]
    labels: dict[str, str]


def targets_of(deployment: Deployment, labels: Mapping[str, str] | None = None) -> list[TargetGroup]:
    """Return every process of every site; `labels` come on top, to all of them."""
    found = []
    for site in deployment.sites:
        if site.kind == "region":
            found += [_group(site, process, listener, labels) for process, listener in PROCESSES.items()]
        found.append(_group(site, ETCD, "etcd_client", labels))
    return found


def targets_alone(region: RegionSettings, labels: Mapping[str, str] | None = None) -> list[TargetGroup]:
    """Return the processes of a region that is alone."""
    return [
        TargetGroup(
            targets=[f"{region.host}:{getattr(region, f'{process}_port')}"],
            labels={"region": region.name, "process": process, **(labels or {})},
        )
        for process in ALONE
    ]


def _group(site: Site, process: str, listener: str, labels: Mapping[str, str] | None) -> TargetGroup:
    return TargetGroup(
        targets=[f"{site.host}:{site.port(listener)}"],
        labels={"region": site.name, "process": process, **(labels or {})},
    )


def whole_config(groups: list[TargetGroup], scrape_seconds: int) -> dict[str, object]:
    """Return a configuration of Prometheus that scrapes these targets and judges our rules; JSON of it is YAML."""
    plain = [(group.labels["process"], msgspec.to_builtins(group)) for group in groups]
    interval = f"{scrape_seconds}s"
    jobs: list[dict[str, object]] = [
        {"job_name": "meridian", "static_configs": [group for process, group in plain if process != ETCD]}
    ]
    if members := [group for process, group in plain if process == ETCD]:
        kept = [{"source_labels": ["__name__"], "regex": ETCD_KEPT, "action": "keep"}]
        jobs.append({"job_name": "etcd", "static_configs": members, "metric_relabel_configs": kept})
    return {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": f"{min(scrape_seconds, 3)}s",
            "evaluation_interval": interval,
            "external_labels": {"runbooks": str(RUNBOOKS_DIR), "grafana": GRAFANA_URL},
        },
        "rule_files": [str(RULES_DIR / "*.yml")],
        "scrape_configs": jobs,
    }
