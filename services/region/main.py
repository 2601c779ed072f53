"""The supervisor as a process: `meridian up` becomes this one, so that nothing of the command line stays in memory."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from infra.runtime.kafka import KafkaRuntimeError, port_is_free
from services.common.deployment import Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.common.settings import CONFIG_VARIABLE, SettingsError, load
from services.region.deploy import region_settings
from services.region.errors import RegionError
from services.region.plan import KafkaSettings, RegionPlan, plan_region, plan_witness
from services.region.run_file import RunRecord
from services.region.supervision import Phase, RestartPolicy
from services.region.supervisor import Supervisor

NAME_WIDTH = 10
ENDING_SECONDS_MAX = 3.0
DATA_DIR_VARIABLE = "MERIDIAN_REGION_DATA_DIR"
PORT_ORDER = ("gateway", "processor", "inference", "kafka", "controller")
HANDED_OVER = {CONFIG_VARIABLE, DATA_DIR_VARIABLE, *(f"MERIDIAN_REGION_{name.upper()}_PORT" for name in PORT_ORDER)}
"""What a command line leaves in the environment of a region."""


def main(arguments: list[str] | None = None) -> int:
    """Run a region in the foreground; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.region.main")
    parser.add_argument("--json", action="store_true", help="print one JSON object when ready, progress to stderr")
    parser.add_argument("--then-log-to", default="", help="file that takes the output once the region is ready")
    parser.add_argument("--deployment", type=Path, default=None, help="file of the deployment that the site is in")
    parser.add_argument("--site", default="", help="with --deployment: the site")
    options = parser.parse_args(arguments)
    try:
        plan = plan_site(load_deployment(options.deployment), options.site) if options.deployment else plan_alone()
        refuse_taken_ports(plan)
        output = Output(plan, as_json=options.json, then_log_to=options.then_log_to)
        return Supervisor(plan, RestartPolicy(), output.report, output.settled).run()
    except (SettingsError, KafkaRuntimeError) as error:
        print(f"meridian up: {error}", file=sys.stderr)
        return ExitCode.BAD_SETTINGS
    except RegionError as error:
        print(f"meridian up: {error}", file=sys.stderr)
        return error.exit_code


def plan_alone() -> RegionPlan:
    """Return the plan of a region that belongs to no deployment. Raises SettingsError, KafkaRuntimeError."""
    region, kafka = load_settings()
    return plan_region(region, kafka)


def plan_site(deployment: Deployment, name: str) -> RegionPlan:
    """Return the plan of one site of a deployment. Raises SettingsError, KafkaRuntimeError."""
    site = deployment.site(name)
    if site.kind == "witness":
        return plan_witness(deployment, site)
    kafka = load(KafkaSettings)
    if kafka.bootstrap:
        raise SettingsError(
            f"MERIDIAN_KAFKA_BOOTSTRAP={kafka.bootstrap}: in a deployment each region runs a Kafka of its own, as a "
            "wipe must take it with the region. Unset it, or start a region alone."
        )
    return plan_region(region_settings(deployment, site), kafka)


def load_settings() -> tuple[RegionSettings, KafkaSettings]:
    """Return the settings of a region; a named Kafka's address becomes the region's. Raises SettingsError."""
    kafka = load(KafkaSettings)
    region = load(RegionSettings, bootstrap=kafka.bootstrap or None)
    return msgspec.structs.replace(region, data_dir=region.data_dir.absolute()), kafka


def refuse_taken_ports(plan: RegionPlan) -> None:
    """Raise RegionError when somebody else listens where the region would; a running region is told apart later."""
    if (plan.data_dir / "run.json").exists():
        return
    for process in plan.processes:
        if process.port is not None and not process.is_watch and not _becomes_free(process.port, process.host):
            raise RegionError(
                f"port {process.port}, meant for {process.name}, is taken by another process. See who it is with "
                f"`ss -ltnp 'sport = :{process.port}'`, or choose other ports with --base-port."
            )


def _becomes_free(port: int, host: str) -> bool:
    """Say whether a port is free, or soon is: of a site that was killed and wiped, the last process may still end."""
    deadline = time.monotonic() + ENDING_SECONDS_MAX
    while not port_is_free(port, host):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def hints(data_dir: Path, environment: Mapping[str, str], *, detached: bool) -> list[str]:
    """How to reach this region again: the options of `status` and `down`, and what the other commands need."""
    options = ""
    if config := environment.get(CONFIG_VARIABLE):
        options += f" --config {shlex.quote(config)}"
    if DATA_DIR_VARIABLE in environment:
        options += f" --data-dir {shlex.quote(str(data_dir))}"
    ends = f"`meridian down{options}` ends it."
    lines = [f"`meridian status{options}` shows it, {ends if detached else 'Ctrl-C or ' + ends}"]
    given = {name: environment[name] for name in sorted(environment) if name in HANDED_OVER}
    if DATA_DIR_VARIABLE in given:
        given[DATA_DIR_VARIABLE] = str(data_dir)
    if given:
        pairs = " ".join(f"{name}={shlex.quote(value)}" for name, value in given.items())
        lines += ["For the other commands:", f"  export {pairs}"]
    return lines


class Output:
    """What the supervisor tells the terminal, and after a detached start its log."""

    def __init__(self, plan: RegionPlan, *, as_json: bool, then_log_to: str) -> None:
        self._plan = plan
        self._as_json = as_json
        self._then_log_to = then_log_to

    def report(self, name: str, sentence: str) -> None:
        """Print one sentence about one process."""
        line = f"{name:<{NAME_WIDTH}} {sentence}"
        try:
            print(line, file=sys.stderr if self._as_json else sys.stdout, flush=True)
        except OSError:
            # Nobody reads any more (a detached start that took too long, a closed terminal): the region must not care.
            self._to_log()
            with contextlib.suppress(OSError):  # the log's disk is full: nobody is told, and the region goes on
                print(line, flush=True)

    def settled(self, record: RunRecord) -> None:
        """Say where everything listens, and what stays down."""
        if self._as_json:
            print(msgspec.json.encode(record).decode(), flush=True)
        else:
            down = [process.name for process in record.processes if process.phase == Phase.REFUSED]
            print(f"\n{self._plan.region} is up" + (f", without {', '.join(down)}" if down else ""))
            for name, address in self._plan.addresses.items():
                print(f"  {name:<{NAME_WIDTH}} {address}")
            print(f"  {'logs':<{NAME_WIDTH}} {self._plan.processes[0].log.parent}")
            lines = hints(self._plan.data_dir, os.environ, detached=bool(self._then_log_to))
            print("\n" + "\n".join(lines), flush=True)
        if self._then_log_to:
            self._to_log()

    def _to_log(self) -> None:
        log = os.open(self._then_log_to or os.devnull, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)


if __name__ == "__main__":
    sys.exit(main())
