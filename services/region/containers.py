"""What the containers of a deployment run before, or instead of, the supervisor.

In containers a site is a network namespace that all of its containers share, and its name is its address everywhere:
for the other sites by their DNS, inside by its own hosts file. Kafka, etcd and the inference worker are containers of
their own; the rest of a region stays under our supervisor, with its order of starts and its judgement of logs.

    python -m services.region.containers settle --advertise east=URL --advertise west=URL
    python -m services.region.containers etcd --site SITE
    python -m services.region.containers inference --site SITE
    python -m services.region.containers region --site SITE
    python -m services.region.containers published --directory DIRECTORY     (on the machine that runs the containers)
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from infra.runtime.etcd_install import EtcdRuntimeError
from services.common.deployment import DEPLOYMENT_FILE, Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.region_settings import LOOPBACK
from services.common.settings import SettingsError
from services.region.deploy import (
    BASE_PORT_DEFAULT,
    EVERY_ADDRESS,
    make_key,
    make_signing_key,
    new_deployment_id,
    plan_deployment,
    region_settings,
)
from services.region.plan import etcd_member, joined_file, service_environment

DIRECTORY = Path("/var/meridian")
REGIONS = ("east", "west")
WITNESS = "north"
ETCD_CONFIG = "etcd.json"
RETRY_SECONDS = 1.0
KERNELS = Path("/opt/meridian/cache")
"""Machine code of the fold that the image was built with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one of the above; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.what == "settle":
            deployment = settle(options.directory, _advertised(options.advertise))
            print(f"{deployment.directory}/{DEPLOYMENT_FILE}: {', '.join(site.name for site in deployment.sites)}")
            return ExitCode.OK
        if options.what == "published":
            print(for_this_machine(options.directory).save())
            return ExitCode.OK
        deployment = load_deployment(options.directory)
        if options.what == "etcd":
            prepare_etcd(deployment, options.site)
            return ExitCode.OK
        seed_kernels(KERNELS, Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser())
        if options.what == "inference":
            _become([sys.executable, "-m", "services.inference"], inference_environment(deployment, options.site))
        file = str(options.directory / DEPLOYMENT_FILE)
        command = [sys.executable, "-m", "services.region.main", "--site", options.site, "--deployment", file]
        _become(command, dict(os.environ))
    except SettingsError as error:
        print(f"meridian: {error}", file=sys.stderr)
        return ExitCode.BAD_SETTINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.region.containers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("what", choices=("settle", "etcd", "inference", "region", "published"))
    parser.add_argument("--site", default="", help="the site that the container belongs to")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help="where the deployment lies")
    parser.add_argument(
        "--advertise", action="append", default=[], metavar="REGION=URL", help="settle: where apps reach its gateway"
    )
    return parser


def _advertised(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        region, equals, url = pair.partition("=")
        if not equals or region not in REGIONS or not url.startswith(("http://", "https://")):
            raise SettingsError(
                f"--advertise {pair}: write it like east=http://127.0.0.1:8080; regions are {', '.join(REGIONS)}. "
                "From compose it is MERIDIAN_EAST_URL and MERIDIAN_WEST_URL."
            )
        found[region] = url
    return found


def settle(directory: Path, advertised: dict[str, str]) -> Deployment:
    """Make the deployment's file and the keys of all regions, and return the deployment. Raises SettingsError.

    Written anew at every start, because addresses may change; what must never change is kept: id and keys.
    """
    there = (directory / DEPLOYMENT_FILE).exists()
    planned = plan_deployment(
        REGIONS,
        WITNESS,
        base_port=BASE_PORT_DEFAULT,
        directory=directory,
        network="containers",
        deployment_id=load_deployment(directory).deployment_id if there else new_deployment_id(),
    )
    sites = [msgspec.structs.replace(site, advertised_url=advertised.get(site.name, "")) for site in planned.sites]
    deployment = msgspec.structs.replace(planned, sites=sites, keys_directory=str(directory / "keys"))
    make_key(deployment.pseudonym_key_file)
    make_signing_key(deployment.signing_key_file, deployment.trusted_keys_file)
    deployment.save()
    return deployment


def for_this_machine(directory: Path) -> Deployment:
    """Return the deployment as commands on the machine of the containers reach it: over published ports."""
    planned = plan_deployment(
        REGIONS,
        WITNESS,
        base_port=BASE_PORT_DEFAULT,
        directory=directory,
        network="containers",
        deployment_id="published",
    )
    sites = [msgspec.structs.replace(site, host=LOOPBACK) for site in planned.sites]
    return msgspec.structs.replace(planned, sites=sites)


def prepare_etcd(deployment: Deployment, site: str) -> Path:
    """Decide how a site's member starts, and return the file that says it to etcd. Waits for survivors after a wipe.

    That the member is in the cluster is marked before it first starts, not after: marked too early, a wipe before that
    start has the others take in somebody whom they know already; marked too late, it would begin a second cluster.
    """
    member = etcd_member(deployment, deployment.site(site))
    joined = joined_file(deployment, site)
    said = ""
    while True:
        try:
            member.prepare(joined.exists() and not member.began_new)
            break
        except EtcdRuntimeError as error:
            if str(error) != said:
                said = str(error)
                print(f"etcd {site}: {said}", file=sys.stderr, flush=True)
            time.sleep(RETRY_SECONDS)
    joined.parent.mkdir(exist_ok=True)
    joined.touch()
    config = member.directory / ETCD_CONFIG
    config.write_text(member.config_file(EVERY_ADDRESS))
    return config


def inference_environment(deployment: Deployment, site: str) -> dict[str, str]:
    """Return the environment of a region's inference worker when it is a container of its own."""
    return service_environment(region_settings(deployment, deployment.site(site)))


def seed_kernels(built: Path, cache: Path) -> None:
    """Put the machine code of the image where it can be added to: numba refuses a folder that it cannot write.

    A region without it compiles for eight seconds at its start.
    """
    if built.is_dir() and not (cache / "meridian").exists():
        shutil.copytree(built, cache, dirs_exist_ok=True)


def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # noqa: S606 - becomes the process of the container


if __name__ == "__main__":
    sys.exit(main())
