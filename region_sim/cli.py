"""`region-sim`: list drills, run them, judge a history again.

Exit codes: 0 valid, 1 invalid, 2 unknown, 254 a wrong drill, setting or option, 255 the drill itself broke.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from region_sim.checkers.base import worst
from region_sim.errors import BadDrill, RegionSimError
from region_sim.show import show_drills, show_verdict, show_verdicts
from region_sim.spec import known_drills, load_drill
from region_sim.verdict import EXIT_CODES, judge_directory
from services.common.settings import SettingsError

BAD_DRILL: Final = 254
BROKEN: Final = 255
app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)


class Concluded(Exception):
    """There is a verdict. (Typer's own Exit could not be told from its exit code for a wrong command line.)"""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


@app.command("list")
def list_drills(json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the drills that come with the project."""
    show_drills(known_drills(), as_json=json)


@app.command()
def run(
    drill: Annotated[str, typer.Argument(help="Name of a drill, or path of a drill file.")],
    backend: Annotated[str, typer.Option(help="process: real Kafka, etcd and services on this machine.")] = "process",
    seed: Annotated[int, typer.Option(help="Decides what the apps say.")] = 1,
    set: Annotated[list[str] | None, typer.Option("--set", help="Replace a value: load.users=50. Repeatable.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run it so often, with the next seeds, in one deployment.")] = 1,
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("drills"),
    attach: Annotated[
        Path | None, typer.Option(help="Break this running deployment instead of starting one of its own.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the deployment running, and its files.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON, and nothing else.")] = False,
) -> None:
    """Run a drill, and judge it."""
    from region_sim.run import RunOptions, run_drill

    if backend != "process":
        raise BadDrill(f"there is no backend {backend!r} yet; there is: process")
    loaded = load_drill(drill, set or [])
    options = RunOptions(
        name=drill, changes=set or [], seed=seed, repeat=repeat, out=out, attach=attach, keep=keep, quiet=json
    )
    ran = run_drill(loaded, options)
    verdicts = [one.verdict for one in ran]
    if json:
        shown = verdicts[0] if len(verdicts) == 1 else verdicts
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        for verdict in verdicts[-1:]:
            show_verdict(verdict)
        if len(verdicts) > 1:
            show_verdicts(verdicts)
        print(verdicts[0].replay)
    raise Concluded(EXIT_CODES[worst(verdict.verdict for verdict in verdicts)])


@app.command()
def judge(
    directory: Annotated[Path, typer.Argument(help="Directory of a drill that was run.")],
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Judge a drill's history again, and write its verdict.json anew."""
    verdict = judge_directory(directory)
    if json:
        print(msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode())
    else:
        show_verdict(verdict)
    raise Concluded(verdict.exit_code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; ends the process with one of the exit codes above."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else list(arguments)))


def run_command(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    try:
        app(list(arguments), prog_name="region-sim")
        code = 0
    except Concluded as concluded:
        code = concluded.exit_code
    except SystemExit as ended:
        # Typer ends so after --help (0) and, having said why, when it does not understand the command line.
        code = BAD_DRILL if ended.code else 0
    except (BadDrill, SettingsError) as error:
        print(f"region-sim: {error}", file=sys.stderr)
        code = BAD_DRILL
    except RegionSimError as error:
        print(f"region-sim: {error}", file=sys.stderr)
        code = BROKEN
    except KeyboardInterrupt:
        code = BROKEN
    except Exception:  # noqa: BLE001 - the outermost loop: whatever it is, it is no verdict
        traceback.print_exc()
        code = BROKEN
    return code
