"""A deployment in containers for one drill: a project of its own, started, looked into, and always taken away again.

The compose file is the one that operators have. What is added: no published ports, so that a drill runs beside a
deployment of yours, and a container whose network the clients use: it is attached to the sites' own networks and never
to the one between them. The conductor itself stays on this machine, because it speaks to Docker; it enters that network
and sees the sites' names in a hosts file of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from region_sim.backends.compose_project import Project, docker, mountpoint
from region_sim.backends.containers import ContainerHands, outside_pid, site_directories
from region_sim.errors import DrillBroken
from region_sim.interrupted import undisturbed
from region_sim.spec import Drill
from services.common.deployment import Deployment, load_deployment

COMPOSE_FILE: Final = "docker-compose.multiregion.yml"
ROOT: Final = Path(__file__).resolve().parents[2]
IMAGES_BUILT: Final = Path("var/compose/images.env")
PROGRAMS: Final = ("docker", "nsenter", "unshare", "mount")
REGION_PORTS: Final = {"EAST": 8080, "WEST": 8100}
"""Of the gateways; the variables of the compose file are named after regions."""
DOWN_SECONDS_MAX: Final = 150.0
STOP_SECONDS: Final = "20"
CONFIG_SECONDS_MAX: Final = 30.0
LOGS: Final = "containers.log"
ADDED: Final = """\
services:
  outside:
    image: ${MERIDIAN_IMAGE:-meridian:0.1.0}
    profiles: [core, gpu]
    command: [sleep, infinity]
    init: true
    read_only: true
    cap_drop: [ALL]
    networks: [east, west, north]
"""
NO_PORTS: Final = "  {site}-net: {{ports: !reset []}}\n"
WEIGHT: Final = "  {service}: {{cgroup_parent: /, cpu_shares: {shares}}}\n"
SHARES: Final = 1024
"""What the kernel gives one session of this machine."""
PROCESSES: Final = {"": 5, "-etcd": 1, "-kafka": 1, "-inference": 1}
"""How many are in each container of a region that works: the supervisor and what it starts, or one alone."""


def machine_problem() -> str | None:
    """Why containers cannot be broken on this machine, and what to do; None when they can."""
    if sys.platform != "linux":
        return "containers are processes of this machine on Linux alone: use --backend memory"
    if os.geteuid() != 0:
        return "entering the networks of containers and signalling their processes needs root: run the drill as root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install docker.io util-linux mount"
    if not os.environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        return "DOCKER_HOST names another machine, whose processes cannot be broken from here: unset it"
    return _docker_problem()


def _docker_problem() -> str | None:
    try:
        docker(["version", "--format", "{{.Server.Version}}"], 10.0)
    except DrillBroken as error:
        return f"no Docker daemon answers: {_last_line(error)}. Start it (systemctl start docker), or see `docker info`"
    try:
        version = docker(["compose", "version", "--short"], 10.0).strip()
    except DrillBroken:
        return f"no `docker compose` (docker-compose 1.29 cannot read {COMPOSE_FILE}): install Compose 2.24 or newer"
    words = version.removeprefix("v").split(".")
    if [int(word) for word in words[:2] if word.isdecimal()] < [2, 24]:
        return f"Docker Compose {version} is too old: install 2.24 or newer"
    return None


@contextmanager
def running_project(drill: Drill, directory: Path, *, keep: bool) -> Iterator[tuple[Project, Deployment]]:
    """Start all containers for a drill, and take them away with everything they had. Raises DrillBroken.

    `directory` takes what is written beside them. With `keep` they stay, and how to end them is printed.
    """
    problem = machine_problem()
    if problem is not None:
        raise DrillBroken(problem)
    project = _project(directory, docker(["info", "--format", "{{.CgroupDriver}}"]).strip())
    _images_are_here(project)
    try:
        project.compose(["up", "--detach", "--no-build", "--wait"], drill.topology.up_seconds_max)
        yield project, _deployment(project, directory)
    finally:
        with undisturbed():
            if keep:
                print(f"the containers stay. To end them: {_ending(project)}", file=sys.stderr)
            else:
                _end(project, directory)


def entering(project: Project) -> Callable[[list[str]], list[str]]:
    """Return what makes a command run in the clients' network, with the sites' names in its /etc/hosts."""

    def enter(command: list[str]) -> list[str]:
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        own_mounts = ["unshare", "--mount", "--propagation", "private"]
        network = ["nsenter", "--target", str(outside_pid(project)), "--net"]
        return [*network, *own_mounts, "sh", "-c", script, project.hosts_file, *command]

    return enter


def _project(directory: Path, cgroup_driver: str) -> Project:
    """Write what is added to the compose file, and name the project after the run: a user's own is never touched."""
    compose_file = next((place / COMPOSE_FILE for place in (Path.cwd(), ROOT) if (place / COMPOSE_FILE).exists()), None)
    if compose_file is None:
        raise DrillBroken(f"there is no {COMPOSE_FILE} here: run the drill in a checkout of the project")
    directory.mkdir(parents=True, exist_ok=True)
    added = directory / "drill.yml"
    no_ports = "".join(NO_PORTS.format(site=site) for site in ("east", "west", "north"))
    added.write_text(ADDED + no_ports + _weights(cgroup_driver), encoding="utf-8")
    hosts = directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n", encoding="utf-8")
    urls = {f"MERIDIAN_{name}_URL": f"http://{name.lower()}:{port}" for name, port in REGION_PORTS.items()}
    return Project(
        name=f"meridian-drill-{''.join(each for each in directory.parent.name.lower() if each.isalnum())}",
        files=[str(compose_file), str(added)],
        environment={**_images_built(compose_file.parent), **urls},
        hosts_file=str(hosts),
    )


def _weights(cgroup_driver: str) -> str:
    """Give each process of a site the weight that it has outside of containers.

    With cgroupfs all containers of a daemon have the weight of one process together, however many they are: beside ten
    busy processes a whole deployment would get a tenth of the machine, and a drill would judge that. With systemd
    a container is a unit among the machine's.
    """
    if cgroup_driver != "cgroupfs":
        return ""
    regions = [(f"{site}{part}", number) for site in ("east", "west") for part, number in PROCESSES.items()]
    all_of_them = [*regions, ("north-etcd", 1)]
    return "".join(WEIGHT.format(service=service, shares=number * SHARES) for service, number in all_of_them)


def _images_built(checkout: Path) -> dict[str, str]:
    """What `make images` wrote down, unless somebody names other images."""
    try:
        lines = (checkout / IMAGES_BUILT).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name.strip(): image.strip() for name, equals, image in pairs if equals and name.strip() not in os.environ}


def _images_are_here(project: Project) -> None:
    """Nothing is pulled within the time that a deployment may take to start."""
    images = project.compose(["config", "--images"], CONFIG_SECONDS_MAX).split()
    missing = []
    for image in sorted(set(images)):
        try:
            docker(["image", "inspect", "--format", "{{.Id}}", image])
        except DrillBroken:
            missing.append(image)
    if missing:
        raise DrillBroken(
            f"images are missing: {', '.join(missing)}. `make images` builds all of them here; where images can be "
            f"pulled, `docker compose -f {COMPOSE_FILE} --profile core pull --ignore-buildable` and `build` do as well"
        )


def _deployment(project: Project, directory: Path) -> Deployment:
    """The deployment's own file, with the places where its files are found on this machine."""
    inside = load_deployment(mountpoint(project.volume("deployment")))
    deployment = msgspec.structs.replace(inside, directory=str(directory), keys_directory="")
    deployment.save()
    site_directories(project, deployment)
    ContainerHands(project, deployment).tell_hosts()
    return deployment


def _end(project: Project, directory: Path) -> None:
    """Keep what was logged, and take away containers, networks and volumes. Raises DrillBroken with how to go on."""
    with suppress(DrillBroken, OSError):
        logs = project.compose(["logs", "--no-color", "--timestamps"], DOWN_SECONDS_MAX)
        (directory / LOGS).write_text(logs, encoding="utf-8")
        _keep_logs(directory)
    with suppress(DrillBroken):
        _continue(project, directory)
    try:
        project.compose(["down", "--volumes", "--remove-orphans", "--timeout", STOP_SECONDS], DOWN_SECONDS_MAX)
    except DrillBroken as error:
        raise DrillBroken(f"the containers were not taken away: {error}\n  Next: {_ending(project)}") from error


def _keep_logs(directory: Path) -> None:
    """Of processes under a supervisor, which log into their volume; the link to it makes room for them."""
    for site in directory.iterdir():
        if site.is_symlink():
            kept = directory / f"{site.name}-logs"
            shutil.copytree(site / "logs", kept, dirs_exist_ok=True)
            site.unlink()


def _continue(project: Project, directory: Path) -> None:
    """What was stopped and never continued would have to be waited for."""
    deployment = load_deployment(directory)
    hands = ContainerHands(project, deployment)
    for site in deployment.sites:
        hands.signal(hands.processes(site.name, []), signal.SIGCONT)


def _ending(project: Project) -> str:
    files = " ".join(f"-f {file}" for file in project.files)
    return f"docker compose -p {project.name} {files} --profile core down --volumes"


def _last_line(error: DrillBroken) -> str:
    return str(error).strip().splitlines()[-1]
