"""`meridian status` of a deployment: who is active, who could be, how soon, and what was decided last."""

from __future__ import annotations

import sys
import time

import msgspec

from services.common.deployment import Deployment
from services.controller.answers import StatusAnswer
from services.controller.asking import NoController, Refused, ask
from services.controller.screen import screen
from services.controller.surroundings import NOTHING_AROUND, Looker, Surroundings

WATCH_SECONDS = 1.0


class Status(StatusAnswer, frozen=True, kw_only=True):
    """What `meridian status --json` prints: a controller's answer, and what is around it."""

    deployment_id: str
    around: Surroundings


def show(deployment: Deployment, *, as_json: bool, watch: bool) -> int:
    """Print it; 0: some region serves, 1: none does, or no controller answers. With `watch`, until Ctrl-C."""
    looker = Looker(deployment)
    if watch:
        return _watch(deployment, looker)
    try:
        found = look(deployment, looker)
    except (NoController, Refused) as problem:
        print(f"meridian status: {problem}", file=sys.stderr)
        return 1
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        print(text(found))
    return 0 if found.leader is not None and found.leader.serving else 1


def look(deployment: Deployment, looker: Looker) -> Status:
    """Ask for everything. Raises NoController, Refused."""
    answer = msgspec.json.decode(ask(deployment, "/v1/status"), type=StatusAnswer)
    around = looker.look(answer)
    fields = {name: getattr(answer, name) for name in StatusAnswer.__struct_fields__}
    return Status(**fields, deployment_id=deployment.deployment_id, around=around)


def text(found: StatusAnswer) -> str:
    """The screen in words and columns; of a bare answer, what it says itself."""
    if isinstance(found, Status):
        return "\n".join(screen(found, found.around, found.deployment_id))
    return "\n".join(screen(found, NOTHING_AROUND, ""))


def _watch(deployment: Deployment, looker: Looker) -> int:
    """Draw it anew every second on a terminal; elsewhere print it, again and again, as plain lines."""
    from rich.live import Live
    from rich.text import Text

    def said() -> str:
        try:
            return text(look(deployment, looker))
        except (NoController, Refused) as problem:
            return str(problem)

    try:
        if not sys.stdout.isatty():
            while True:
                print(said(), end="\n\n", flush=True)
                time.sleep(WATCH_SECONDS)
        with Live(Text(said(), no_wrap=True), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(WATCH_SECONDS)
                live.update(Text(said(), no_wrap=True), refresh=True)
    except KeyboardInterrupt:
        return 0
