"""`meridian settings`."""

from __future__ import annotations

import difflib
import sys
from typing import Annotated

import msgspec
import typer

from services.common.exit_codes import ExitCode
from services.reference.settings import Table, all_tables, as_markdown


def settings(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables, such as gateway (default: all).")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/reference/settings.md.")] = False,
) -> None:
    """Show every setting with its variable, default, bounds and meaning."""
    found = all_tables()
    known = {table.name: table for table in found}
    for name in tables or ():
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            said = f" Did you mean {close[0]}?" if close else ""
            print(f"meridian settings: no table {name!r}.{said} There are: {', '.join(known)}.", file=sys.stderr)
            raise typer.Exit(ExitCode.BAD_SETTINGS)
    chosen = [known[name] for name in tables] if tables else found
    if json:
        print(msgspec.json.format(msgspec.json.encode(chosen), indent=2).decode())
    elif markdown:
        print(as_markdown(chosen), end="")
    else:
        print("\n".join(map(_text, chosen)))


def _text(table: Table) -> str:
    lines = [f"[{table.name}]  {table.summary}"]
    for one in table.settings:
        lines.append(f"  {one.name} = {one.default or '(unset)'}    {one.kind}")
        lines.append(f"      {one.variable}")
        if one.meaning:
            lines.append(f"      {one.meaning}")
    return "\n".join(lines) + "\n"
