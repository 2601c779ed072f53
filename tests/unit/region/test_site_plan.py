"""What each kind of site consists of, and what its processes are told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime.etcd_install import EtcdRuntimeError
from services.common.deployment import Deployment
from services.common.region_settings import RegionSettings
from services.inference.server import repository_of
from services.inference.settings import SHIPPED, InferenceSettings
from services.region.deploy import plan_deployment, region_settings
from services.region.errors import StartLater
from services.region.plan import (
    KafkaSettings,
    ProcessPlan,
    RegionPlan,
    joined_file,
    models_dir,
    plan_region,
    plan_witness,
    site_environment,
)


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Two regions and a witness, written down."""
    found = plan_deployment(
        ["east", "west"], "north", base_port=22000, directory=tmp_path, network="namespaces", deployment_id="d1"
    )
    found.save()
    return found


def by_name(plan: RegionPlan) -> dict[str, ProcessPlan]:
    """A plan's processes."""
    return {process.name: process for process in plan.processes}


def test_a_region_of_a_deployment_has_eight_processes(deployment: Deployment) -> None:
    """Each listens on the site's address; what others do without holds nobody up."""
    plan = by_name(plan_region(region_settings(deployment, deployment.site("east")), KafkaSettings()))
    assert list(plan) == ["etcd", "kafka", "prepare", "inference", "processor", "gateway", "replicator", "controller"]
    assert {process.host for process in plan.values()} == {"10.77.0.11"}
    assert [name for name, process in plan.items() if not process.essential] == ["replicator", "controller"]
    assert not any("etcd" in process.needs for process in plan.values()), "its crash takes nothing down"
    assert [name for name, process in plan.items() if process.rechecked_by] == [
        "processor", "gateway", "replicator", "controller",
    ]  # fmt: skip


def test_each_region_has_models_of_its_own(deployment: Deployment) -> None:
    """Below its site's directory, as drills know it too; whose signatures count is the deployment's."""
    east, west = (region_settings(deployment, deployment.site(name)) for name in ("east", "west"))
    assert InferenceSettings().repository_of(east) == Path(deployment.directory) / "east" / "models"
    assert models_dir(west.data_dir) == InferenceSettings().repository_of(west) != models_dir(east.data_dir)
    found = repository_of(west, InferenceSettings())
    assert (found.shipped, found.asks_for_signatures) == (SHIPPED, True)
    assert found.trusted_keys_file == deployment.trusted_keys_file
    given = InferenceSettings(model_repository=Path("elsewhere"))
    assert given.repository_of(west) == Path("elsewhere")
    assert not repository_of(west, given).is_own


def test_a_region_that_is_alone_is_as_it_was() -> None:
    """No vote, no copies, no election; a cut wants an operator."""
    plan = by_name(plan_region(RegionSettings(), KafkaSettings()))
    assert list(plan) == ["kafka", "prepare", "inference", "processor", "gateway"]
    assert not any(process.rechecked_by for process in plan.values())
    assert site_environment(RegionSettings()) == {}


def test_a_witness_only_votes(deployment: Deployment) -> None:
    """One process, and nothing of the data."""
    assert list(by_name(plan_witness(deployment, deployment.site("north")))) == ["etcd"]


def test_services_listen_on_the_sites_address_and_trust_its_network(deployment: Deployment) -> None:
    """Without a network of its own there is nothing to trust beyond the machine."""
    told = site_environment(region_settings(deployment, deployment.site("west")))
    assert told["MERIDIAN_GATEWAY_HOST"] == told["MERIDIAN_CONTROLLER_HOST"] == "10.77.0.12"
    assert told["MERIDIAN_GATEWAY_TRUST_NETWORK"] == "true"


def test_a_wiped_vote_asks_the_others_and_is_tried_again_without_them(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was ever in the cluster is known outside of what a wipe destroys."""
    asked: list[bool] = []

    def refuse(_self: object, bootstrapped: bool) -> None:  # noqa: FBT001 - as the real one
        asked.append(bootstrapped)
        raise EtcdRuntimeError("nobody answers")

    monkeypatch.setattr("infra.runtime.etcd.EtcdMember.prepare", refuse)
    etcd = by_name(plan_witness(deployment, deployment.site("north")))["etcd"]
    with pytest.raises(StartLater, match="nobody answers"):
        etcd.launch()
    assert etcd.on_ready is not None
    etcd.on_ready()
    joined = joined_file(deployment, "north")
    assert joined.exists() and Path(deployment.directory) in joined.parents
    assert deployment.site_dir("north") not in joined.parents
    with pytest.raises(StartLater):
        etcd.launch()
    assert asked == [False, True]
