"""`meridian prometheus-targets`: so that a Prometheus of one's own scrapes a deployment with one line."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from services.common.deployment import DEPLOYMENT_FILE, load_deployment
from services.common.exit_codes import ExitCode
from services.common.settings import SettingsError
from services.region.main import load_settings
from services.region.scraping import TargetGroup, targets_alone, targets_of, whole_config

DIRECTORY_DEFAULT = Path("var/meridian")
LABEL = re.compile(r"([a-z_][a-z0-9_]*)=(.*)")


def prometheus_targets(
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The deployment's directory.")] = DIRECTORY_DEFAULT,
    config: Annotated[
        bool, typer.Option("--config", help="Print a whole prometheus.yml, with our rules, instead of targets alone.")
    ] = False,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Put this on every target: drill=yes sends its alerts where nobody is woken."),
    ] = None,
    scrape_seconds: Annotated[
        int, typer.Option("--every", min=1, max=60, help="With --config: seconds from one scrape to the next.")
    ] = 5,
) -> None:
    """Print what Prometheus is to scrape of the deployment in --data-dir, or of a region that is alone, as JSON.

    The JSON is what file_sd and http_sd take. In one line, with a Prometheus that is installed:

    meridian prometheus-targets --config > prometheus.yml && prometheus --config.file prometheus.yml
    """
    try:
        labels = _labels(label or [])
        groups = _groups(data_dir, labels)
    except SettingsError as error:
        _refuse(error)
    shown = whole_config(groups, scrape_seconds) if config else groups
    print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


def _groups(data_dir: Path, labels: dict[str, str]) -> list[TargetGroup]:
    if (data_dir / DEPLOYMENT_FILE).exists() or data_dir != DIRECTORY_DEFAULT:
        deployment = load_deployment(data_dir)
        if deployment.network == "namespaces":
            print(
                "meridian prometheus-targets: the sites of this deployment have a network of their own; Prometheus has "
                f"to run in it: nsenter --preserve-credentials --user=/proc/{deployment.holder_pid}/ns/user "
                f"--net=/proc/{deployment.holder_pid}/ns/net prometheus ...",
                file=sys.stderr,
            )
        return targets_of(deployment, labels)
    return targets_alone(load_settings()[0], labels)


def _labels(words: list[str]) -> dict[str, str]:
    """Raises SettingsError for what is no label."""
    found = {}
    for word in words:
        fits = LABEL.fullmatch(word)
        if fits is None or fits[1] in {"region", "process"}:
            raise SettingsError(f"--label {word}: write it as name=value; `region` and `process` are set already")
        found[fits[1]] = fits[2]
    return found


def _refuse(error: SettingsError) -> NoReturn:
    print(f"meridian prometheus-targets: {error}", file=sys.stderr)
    raise typer.Exit(ExitCode.BAD_SETTINGS)
