"""`make mutants`: every planted bug must be found, and the tree as it is must pass.

Exit codes: 0 all found and the tree passes, 1 a bug was not found or the tree does not pass, 2 a patch does not fit.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.mutants.hunt import Found, hunt, spare
from tests.mutants.plant import Mutant, MutantError, known_mutants

NOT_FOUND, DOES_NOT_FIT = 1, 2


def main(
    only: Annotated[list[str] | None, typer.Option(help="Only this mutant, by its file's name. Repeatable.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="So many at a time.")] = 2,
    spare_original: Annotated[  # noqa: FBT002 - an option
        bool, typer.Option("--original/--no-original", help="Show also that the tree as it is passes.")
    ] = True,
    campaign: Annotated[
        int, typer.Option(min=0, help="Look with a campaign of so many random seeds instead of each mutant's vehicle.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,  # noqa: FBT002
) -> None:
    """Plant known bugs, one at a time, and show that the checkers find each of them."""
    try:
        mutants = chosen(only or [])
        if campaign:
            mutants = [replace(mutant, vehicle=("campaign",), seeds=campaign) for mutant in mutants]
        found = run(mutants, workers, spare_original=spare_original, quiet=as_json)
    except MutantError as error:
        print(f"mutants: {error}", file=sys.stderr)
        raise typer.Exit(DOES_NOT_FIT) from error
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        show(found)
    raise typer.Exit(0 if all(one.caught for one in found) else NOT_FOUND)


def chosen(names: list[str]) -> list[Mutant]:
    """The mutants of these names, or all. Raises MutantError for a name that there is not."""
    known = known_mutants()
    unknown = sorted(set(names) - {mutant.name for mutant in known})
    if unknown:
        there = ", ".join(mutant.name for mutant in known)
        raise MutantError(f"there is no mutant {', '.join(unknown)}; there are: {there}")
    return [mutant for mutant in known if not names or mutant.name in names]


def run(mutants: list[Mutant], workers: int, *, spare_original: bool, quiet: bool) -> list[Found]:
    """Hunt all of them, and drive every vehicle of theirs over the tree as it is. Raises MutantError."""
    seeds: dict[tuple[str, ...], int] = {}
    for mutant in mutants:
        seeds[mutant.vehicle] = max(seeds.get(mutant.vehicle, 0), mutant.seeds)
    with ThreadPoolExecutor(workers) as pool:
        work: list[Future[Found]] = []
        if spare_original:
            work += [pool.submit(spare, vehicle, count) for vehicle, count in seeds.items()]
        work += [pool.submit(hunt, mutant) for mutant in mutants]
        try:
            for done in as_completed(work):
                if not quiet:
                    print(line_of(done.result()), flush=True)
        except MutantError:
            pool.shutdown(cancel_futures=True)
            raise
        return [done.result() for done in work]


def line_of(found: Found) -> str:
    """One line about one hunt."""
    word = "ok  " if found.caught else "FAIL"
    who = f"{found.by}, seed {found.seed}" if found.by else f"{found.seeds_max} seeds"
    return f"{word} {found.name}: {who}, {found.seconds:g} s{f' ({found.note})' if found.note else ''}"


def show(found: list[Found]) -> None:
    """The table at the end."""
    table = Table(title="mutants")
    for column, justify in (
        ("mutant", "left"),
        ("caught by", "left"),
        ("seed", "right"),
        ("of", "right"),
        ("s", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for one in found:
        by = one.by if one.caught else f"NOT CAUGHT: {one.note}"
        table.add_row(one.name, by or "passes", str(one.seed or ""), str(one.seeds_max), f"{one.seconds:g}")
    Console(soft_wrap=True).print(table, markup=False)


if __name__ == "__main__":
    typer.run(main)
