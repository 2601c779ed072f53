"""`meridian`: one command, whose verbs live with what they do.

A verb is a function elsewhere, imported when it is asked for: `meridian --help` must not load a fold, and a region's
supervisor must not carry what `meridian replay` needs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple


class Verb(NamedTuple):
    """Where a verb lives (`module:function`), and its line in the help."""

    place: str
    summary: str


VERBS = {
    "up": Verb("services.region.cli:up", "Start a region and supervise it"),
    "status": Verb("services.region.cli:status", "Show the region's processes"),
    "down": Verb("services.region.cli:down", "End the region"),
    "replay": Verb("services.replay.cli:replay", "Publish a log of real events, and judge the rankings it gets"),
    "ledger": Verb("services.ledger.cli:ledger", "Hold acknowledgements against the raw log and the region's counts"),
    "demo": Verb("services.demo.cli:demo", "Say where the demonstration went: `make demo` is a drill of region-sim"),
    "quality": Verb("services.demo.cli:quality", "Rank every real search of a data set"),
    "digest": Verb(
        "services.processor.cli:digest", "Hash of the state at its frontier; --from-zero replays the whole log"
    ),
    "explain": Verb("services.controller.cli:explain", "Show which region acts, which could, and why"),
    "switchover": Verb("services.controller.cli:switchover", "Move the lease to another region, losing nothing"),
    "failover": Verb("services.controller.cli:failover", "Make a region active, accepting a typed loss"),
    "pause": Verb("services.controller.cli:pause", "Keep regions as they are for a while"),
    "resume": Verb("services.controller.cli:resume", "End a pause"),
    "receipts": Verb("services.audit.cli:receipts", "Show what lost regions took with them, and whom it concerns"),
    "history": Verb("services.audit.cli:history", "Show what happened to the deployment, and verify that it is whole"),
    "settings": Verb("services.reference.cli:settings", "Show every setting with its variable, default and meaning"),
    "prometheus-targets": Verb(
        "services.region.cli_targets:prometheus_targets", "Print what a Prometheus scrapes of the deployment"
    ),
    "console": Verb("services.console.cli:console", "Serve a web page that shows the deployment live"),
    "trace": Verb("services.trace.cli:trace", "Show a request's way through the processes, with times"),
    "models": Verb("services.models.cli:models", "Make, prove, ship, compare and keep model versions"),
}

USAGE = "Usage: meridian COMMAND [OPTIONS]\n\nSearch and recommendation event streams.\n\nCommands:\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; ends the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text())
        sys.exit(0 if words else 64)
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"meridian {version('meridian')}")
        return
    verb = VERBS.get(words[0])
    if verb is None:
        print(f"meridian: no such command: {words[0]}.{suggestion(words[0])}", file=sys.stderr)
        sys.exit(64)
    run(words[0], verb, words[1:])


def help_text() -> str:
    """Return the list of verbs."""
    width = max(map(len, VERBS)) + 2
    lines = [f"  {name:<{width}}{verb.summary}" for name, verb in VERBS.items()]
    return USAGE + "\n".join(lines) + "\n\n`meridian COMMAND --help` shows a command's options."


def suggestion(word: str) -> str:
    """Return what to do after a misspelt verb."""
    import difflib

    close = difflib.get_close_matches(word, VERBS, n=1)
    return f" Did you mean `meridian {close[0]}`?" if close else " `meridian --help` lists them."


def run(name: str, verb: Verb, arguments: list[str]) -> None:
    """Import the verb's module and run its function under typer; a Typer application of that name works as well."""
    module_name, _, attribute = verb.place.partition(":")
    try:
        found = getattr(import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        print(f"meridian: `{name}` is not part of this installation ({module_name} is missing)", file=sys.stderr)
        sys.exit(64)

    import typer

    app = found
    if not isinstance(found, typer.Typer):
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command()(found)
    app(arguments, prog_name=f"meridian {name}")


if __name__ == "__main__":
    main()
