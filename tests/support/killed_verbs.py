"""A verb of `meridian models`, killed before its first write to the disk, its second, and so on, until it gets through.

Run as a program: `python -m tests.support.killed_verbs VERB DIRECTORY`. For each write the region is made anew, a child
runs the verb and kills itself (SIGKILL) right before that write; then another runs it to its end. What the region holds
after each is printed as a line of JSON, unless an earlier kill left the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from models.errors import ModelError
from services.coordination import CoordinationError
from services.models.backing import back_up, restore
from services.models.errors import RegistryError
from services.models.pointing import promote
from services.models.premises import Premises
from tests.support.model_premises import MODEL, built, champion, numbers, on_disk, premises_in, pushed, registered

WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.copyfile"}
WRITES_MAX = 200


async def prepare(verb: str, directory: Path) -> None:
    """What the verb finds: one version, its champion; of `promote` a second; of `restore` a backup, an empty store."""
    premises = premises_in(directory / "east")
    await pushed(premises, built(directory / "built"))
    await promote(premises, "1", "champion", expected="", wait_seconds=0, say=lambda _: None)
    if verb != "push":
        await pushed(premises, built(directory / "built", 1.0))
    if verb == "restore":
        await promote(premises, "2", "champion", expected="", wait_seconds=0, say=lambda _: None)
        await back_up(premises, str(directory / "backup"), lambda _: None)
        shutil.rmtree(directory / "east" / "models" / MODEL / "2")
        (directory / "east" / "coordination.json").unlink()
    else:
        built(directory / "built", 1.0)


async def perform(verb: str, directory: Path) -> None:
    """The verb itself."""
    premises = premises_in(directory / "east")
    if verb == "push":
        await pushed(premises, built(directory / "built", 1.0))
    elif verb == "promote":
        await promote(premises, "2", "champion", expected="", wait_seconds=0, say=lambda _: None)
    else:
        found = await restore(premises, str(directory / "backup"), lambda _: None)
        if found.refused:
            raise RegistryError(str(found))


async def state(premises: Premises) -> dict[str, Any]:
    """What the region holds; a version in its place that is not whole is an error."""
    try:
        whole: Any = numbers(premises)
    except ModelError as error:
        whole = str(error)
    return {
        "versions": whole,
        "half": [name for name in on_disk(premises) if name.startswith(".placing/")],
        "registered": await registered(premises),
        "champion": await champion(premises),
    }


def in_child(work: Callable[[], Awaitable[Any]], kill_at: int, under: Path) -> int:
    """Run something in a child of its own; returns its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    seen = 0

    def hook(event: str, words: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event in WRITES or (event == "open" and isinstance(words[2], int) and words[2] & os.O_ACCMODE)
        if not writes or not str(words[0]).startswith(str(under)):
            return
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    code = 1
    try:
        asyncio.run(work())
        code = 0
    except (RegistryError, ModelError, CoordinationError, OSError) as error:
        print(repr(error), file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def main(verb: str, directory: Path) -> None:
    """Every place to be killed at, one after the other."""
    made = in_child(lambda: prepare(verb, directory / "made"), 0, directory)
    assert made == 0
    here = directory / "tried"
    seen: list[dict[str, Any]] = []
    for place in range(1, WRITES_MAX):
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(directory / "made", here)
        status = in_child(lambda: perform(verb, here), place, here / "east")
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        after = asyncio.run(state(premises_in(here / "east")))
        if killed and after in seen:
            continue  # what follows from the same state was seen
        seen.append(after)
        again = in_child(lambda: perform(verb, here), 0, here / "east")
        line = {"place": place, "killed": killed, "after": after, "again": again}
        line["in the end"] = asyncio.run(state(premises_in(here / "east")))
        print(json.dumps(line), flush=True)
        if not killed:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
