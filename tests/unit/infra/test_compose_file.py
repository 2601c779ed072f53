"""docker-compose.multiregion.yml keeps what it promises, and says nothing else than the rest of the project."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.docker import compose
from infra.runtime.kafka import server_properties
from services.common.deployment import PORT_OFFSETS
from services.region.containers import for_this_machine

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "docker-compose.multiregion.yml"
ONE_SHOTS = ("keys", "east-etcd-prepare", "west-etcd-prepare", "north-etcd-prepare")
ADDRESSES = {"listeners", "advertised.listeners", "controller.quorum.bootstrap.servers", "log.dirs"}
"""What start.sh adds to a broker's settings."""


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The file as compose reads it, but for variables."""
    return dict(yaml.safe_load(FILE.read_text()))


@pytest.fixture(scope="module")
def services(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every service by its name."""
    return dict(whole["services"])


def test_the_services_of_a_site_are_those_that_drills_break(services: dict[str, dict[str, Any]]) -> None:
    """Names that others build upon."""
    regions = {f"{s}{part}" for s in ("east", "west") for part in ("", "-net", "-etcd", "-etcd-prepare", "-kafka")}
    regions |= {f"{site}-inference{kind}" for site in ("east", "west") for kind in ("", "-gpu")}
    witness = {"north-net", "north-etcd", "north-etcd-prepare"}
    assert set(services) == regions | witness | {"keys", "console", "prometheus", "alertmanager", "grafana"}


def test_a_site_is_one_network_namespace(services: dict[str, dict[str, Any]]) -> None:
    """All of a site's containers live in its holder's; only holders are on networks and publish ports."""
    for name, service in services.items():
        site = name.partition("-")[0]
        if site not in {"east", "west", "north"}:
            continue
        if name.endswith("-net"):
            assert service["networks"] == {site: {"aliases": [site]}, "wan": {"aliases": [site]}}, name
            assert service["extra_hosts"] == [f"{site}:127.0.0.1"], name
        else:
            assert service["network_mode"] == f"service:{site}-net", name
            assert "ports" not in service, name
            assert service["depends_on"][f"{site}-net"]["restart"] is True, f"{name} would live in a dead namespace"


def test_volumes_of_a_wipe_hold_nothing_that_must_outlive_it(whole: dict[str, Any]) -> None:
    """A wipe removes SITE-data, SITE-kafka and SITE-etcd; containers that stay must not use them."""
    named = {f"{site}-{what}" for site in ("east", "west") for what in ("data", "kafka", "etcd")} | {"north-etcd"}
    assert named <= set(whole["volumes"])
    for name, service in whole["services"].items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source in named:
                assert name.startswith(source.partition("-")[0]), f"{name} uses {source}"
    keys = whole["services"]["keys"]["volumes"]
    assert keys == ["deployment:/var/meridian", "keys:/var/meridian/keys"]


def test_every_container_is_locked_down(services: dict[str, dict[str, Any]]) -> None:
    """No root, no capability, nothing written outside of volumes and memory, bounded memory and logs."""
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "mem_limit" in service, name
        assert service["logging"]["options"]["max-size"], name
        if name != "grafana":  # its image names its own user
            assert not service["user"].startswith(("0", "root")), name


def test_every_lasting_container_has_a_health_check(services: dict[str, dict[str, Any]]) -> None:
    """`up --wait` returns on these."""
    for name, service in services.items():
        assert ("healthcheck" in service) == (name not in ONE_SHOTS), name


def test_images_are_pinned_and_can_be_replaced(services: dict[str, dict[str, Any]]) -> None:
    """Each default names a version, and each is behind a variable, for images that were built here."""
    for name, service in services.items():
        found = re.fullmatch(r"\$\{(MERIDIAN_\w+):-([^:}]+):([^}]+)\}", service["image"])
        assert found is not None, f"{name}: {service['image']}"
        assert re.search(r"\d+\.\d+\.\d+", found[3]), f"{name}: {found[3]} is no version"


def _published(services: dict[str, dict[str, Any]]) -> Iterator[tuple[str, int]]:
    for name, service in services.items():
        for port in service.get("ports", []):
            host, outside, inside = str(port).split(":")
            assert host == "127.0.0.1", f"{name} publishes {port} to the world"
            assert outside == inside, name
            yield name, int(inside)


def test_published_ports_are_those_of_the_deployment(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """A site's listeners have the numbers that every process computes; what is checked before a start is the same."""
    deployment = for_this_machine(tmp_path)
    published = dict.fromkeys(["east", "west", "north"], frozenset[int]())
    for name, port in _published(services):
        if name.endswith("-net"):
            published[name.removesuffix("-net")] |= {port}
    for region in deployment.regions:
        inside_only = {"controller", "etcd_peer"}
        assert published[region.name] == {region.port(listener) for listener in set(PORT_OFFSETS) - inside_only}
    assert published["north"] == {deployment.site("north").port("etcd_client")}
    assert set(compose.PORTS) == frozenset[int]().union(*published.values())


def test_listeners_inside_have_the_deployments_ports(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """Health checks, and what Kafka is told."""
    for site in for_this_machine(tmp_path).sites:
        etcd = services[f"{site.name}-etcd"]["healthcheck"]["test"]
        assert f"--endpoints=http://127.0.0.1:{site.port('etcd_client')}" in etcd
        if site.kind == "witness":
            continue
        kafka = services[f"{site.name}-kafka"]["environment"]
        assert kafka["MERIDIAN_SITE"] == site.name
        assert kafka["MERIDIAN_KAFKA_PORT"] == str(site.port("kafka"))
        assert kafka["MERIDIAN_KAFKA_QUORUM"] == str(site.port("controller"))
        checks = " ".join(services[site.name]["healthcheck"]["test"])
        for listener in ("gateway", "processor", "replicator", "control"):
            assert f" {site.port(listener)}/readyz" in checks, listener
        assert checks.endswith(f"--active {site.port('gateway')}/v1/regions")


def test_a_broker_in_a_container_has_the_settings_of_one_that_is_a_process(tmp_path: Path) -> None:
    """Retention, elections, sessions: one difference here is one promise less there."""

    def read(text: str) -> dict[str, str]:
        lines = (line for line in text.splitlines() if line and not line.startswith("#"))
        return dict(line.split("=", 1) for line in lines)

    wanted = {k: v for k, v in read(server_properties(tmp_path, 1, 2)).items() if k not in ADDRESSES}
    assert read((ROOT / "infra" / "docker" / "kafka" / "common.properties").read_text()) == wanted


def test_an_old_docker_compose_is_told_what_to_run(whole: dict[str, Any]) -> None:
    """1.29 stops at a variable that only Compose 2 sets, and prints this sentence; every service has it."""
    sentence = whole["x-compose-2"]["meridian.compose"]
    assert sentence.startswith("${COMPOSE_PROJECT_NAME:?")
    assert "`docker compose`" in sentence
    assert all(service["labels"] == whole["x-compose-2"] for service in whole["services"].values())


def test_health_checks_leave_the_processors_alone(services: dict[str, dict[str, Any]]) -> None:
    """Each costs 60 to 90 ms of CPU, most of it Docker's: two regions may spend a tenth of a core on them."""
    core = [service for service in services.values() if "core" in service["profiles"] and "healthcheck" in service]
    a_second = sum(1 / int(service["healthcheck"]["interval"].removesuffix("s")) for service in core)
    assert a_second <= 1.5


def test_no_container_depends_on_the_daemons_own_limit_of_files(services: dict[str, dict[str, Any]]) -> None:
    """Newer daemons give 1,024; a gateway has a file for each client, a broker several for each segment.

    A daemon that may not raise its own limit refuses to start what wants more, so more than enough is too many.
    """
    assert all(service["ulimits"]["nofile"] == 16384 for service in services.values())


def test_every_published_port_is_looked_at_before_a_start(services: dict[str, dict[str, Any]]) -> None:
    """Whoever has taken it is named then; Docker would say it after half of the containers are up."""
    beside = {name: port for name, port in _published(services) if not name.endswith("-net")}
    assert beside == compose.OBSERVABILITY_PORTS
