"""TLS and passwords between the store and etcd: what gets in, and what an outsider is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.runtime.etcd import EtcdMember, EtcdTls, make_members
from infra.runtime.etcd_members import http_json
from services.common.clock import SystemClock
from services.common.region_settings import RegionSettings
from services.common.settings import Secret
from services.coordination import StoreUnavailable
from services.coordination.base import ABSENT
from services.coordination.lease import Change
from services.coordination.opening import opened_lease_store
from services.coordination.settings import CoordinationSettings
from tests.support.certificates import Certificates, make_certificates
from tests.support.poll import wait_until_async

pytestmark = pytest.mark.integration

PATIENT = {"request_timeout_ms": 2_000, "lease_ttl_seconds": 60}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """An authority, a server and a client."""
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def member(tmp_path: Path) -> Iterator[EtcdMember]:
    """A cluster of one, not started."""
    (alone,) = make_members(tmp_path, ["east"])
    yield alone
    alone.kill()


async def test_tls_both_ways(member: EtcdMember, certificates: Certificates) -> None:
    """With the client's certificate everything works; without, or without the authority, nobody gets in."""
    member.tls = EtcdTls(certificates.certificate("server"), certificates.key("server"), certificates.authority)
    member.prepare(bootstrapped=False)
    member.start()
    known = CoordinationSettings(
        endpoints=(member.client_url,),
        ca_file=certificates.authority,
        cert_file=certificates.certificate("client"),
        key_file=certificates.key("client"),
        **PATIENT,
    )
    async with opened_lease_store(RegionSettings(), known, SystemClock()) as store:

        async def written() -> bool:
            try:
                return await store.compare_and_put("/a", b"", ABSENT) is not None
            except StoreUnavailable:
                return False

        await wait_until_async(written, 30, "a member that elects itself")
        seen: list[Change] = []
        async for batch in store.watch("/", 1):
            seen.extend(batch)
            if seen:
                break
        assert [change.key for change in seen] == ["/a"]
    for outsider in (
        CoordinationSettings(endpoints=known.endpoints, ca_file=certificates.authority, **PATIENT),
        CoordinationSettings(endpoints=known.endpoints, **PATIENT),
    ):
        async with opened_lease_store(RegionSettings(), outsider, SystemClock()) as store:
            with pytest.raises(StoreUnavailable):
                await store.get("/a")


async def test_name_and_password(member: EtcdMember) -> None:
    """With authentication on, the right password works, also for a watch; a wrong one and none are told apart."""
    member.prepare(bootstrapped=False)
    member.start()
    for path, body in (
        ("user/add", {"name": "root", "password": "right"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("enable", {}),
    ):
        http_json(f"{member.client_url}/v3/auth/{path}", body)

    def settings(**credentials: object) -> CoordinationSettings:
        return CoordinationSettings(endpoints=(member.client_url,), **PATIENT, **credentials)

    right = settings(username="root", password=Secret("right"))
    async with opened_lease_store(RegionSettings(), right, SystemClock()) as store:
        lease = await store.grant(60)
        await store.compare_and_put("/a", b"", ABSENT, lease_id=lease.lease_id)
        assert await store.keep_alive(lease.lease_id) == 60
        async for batch in store.watch("/", 1):
            if batch:
                break
    wrong = settings(username="root", password=Secret("wrong"))
    async with opened_lease_store(RegionSettings(), wrong, SystemClock()) as store:
        with pytest.raises(StoreUnavailable, match="does not know this user or its password"):
            await store.get("/a")
    async with opened_lease_store(RegionSettings(), settings(), SystemClock()) as store:
        with pytest.raises(StoreUnavailable, match="asks who this is"):
            await store.get("/a")
