"""Opening the coordination store that fits a region: its own file when it is alone, etcd in a deployment."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.common.clock import Clock
from services.common.deployment import Deployment
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError
from services.coordination.base import KeyValueStore
from services.coordination.file import FileStore
from services.coordination.lease import LeaseStore
from services.coordination.settings import CoordinationSettings


@asynccontextmanager
async def opened_store(
    region: RegionSettings, settings: CoordinationSettings, clock: Clock
) -> AsyncIterator[KeyValueStore]:
    """Yield the store of the region: what every process of it reads and writes."""
    if region.is_alone:
        yield FileStore(region.coordination_file)
        return
    async with opened_lease_store(region, settings, clock) as store:
        yield store


@asynccontextmanager
async def opened_lease_store(
    region: RegionSettings,
    settings: CoordinationSettings,
    clock: Clock,  # noqa: ARG001 - a driver may need to know the time; etcd's measures none
) -> AsyncIterator[LeaseStore]:
    """Yield the store of the region's deployment, with leases and watches. Raises SettingsError for one without."""
    endpoints = endpoints_of(region, settings)
    store: LeaseStore
    if settings.driver == "etcd3":
        from services.coordination.etcd3_driver import Etcd3Store

        store = Etcd3Store.from_settings(endpoints[0], settings)
    else:
        from services.coordination.etcd import EtcdGatewayStore

        gateway = EtcdGatewayStore(
            endpoints,
            request_timeout_seconds=settings.request_timeout_ms / 1000,
            tls=tls_context(settings),
            username=settings.username,
            password=settings.password,
        )
        await gateway.transport.warn_about_old_servers()
        store = gateway
    try:
        yield store
    finally:
        await store.close()


def endpoints_of(region: RegionSettings, settings: CoordinationSettings) -> list[str]:
    """Return the members' addresses, the own site's first: it is nearest, and alone when the region is cut off."""
    if settings.endpoints:
        return list(settings.endpoints)
    if region.is_alone:
        raise SettingsError(
            "a region that is alone has no leases. Start it with `meridian up --regions`, or name the etcd that it is "
            "to use by MERIDIAN_COORDINATION_ENDPOINTS."
        )
    return endpoints_from(region.load_deployment(), region.name)


def endpoints_from(deployment: Deployment, own: str | None = None) -> list[str]:
    """Return the members' addresses of a deployment, those of the site `own` first."""
    sites = sorted(deployment.sites, key=lambda site: site.name != own)
    return [site.url("etcd_client") for site in sites]


def tls_context(settings: CoordinationSettings) -> ssl.SSLContext | None:
    """Return what the certificates of the settings ask for, None without any. Raises SettingsError."""
    files = (settings.ca_file, settings.cert_file, settings.key_file)
    if all(file == Path() for file in files):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file if settings.ca_file != Path() else None)
        if settings.cert_file != Path():
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(str(file) for file in files if file != Path())
        raise SettingsError(
            f"the certificates for etcd cannot be used ({error}): {named}. Correct MERIDIAN_COORDINATION_CA_FILE, "
            "_CERT_FILE and _KEY_FILE."
        ) from error
    return context
