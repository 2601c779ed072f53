"""Run the measurements, one after the other: each is a module of this folder and prints one JSON object at its end.

    python -m bench                 all of them
    python -m bench fold replay     some of them, with their default options
    python -m bench fold --json     only the JSON objects, one line each, as {"name": {...}}
    python -m bench --list

A single one takes options of its own: `python -m bench.fold --help`. Times on a shared machine are noisy: where there
is a peer in the same run, read the ratio.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


def names() -> list[str]:
    """The modules that measure something: those with a `main`."""
    found = (p for p in sorted(HERE.glob("*.py")) if not p.name.startswith("_"))
    return [p.stem for p in found if "\ndef main(" in p.read_text()]


def measure(name: str, *, quiet: bool) -> tuple[int, str]:
    """Run one module in a process of its own; return its exit status and last line."""
    process = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-m", f"bench.{name}"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    last = ""
    for line in process.stdout or ():
        last = line.strip() or last
        if not quiet:
            print(line, end="", flush=True)
    return process.wait(), last


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}; default: all")
    parser.add_argument("--json", action="store_true", help="print only the results")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    options = parser.parse_args()
    if options.list:
        print("\n".join(names()))
        return
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    failed = []
    for name in options.names or names():
        if not options.json:
            print(f"== {name}", flush=True)
        status, last = measure(name, quiet=options.json)
        if status:
            failed.append(name)
        elif options.json:
            print(json.dumps({name: json.loads(last)}), flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
