"""Where a verb works: which region's repository, which store, which workers.

Every verb talks to the coordination store itself and not through a controller: the store's compare-and-set is all the
safety there is, a controller would only pass it on, and a region that is alone has none
(docs/decisions/0027-verbs-of-models-talk-to-the-store.md).
"""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from models import registry
from models.errors import ModelError
from services.common.clock import Clock, SystemClock
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.region_settings import RegionSettings
from services.common.settings import load
from services.coordination import KeyValueStore
from services.coordination.opening import opened_store
from services.coordination.settings import CoordinationSettings
from services.inference.repository import Repository
from services.inference.settings import SHIPPED, InferenceSettings
from services.models.errors import BadRequest, VersionRefused
from services.region.deploy import make_signing_key, region_settings
from services.region.network import enter
from services.region.sites import is_running

DEPLOYMENT_DIRECTORY = Path("var/meridian")
DATA_DIR_VARIABLE = "MERIDIAN_REGION_DATA_DIR"


@dataclass(frozen=True, slots=True)
class Premises:
    """What the verbs of one command need to know."""

    region: RegionSettings
    """Whose repository is read and written."""
    regions: tuple[RegionSettings, ...]
    """All regions, whose workers are asked what they serve."""
    inference: InferenceSettings
    model: str
    by: str
    """Who asks: it stands in the records."""
    clock: Clock

    @property
    def repository(self) -> Repository:
        """The region's versions."""
        path = self.inference.repository_of(self.region)
        shipped = SHIPPED if path == self.region.model_repository else path
        return Repository(path, shipped, self.region.trusted_keys_file, asks_for_signatures=not self.region.is_alone)

    def numbers(self) -> list[str]:
        """The versions that are here, smallest first; before the worker's first start that is what was shipped."""
        found = {*registry.versions(self.repository.path, self.model)}
        return [str(number) for number in sorted(found | {*registry.versions(self.repository.shipped, self.model)})]

    def folder(self, version: str) -> Path:
        """Where a version lies: in this region's repository, another's, or shipped. Raises VersionRefused."""
        others = (self.inference.repository_of(region) for region in self.regions)
        for root in (self.repository.path, *others, self.repository.shipped):
            if version.isdigit() and (root / self.model / version).is_dir():
                return root / self.model / version
        there = ", ".join(self.numbers()) or "none"
        raise VersionRefused(f"{self.repository.path / self.model} has no version {version[:40]!r}. It has {there}.")

    def sha256(self, version: str) -> str:
        """Of a version's manifest as it lies here; nothing is checked. Raises VersionRefused."""
        try:
            return registry.read_manifest(self.folder(version))[1]
        except ModelError as error:
            raise VersionRefused(str(error)) from error

    def make_keys(self) -> None:
        """Make the signing key of a region that is alone, where `meridian up` has not; a deployment has one."""
        if self.region.is_alone:
            make_signing_key(self.region.signing_key_file, self.region.trusted_keys_file)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[KeyValueStore]:
        """The coordination store. Raises SettingsError."""
        async with opened_store(self.region, load(CoordinationSettings), self.clock) as store:
            yield store


def find(data_dir: Path | None, region: str = "", model: str = "") -> Premises:
    """Return where a command works: the deployment in `data_dir` (default var/meridian), else the region alone.

    In a deployment the named region, else the first that runs, else the first whose directory is there. The command
    goes on inside the deployment's network. Raises SettingsError, BadRequest.
    """
    deployment = _deployment(data_dir)
    if deployment is None:
        if data_dir is not None:
            os.environ[DATA_DIR_VARIABLE] = str(data_dir)
        alone = load(RegionSettings)
        if region and region != alone.name:
            raise BadRequest(f"there is no region {region!r} here: {alone.name} is alone")
        regions, chosen = [alone], alone
    else:
        enter(deployment)
        regions = [region_settings(deployment, site) for site in deployment.regions]
        name = region or _first(deployment)
        deployment.site(name)
        chosen = next((found for found in regions if found.name == name), None) or _no_region(name)
    inference = load(InferenceSettings)
    return Premises(chosen, tuple(regions), inference, model or inference.model, getpass.getuser(), SystemClock())


def _deployment(data_dir: Path | None) -> Deployment | None:
    alone = data_dir is None and (
        DATA_DIR_VARIABLE in os.environ or (load(RegionSettings).data_dir / "run.json").exists()
    )
    directory = data_dir or DEPLOYMENT_DIRECTORY
    return None if alone or not (directory / DEPLOYMENT_FILE).exists() else load_deployment(directory)


def _first(deployment: Deployment) -> str:
    names = [site.name for site in deployment.regions]
    running = [name for name in names if is_running(deployment, name)]
    there = [name for name in names if deployment.site_dir(name).is_dir()]
    return (running or there or names)[0]


def _no_region(name: str) -> RegionSettings:
    raise BadRequest(f"{name} is a witness: it has an etcd vote and no models. Name a region with --region.")
