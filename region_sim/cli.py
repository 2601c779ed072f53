"""`region-sim`: list drills, run them, judge a history again, run a recorded drill again.

Exit codes: 0 valid, 1 invalid, 2 unknown, 254 a wrong drill, setting or option, 255 the drill itself broke.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from region_sim.backends.base import BACKENDS
from region_sim.calibrate import calibrate
from region_sim.campaign.command import campaign
from region_sim.checkers.base import worst
from region_sim.errors import BadDrill, HistoryDamaged, RegionSimError
from region_sim.exits import BAD_DRILL, BROKEN, Concluded
from region_sim.interrupted import both_interrupt
from region_sim.report.cli import register as add_report_to
from region_sim.run import Ran
from region_sim.show import show_drills, show_verdict, show_verdicts
from region_sim.spec import known_drills, load_drill
from region_sim.verdict import EXIT_CODES, judge_directory
from services.common.settings import SettingsError

EPILOG = "Exit codes: 0 valid, 1 invalid, 2 unknown, 254 a wrong drill, setting or option, 255 the drill itself broke."
app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    epilog=EPILOG,
    help="Break regions on purpose, heal them, and judge from outside what became of every promise.",
)

INTERRUPTED = 130
"""With which Typer ends on Ctrl-C."""

OutOption = Annotated[Path, typer.Option(help="Results go into OUT/DRILL/TIME; OUT/DRILL/latest leads to the newest.")]
AttachOption = Annotated[
    Path | None,
    typer.Option(help="Directory of a running deployment that is broken instead of one started for the drill."),
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Leave the deployment running, and its files.")]


@app.command("list", epilog=EPILOG)
def list_drills(json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False) -> None:
    """List the drills that come with the project, with the backends that can run them on this machine."""
    show_drills(known_drills(), as_json=json)


@app.command(epilog=EPILOG)
def run(
    drill: Annotated[str, typer.Argument(help="Name of a drill, or path of a drill file.")],
    backend: Annotated[
        str,
        typer.Option(
            help="process: real Kafka, etcd and services on this machine. compose: the same in containers. memory: "
            "their cores in virtual time."
        ),
    ] = "process",
    seed: Annotated[int, typer.Option(help="Decides what the apps say; in memory, everything.")] = 1,
    set: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Replace a value: load.users=50, faults.0.at_seconds=3. After the last fault, add one."
        ),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Run it so often, with the next seeds, in one deployment.")] = 1,
    out: OutOption = Path("drills"),
    attach: AttachOption = None,
    keep: KeepOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict (of several: a list) and nothing else.")] = (
        False
    ),
) -> None:
    """Run a drill, and judge it.

    The seed and all parameters come first. On a terminal one screen shows what happens, elsewhere a line does for each
    event. Last but one is the path of the report, last the command that runs the same drill again.
    """
    from region_sim.demo.drill import replayed
    from region_sim.run import RunOptions, run_drill

    world = BACKENDS.get(backend)
    if world is None:
        raise BadDrill(f"there is no backend {backend!r}; there are: {', '.join(BACKENDS)}")
    if world == "memory" and (attach is not None or keep):
        raise BadDrill("--attach and --keep are for real regions: in memory nothing is left when a drill is over")
    if world == "compose" and attach is not None:
        raise BadDrill("--attach is for --backend process: a drill on containers has a project of its own")
    loaded = replayed(load_drill(drill, set or []), world)
    options = RunOptions(
        name=drill,
        changes=set or [],
        seed=seed,
        repeat=repeat,
        out=out,
        attach=attach,
        keep=keep,
        quiet=json,
        backend=world,
    )
    with both_interrupt():
        ran = run_drill(loaded, options)
    _conclude(ran, json=json)


@app.command(epilog=EPILOG)
def judge(
    directory: Annotated[Path, typer.Argument(help="Directory of a drill that was run.")],
    json: Annotated[bool, typer.Option("--json", help="Print the verdict and nothing else.")] = False,
) -> None:
    """Judge a drill's history again, and write its verdict.json anew."""
    try:
        verdict = judge_directory(directory)
    except HistoryDamaged as error:
        raise BadDrill(
            f"{error}. Name the directory of a run, such as drills/kill-active/latest; without a whole history there "
            "is no verdict: run the drill again"
        ) from error
    except OSError as error:
        raise BadDrill(f"the verdict cannot be written to {directory}: {error.strerror}") from error
    if json:
        _print_json(verdict)
    else:
        show_verdict(verdict)
    raise Concluded(verdict.exit_code)


@app.command("replay", epilog=EPILOG)
def replay_run(
    directory: Annotated[Path, typer.Argument(help="Directory of a drill that was run: drills/kill-active/latest.")],
    out: OutOption = Path("drills"),
    attach: AttachOption = None,
    keep: KeepOption = False,
    json: Annotated[bool, typer.Option("--json", help="Print how they compare, and nothing else.")] = False,
) -> None:
    """Run a recorded drill again: same drill, seed, parameters and backend. The exit code is of the new verdict.

    Says whether the verdict is the same and, in memory, whether the history is, byte for byte.
    """
    from region_sim.replaying import replay

    with both_interrupt():
        ran, compared = replay(directory, out, attach, keep=keep, quiet=json)
    if json:
        _print_json(compared)
        raise Concluded(ran.verdict.exit_code)
    print(compared.sentence)
    _conclude([ran], json=False)


app.command("campaign", epilog=EPILOG)(campaign)
app.command("calibrate", epilog=EPILOG)(calibrate)


def _conclude(ran: Sequence[Ran], *, json: bool) -> None:
    """Show what came of it, and end with the worst verdict."""
    verdicts = [one.verdict for one in ran]
    if json:
        _print_json(verdicts[0] if len(verdicts) == 1 else verdicts)
    else:
        show_verdict(verdicts[-1])
        if len(verdicts) > 1:
            show_verdicts(verdicts)
        report = ran[-1].report
        if report is not None:
            print(report)
        print(verdicts[0].replay)
    code = EXIT_CODES[worst(verdict.verdict for verdict in verdicts)]
    raise Concluded(code if all(one.promises_kept for one in ran) else max(code, EXIT_CODES["invalid"]))


def _print_json(shown: object) -> None:
    print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


add_report_to(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; ends the process with one of the exit codes above."""
    sys.exit(run_command(sys.argv[1:] if arguments is None else list(arguments)))


def run_command(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    failed = ""
    try:
        app(list(arguments), prog_name="region-sim")
        code = 0
    except Concluded as concluded:
        code = concluded.exit_code
    except SystemExit as ended:
        # Typer ends so after --help (0); when it does not understand the command line, having said why; on Ctrl-C.
        if ended.code == INTERRUPTED:
            code, failed = BROKEN, _told("interrupted")
        elif ended.code:
            code, failed = BAD_DRILL, "the command line is not understood; the error output says why"
        else:
            code = 0
    except (BadDrill, SettingsError) as error:
        code, failed = BAD_DRILL, _told(str(error))
    except RegionSimError as error:
        code, failed = BROKEN, _told(str(error))
    except Exception as error:  # noqa: BLE001 - the outermost loop: whatever it is, it is no verdict
        traceback.print_exc()
        code, failed = BROKEN, f"{type(error).__name__}: {error}"
    if failed and "--json" in arguments:
        # Who reads the output as JSON finds JSON there, whatever happened.
        _print_json({"error": failed, "exit_code": code})
    return code


def _told(sentence: str) -> str:
    print(f"region-sim: {sentence}", file=sys.stderr)
    return sentence
