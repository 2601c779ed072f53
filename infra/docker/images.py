"""Builds every image of docker-compose.multiregion.yml where none can be pulled: `make images`.

Our own image is built from this working tree on a base of Debian's packages; Kafka's from the jars and the Java that
`make setup` fetched; etcd's from the server that it built, with etcdctl beside it; Prometheus and Alertmanager from
Debian's packages. They have the paths of the published ones, so compose sees no difference: the variables that select
them are written to var/compose/images.env. Grafana is in no Debian package, so compose runs without it.

Builds are left to `docker compose build`, which every machine has that runs the deployment: `docker build` with secrets
asks for one more plugin.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.docker.daemon import ContainersUnavailable, check_daemon, check_room, has_image, image_megabytes, run
from infra.runtime.etcd_install import EtcdRuntimeError, find_etcd, go_toolchain
from infra.runtime.kafka import LOG4J, KafkaRuntimeError, find_home

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
ENV_FILE: Final = ROOT / "var" / "compose" / "images.env"
DEBIAN: Final = "debian:bookworm-slim"
PYTHON: Final = "meridian-local/python:3.11-bookworm"
PYTHON_BUILD: Final = "meridian-local/python-build:3.11-bookworm"
ROOM_BYTES: Final = 6_000_000_000
"""What all images and the layers of their builds take, with some to spare."""
PIP_SETTINGS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "retries", "timeout")
CERTIFICATES: Final = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Image:
    """One image to build."""

    name: str
    tag: str
    context: Path
    dockerfile: str = "Dockerfile"
    variable: str = ""
    """Which variable of compose selects it; empty: it is only a base."""
    target: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    with_secrets: bool = False


def plan(stage: Path) -> list[Image]:
    """Return the images in the order of their builds; `stage` holds what is not in the working tree."""
    debian = {"DEBIAN_IMAGE": DEBIAN}
    bases = {"BASE_IMAGE": PYTHON, "BUILD_IMAGE": PYTHON_BUILD}
    base, observing = "base.Dockerfile", "prometheus.Dockerfile"
    ours, kafka, etcd = (f"MERIDIAN_{name}IMAGE" for name in ("", "KAFKA_", "ETCD_"))
    return [
        Image("python", PYTHON, HERE, base, target="run", arguments=debian),
        Image("python-build", PYTHON_BUILD, HERE, base, target="build", arguments=debian),
        Image("meridian", "meridian:0.1.0", ROOT, "infra/docker/Dockerfile", ours, "", bases, with_secrets=True),
        Image("kafka", "meridian-local/kafka:4.3.1", stage / "kafka", variable=kafka, arguments=debian),
        Image("etcd", "meridian-local/etcd:v3.6.16", stage / "etcd", variable=etcd),
        *(
            Image(
                name,
                f"meridian-local/{name}:bookworm",
                HERE,
                observing,
                f"MERIDIAN_{name.upper()}_IMAGE",
                target=name,
                arguments=debian,
            )
            for name in ("prometheus", "alertmanager")
        ),
    ]


def build_file(images: Sequence[Image], secrets: Mapping[str, Path]) -> str:
    """Return the compose file that builds these images, as JSON (which is YAML)."""
    services: dict[str, object] = {}
    for image in images:
        build: dict[str, object] = {
            "context": str(image.context),
            "dockerfile": image.dockerfile,
            "args": dict(image.arguments),
        }
        if image.target:
            build["target"] = image.target
        if image.with_secrets:
            build["secrets"] = sorted(secrets)
        services[image.name] = {"image": image.tag, "build": build}
    named = {name: {"file": str(path)} for name, path in secrets.items()}
    return json.dumps({"name": "meridian-images", "services": services, "secrets": named}, indent=1)


def write_secrets(directory: Path, environment: Mapping[str, str]) -> dict[str, Path]:
    """Return what the build of our image is shown and does not keep: certificates, and where pip looks."""
    found: dict[str, Path] = {}
    named = next((environment[name] for name in CERTIFICATES if environment.get(name)), "")
    if named and Path(named).is_file():
        found["ca"] = directory / "ca"
        shutil.copy(named, found["ca"])
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    settings = dict(re.findall(r"^global\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    variables = {name: f"PIP_{name.upper().replace('-', '_')}" for name in PIP_SETTINGS}
    settings |= {name: environment[variable] for name, variable in variables.items() if variable in environment}
    lines = [f"{name} = {settings[name]}" for name in PIP_SETTINGS if settings.get(name)]
    found["pip"] = directory / "pip"
    found["pip"].write_text("\n".join(["[global]", *lines, ""]))
    for path in found.values():
        path.chmod(0o600)
    return found


def stage_kafka(stage: Path) -> None:
    """Put together what Kafka's image is made of. Raises KafkaRuntimeError."""
    home = find_home()
    assert home.class_path, "raises when the jars are missing"
    shutil.copytree(HERE / "kafka", stage / "kafka")
    shutil.copytree(home.libs, stage / "kafka" / "libs")
    shutil.copytree(home.java.parents[1], stage / "kafka" / "java")
    shutil.copy(LOG4J, stage / "kafka")


def stage_etcd(stage: Path) -> None:
    """Put together what etcd's image is made of. Raises EtcdRuntimeError, ContainersUnavailable."""
    server = find_etcd()
    client = server.with_name("etcdctl")
    if not client.exists():
        with go_toolchain() as go:
            flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"]
            environment = ["env", "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOWORK=off"]
            directory = str(HERE / "etcd")
            run([*environment, go, "-C", directory, "build", *flags, "-o", str(client)], "building etcdctl")
    (stage / "etcd").mkdir()
    for path in (HERE / "etcd" / "Dockerfile", server, client):
        shutil.copy(path, stage / "etcd")


def make_debian() -> None:
    """Have Debian's base image: the one that is there, one from its registry, or one from debootstrap.

    Raises ContainersUnavailable.
    """
    if has_image(DEBIAN):
        return
    if subprocess.run(["docker", "pull", "--quiet", DEBIAN], capture_output=True, check=False).returncode == 0:
        return
    debootstrap = shutil.which("debootstrap")
    if debootstrap is None or os.geteuid() != 0:
        what = "debootstrap is not installed" if debootstrap is None else "debootstrap must run as root"
        raise ContainersUnavailable(
            f"{DEBIAN} can neither be pulled nor made: {what}.\n  Next: `apt-get install debootstrap`, `make images` "
            f"as root; or bring the image from another machine (`docker save {DEBIAN}` there, `docker load` here)."
        )
    with tempfile.TemporaryDirectory(prefix="meridian-debian-") as directory:
        run([debootstrap, "--variant=minbase", "bookworm", directory], "debootstrap")
        with subprocess.Popen(["tar", "-C", directory, "-c", "."], stdout=subprocess.PIPE) as tar:
            assert tar.stdout is not None
            run(["docker", "import", "-", DEBIAN], "docker import", tar.stdout)


def build(only: Sequence[str]) -> None:
    """Build the images, or those of the names `only`, and write the file that selects them."""
    check_daemon()
    check_room(ROOM_BYTES)
    with tempfile.TemporaryDirectory(prefix="meridian-images-") as name:
        stage = Path(name)
        images = [image for image in plan(stage) if not only or image.name in only]
        names = {image.name for image in images}
        _say("Debian's base image")
        make_debian()
        if "kafka" in names:
            stage_kafka(stage)
        if "etcd" in names:
            stage_etcd(stage)
        file = stage / "build.json"
        file.write_text(build_file(images, write_secrets(stage, os.environ)))
        for number, image in enumerate(images, 1):
            started = time.monotonic()
            _say(f"{number} of {len(images)}: {image.tag}")
            run(["docker", "compose", "-f", str(file), "build", image.name], f"building {image.tag}")
            _say(f"  {image_megabytes(image.tag):.0f} MB, {time.monotonic() - started:.0f} s")
        chosen = [image for image in plan(stage) if image.variable and has_image(image.tag)]
    ENV_FILE.parent.mkdir(parents=True, exist_ok=True)
    ENV_FILE.write_text("".join(f"{image.variable}={image.tag}\n" for image in chosen))
    _say(f"{ENV_FILE.relative_to(ROOT)} selects them. Grafana has no package here: compose runs without it.")
    _say("next: make compose-up")


def _say(text: str) -> None:
    print(f"images: {text}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; 0 when all images are there."""
    parser = argparse.ArgumentParser(prog="python -m infra.docker.images", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="build this one (can be repeated)")
    options = parser.parse_args(arguments)
    known = {image.name for image in plan(Path())}
    if unknown := set(options.only) - known:
        parser.error(f"there is no image {', '.join(sorted(unknown))}. There are: {', '.join(sorted(known))}")
    try:
        build(options.only)
    except (ContainersUnavailable, KafkaRuntimeError, EtcdRuntimeError, OSError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
