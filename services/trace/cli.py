"""`meridian trace`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer

from services.common.clock import unix_us
from services.common.deployment import DEPLOYMENT_FILE, load_deployment
from services.common.exit_codes import ExitCode
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError, from_file, load
from services.region.network import enter
from services.trace.sources import Reply, Target, collect, targets_in
from services.trace.tree import Tree, notes, trees, unknown
from services.trace.view import show
from streams.asks import RANKING_ID_BYTES, RankingId

UNREACHABLE = 69
UNKNOWN = 1
DEPLOYMENT_DEFAULT = Path("var/meridian")
TOKENS_VARIABLE = "MERIDIAN_GATEWAY_API_TOKENS"


def trace(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="RANKING_ID",
            help="Id of a ranking; of a trace; of the search event; or where that lies: east-1.events/3/120.",
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where the region (default var/<name>) or the deployment (var/meridian) keeps its files."
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(
            "--url", help="Ask this process instead, as in http://127.0.0.1:8080; may be given several times."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a request's way through the processes of all regions, with times.

    Each process keeps the spans of its newest requests in memory ([tracing] ring_requests); this asks all of them.
    Exit code 0: shown; 1: nobody knows it; 69: no process answers.
    """
    try:
        targets = [Target("", "", each.rstrip("/")) for each in url] if url else _targets(data_dir)
        token = _token()
    except SettingsError as error:
        _refuse(str(error), ExitCode.BAD_SETTINGS)
    replies, matched = asyncio.run(collect(targets, wanted.strip(), token, unix_us))
    if all(reply.answer is None for reply in replies):
        said = "; ".join(f"{reply.target.name} {reply.problem}" for reply in replies)
        _refuse(f"no process answers ({said}). Is it up? `meridian status` shows it.", UNREACHABLE)
    found = trees(replies, matched)
    reasons = [] if found else unknown(wanted, replies, _served_ms(wanted))
    if json:
        print(msgspec.json.format(msgspec.json.encode(_document(wanted, replies, found, reasons)), indent=2).decode())
    elif found:
        show(found, notes(replies, found))
    else:
        print("meridian trace: " + "\n  ".join(reasons), file=sys.stderr)
    if not found:
        raise typer.Exit(UNKNOWN)


def _targets(data_dir: Path | None) -> list[Target]:
    """Return who to ask. Raises SettingsError."""
    directory = data_dir
    if directory is None:
        alone = load(RegionSettings).data_dir
        directory = DEPLOYMENT_DEFAULT if (DEPLOYMENT_DEFAULT / DEPLOYMENT_FILE).exists() else alone
        if (alone / "run.json").exists():
            directory = alone
    if (directory / DEPLOYMENT_FILE).exists():
        enter(load_deployment(directory))
    return targets_in(directory)


def _token() -> str:
    """Return what a gateway that asks for tokens takes; empty when none is set. Raises SettingsError."""
    tokens = os.environ.get(TOKENS_VARIABLE, "")
    path = os.environ.get(f"{TOKENS_VARIABLE}_FILE", "")
    if not tokens and path:
        try:
            tokens = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{TOKENS_VARIABLE}_FILE={path} cannot be read: {error}. Correct the path.") from None
    if not tokens:
        tokens = str(from_file("gateway", os.environ).get("api_tokens", ""))
    return tokens.split(",")[0].strip()


def _served_ms(wanted: str) -> int | None:
    """Return the time that a ranking was made for, from its id; None when it is none."""
    try:
        raw = bytes.fromhex(wanted)
    except ValueError:
        return None
    return RankingId.from_bytes(raw).served_ms if len(raw) == RANKING_ID_BYTES else None


def _document(wanted: str, replies: list[Reply], found: list[Tree], reasons: list[str]) -> dict[str, Any]:
    return {
        "wanted": wanted,
        "traces": [
            {
                "trace_id": tree.trace_id,
                "began_us": tree.began_us,
                "ended_us": tree.ended_us,
                "spans": [
                    {"region": node.region, "service": node.service, "depth": depth, **msgspec.to_builtins(node.span)}
                    for node, depth in tree.walk()
                ],
            }
            for tree in found
        ],
        "processes": [
            {
                "name": reply.target.name,
                "url": reply.target.url,
                "problem": reply.problem,
                "clock_ahead_us": reply.clock_ahead_us,
                "clock_within_us": reply.clock_within_us,
            }
            for reply in replies
        ],
        "notes": notes(replies, found),
        "unknown_because": reasons,
    }


def _refuse(message: str, code: int) -> NoReturn:
    print(f"meridian trace: {message}", file=sys.stderr)
    raise typer.Exit(code)
