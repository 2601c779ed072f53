"""Which store a region opens, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.deployment import Deployment, Site
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError
from services.coordination import FileStore
from services.coordination.etcd import EtcdGatewayStore
from services.coordination.opening import endpoints_of, opened_lease_store, opened_store, tls_context
from services.coordination.settings import CoordinationSettings


@pytest.fixture
def region(tmp_path: Path) -> RegionSettings:
    """West in a deployment of three sites that are not running."""
    sites = [
        Site(name=name, kind=kind, host="127.0.0.1", base_port=port)
        for name, kind, port in (("east", "region", 100), ("west", "region", 200), ("north", "witness", 300))
    ]
    deployment = Deployment(deployment_id="d", network="loopback", sites=sites, directory=str(tmp_path))
    return RegionSettings(name="west", deployment=deployment.save(), data_dir=tmp_path / "west")


async def test_a_region_that_is_alone_keeps_a_file(tmp_path: Path) -> None:
    """No etcd, and no leases."""
    alone = RegionSettings(data_dir=tmp_path)
    async with opened_store(alone, CoordinationSettings(), SystemClock()) as store:
        assert isinstance(store, FileStore)
    with pytest.raises(SettingsError, match="meridian up --regions"):
        endpoints_of(alone, CoordinationSettings())


async def test_a_region_of_a_deployment_asks_its_own_member_first(region: RegionSettings) -> None:
    """All members, the nearest first; settings win over the deployment's file."""
    assert [url.rpartition(":")[2] for url in endpoints_of(region, CoordinationSettings())] == ["207", "107", "307"]
    named = CoordinationSettings(endpoints=("http://e:1",))
    assert endpoints_of(region, named) == ["http://e:1"]
    async with opened_store(region, CoordinationSettings(), SystemClock()) as store:
        assert isinstance(store, EtcdGatewayStore)
        assert store.transport.preferred == "http://127.0.0.1:207"


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path, region: RegionSettings) -> None:
    """The operator reads which file, and which settings."""
    settings = CoordinationSettings(ca_file=tmp_path / "ca.pem")
    with pytest.raises(SettingsError, match=r"ca\.pem.*MERIDIAN_COORDINATION_CA_FILE"):
        async with opened_lease_store(region, settings, SystemClock()):
            pass
    assert tls_context(CoordinationSettings()) is None
