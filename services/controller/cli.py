"""`meridian explain`, `switchover`, `failover`, `pause` and `resume`."""

from __future__ import annotations

import getpass
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from services.common.clock import random_bytes
from services.common.deployment import Deployment, load_deployment
from services.common.exit_codes import ExitCode
from services.common.settings import SettingsError
from services.controller.answers import ExplainAnswer
from services.controller.asking import NoController, Refused, ask
from services.controller.model import Operation

UNREACHABLE = 69
REFUSED = 1
ABORTED = 2
POLL_SECONDS = 0.1
WAIT_SECONDS = 60.0
DATA_DIR = Path("var/meridian")

DataDir = Annotated[Path, typer.Option("--data-dir", help="The deployment's directory.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the history and the receipt.")]
By = Annotated[str, typer.Option("--by", help="Who asks (default: the user of this machine).")]
Id = Annotated[
    str, typer.Option("--operation-id", help="Asking twice under one id is asking once (default: a new one).")
]
To = Annotated[str, typer.Argument(help="The region that is to be active.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return when it has ended.")]


def explain(
    region: Annotated[str, typer.Argument(help="A region (default: all).")] = "",
    data_dir: DataDir = DATA_DIR,
    json: Json = False,
) -> None:
    """Show for each region whether it acts, whether it could take over, and every condition of that."""
    deployment = _deployment(data_dir)
    names = [region] if region else [site.name for site in deployment.regions]
    found: dict[str, ExplainAnswer | str] = {}
    for name in names:
        try:
            found[name] = msgspec.json.decode(ask(deployment, "/v1/explain", region=name), type=ExplainAnswer)
        except NoController as silent:
            found[name] = str(silent)
        except Refused as refused:
            found[name] = str(refused)
    if json:
        _print_json(found)
    else:
        for name, answer in found.items():
            print(f"{name}: {answer}" if isinstance(answer, str) else _explained(answer))
    if not any(isinstance(answer, ExplainAnswer) for answer in found.values()):
        raise typer.Exit(UNREACHABLE)


def switchover(
    to: To,
    reason: Reason,
    by: By = "",
    operation_id: Id = "",
    data_dir: DataDir = DATA_DIR,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Move the lease to another region without losing anything: drain, prove, hand over.

    Exit code 0: done, 1: refused, 2: aborted and handed back.
    """
    body = {"operation_id": operation_id or _new_id(), "to": to, "by": by or getpass.getuser(), "reason": reason}
    _operate(_deployment(data_dir), "/v1/switchover", body, wait=wait, json=json)


def failover(
    to: To,
    reason: Reason,
    accept_loss: Annotated[
        int | None, typer.Option("--accept-loss", help="How many events may be lost; without it, the number is shown.")
    ] = None,
    by: By = "",
    operation_id: Id = "",
    data_dir: DataDir = DATA_DIR,
    wait: Wait = True,
    json: Json = False,
) -> None:
    """Make a region active although it may lack something: the loss must be typed.

    Exit code 0: done, 1: refused (the message names the loss), 2: aborted.
    """
    body: dict[str, Any] = {
        "operation_id": operation_id or _new_id(),
        "to": to,
        "by": by or getpass.getuser(),
        "reason": reason,
    }
    if accept_loss is not None:
        body["accept_loss_events"] = accept_loss
    _operate(_deployment(data_dir), "/v1/failover", body, wait=wait, json=json)


def pause(
    reason: Reason,
    seconds: Annotated[int, typer.Option("--for", help="How long, in seconds.")] = 3_600,
    by: By = "",
    operation_id: Id = "",
    data_dir: DataDir = DATA_DIR,
    json: Json = False,
) -> None:
    """Keep everything as it is: no region takes over by itself until the pause ends."""
    body = {
        "operation_id": operation_id or _new_id(),
        "by": by or getpass.getuser(),
        "reason": reason,
        "seconds": seconds,
    }
    answer = _send(_deployment(data_dir), "/v1/pause", body)
    print(answer.decode() if json else f"paused for {seconds} s; `meridian resume` ends it")


def resume(
    reason: Reason = "resumed",
    by: By = "",
    operation_id: Id = "",
    data_dir: DataDir = DATA_DIR,
    json: Json = False,
) -> None:
    """End a pause."""
    body = {"operation_id": operation_id or _new_id(), "by": by or getpass.getuser(), "reason": reason}
    answer = _send(_deployment(data_dir), "/v1/resume", body)
    print(answer.decode() if json else str(msgspec.json.decode(answer)["detail"]))


def _operate(deployment: Deployment, path: str, body: dict[str, Any], *, wait: bool, json: bool) -> None:
    operation = msgspec.json.decode(_send(deployment, path, body), type=Operation)
    if not json:
        print(f"{operation.kind} {operation.operation_id} to {operation.target}: {operation.state}", flush=True)
    deadline = time.monotonic() + WAIT_SECONDS
    while wait and operation.state not in {"done", "aborted"} and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        before = operation.state
        try:
            raw = ask(deployment, f"/v1/operations/{operation.operation_id}")
        except (NoController, Refused):
            continue
        operation = msgspec.json.decode(raw, type=Operation)
        if operation.state != before and not json:
            print(f"{operation.state} {operation.detail}".rstrip(), flush=True)
    if json:
        _print_json(operation)
    if operation.state == "aborted":
        raise typer.Exit(ABORTED)
    if wait and operation.state != "done":
        _refuse(f"still {operation.state} after {WAIT_SECONDS:g} s; `meridian status` shows it", UNREACHABLE)


def _send(deployment: Deployment, path: str, body: object) -> bytes:
    try:
        return ask(deployment, path, body)
    except Refused as refused:
        _refuse(f"refused: {refused}. {refused.remedy}".rstrip(), REFUSED)
    except NoController as silent:
        _refuse(f"{silent}. See docs/operating/lost-quorum.md.", UNREACHABLE)


def _explained(answer: ExplainAnswer) -> str:
    acts = "it acts" if answer.acts else f"it does not act: {answer.why_not}"
    could = "it could be promoted" if not answer.promotion_blocker else answer.promotion_blocker
    lines = [f"{answer.region}: {acts}; {could}", f"  last cycle: {answer.sentence}"]
    for each in answer.predicates:
        mark = "+" if each.holds else "-"
        lines.append(f"  [{mark}] {each.name:<36}{each.value} (wanted: {each.limit})")
    return "\n".join(lines)


def _deployment(data_dir: Path) -> Deployment:
    """The deployment, from inside its network. Ends the command when there is none."""
    try:
        deployment = load_deployment(data_dir)
        # By name: the supervision is another part of the services, and only its network is needed here.
        import_module("services.region.network").enter(deployment)
    except SettingsError as error:
        _refuse(str(error), ExitCode.BAD_SETTINGS)
    return deployment


def _new_id() -> str:
    return random_bytes(6).hex()


def _print_json(value: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _refuse(message: str, code: int) -> NoReturn:
    print(f"meridian: {message}", file=sys.stderr)
    raise typer.Exit(code)
