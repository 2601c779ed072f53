"""The rules of the code that no linter knows, executed: sizes, clocks, chance, sleeping tests, names of machines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("streams", "models", "services", "region_sim", "infra", "bench", "tests")
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 400
PACE_SECONDS_MAX = 0.05
# A kernel is one flat loop that numba compiles as a whole; cut into pieces it would have to carry its arrays around.
KERNELS = "streams/kernels/"
KERNEL_FUNCTION_LINES_MAX = 100
KERNEL_FILE_LINES_MAX = 480

# Where time and chance may be asked for, and why.
CLOCK_FILES = {
    "services/common/clock.py": "the one place",
    "services/client/clock.py": "the client installs alone, without services.common",
}
CLOCK_PREFIXES = {
    "bench/": "measures the machine's own time",
    "tests/": "waits with deadlines of the machine's own time",
    "infra/": "runs before anything is installed",
}
# Where generators are made from a seed; `random.Random()` without one stays forbidden there.
SEEDED_PREFIXES = {
    "region_sim/memory/": "one seed decides a whole world",
    "region_sim/campaign/": "one seed decides a drill",
}
# Who imports one of these has the event loop of a simulated world.
VIRTUAL_TIME = {
    "region_sim.memory.kernel",
    "region_sim.memory.world",
    "tests.support.memory_world",
    "tests.support.etcd_world",
}
BANNED_CALLS = {
    ("time", "time"): "take a Clock, or the time as an argument",
    ("time", "time_ns"): "take a Clock, or the time as an argument",
    ("datetime", "now"): "take a Clock, or the time as an argument",
    ("datetime", "utcnow"): "take a Clock, or the time as an argument",
    ("datetime", "today"): "take a Clock, or the time as an argument",
    ("date", "today"): "take a Clock, or the time as an argument",
}
BANNED_MODULES = {
    "random": "take a seeded generator as an argument",
    "secrets": "use services.common.clock.random_bytes",
}
BANNED_NAMES = {"utils", "util", "helper", "helpers", "manager", "misc"}


@cache
def sources() -> tuple[tuple[str, str], ...]:
    """Every Python source of the project: its path from the root, and its text."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return tuple((path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths)


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    """Every source, parsed."""
    return tuple((path, ast.parse(text, path)) for path, text in sources())


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the project."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def dotted_calls(tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Every call of the form `name.attribute(...)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            yield name, node.func.attr, node.lineno


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def is_async_test(node: ast.AST) -> bool:
    """A test that pytest runs in an event loop of the machine's own time."""
    return isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")


def assert_none(found: list[str]) -> None:
    """Fail with one finding a line."""
    assert not found, "\n" + "\n".join(found)


def test_functions_fit_a_screen() -> None:
    """A function is read in one go."""
    assert_none(
        [
            f"{path}:{node.lineno} {node.name} has {length} lines, at most {limit}: split it"
            for path, node in functions()
            if (length := (node.end_lineno or node.lineno) - node.lineno + 1)
            > (limit := KERNEL_FUNCTION_LINES_MAX if path.startswith(KERNELS) else FUNCTION_LINES_MAX)
        ]
    )


def test_files_have_one_subject() -> None:
    """A file that wants more than about 400 lines wants to be a package."""
    assert_none(
        [
            f"{path} has {lines} lines, at most {limit}: split it by subject"
            for path, text in sources()
            if (lines := text.count("\n"))
            > (limit := KERNEL_FILE_LINES_MAX if path.startswith(KERNELS) else FILE_LINES_MAX)
        ]
    )


def test_only_the_clock_asks_for_the_time() -> None:
    """Time is an argument, so that tests and the simulator decide it."""
    assert_none(
        [
            f"{path}:{line} calls {name}.{attribute}(): {BANNED_CALLS[name, attribute]}"
            for path, tree in trees()
            if path not in CLOCK_FILES and not path.startswith(tuple(CLOCK_PREFIXES))
            for name, attribute, line in dotted_calls(tree)
            if (name, attribute) in BANNED_CALLS
        ]
    )


def test_only_the_clock_asks_for_chance() -> None:
    """A run with the same seed is the same run."""
    assert_none(
        [
            f"{path}:{node.lineno} imports {name}: {BANNED_MODULES[name]}"
            for path, tree in trees()
            if path not in CLOCK_FILES and not path.startswith(("tests/", *SEEDED_PREFIXES))
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
            if name in BANNED_MODULES and getattr(node, "level", 0) == 0
        ]
    )


def test_seeded_places_draw_only_from_a_seed() -> None:
    """The module's own functions, and a generator without a seed, differ from run to run."""
    assert_none(
        [
            f"{path}:{node.lineno} calls random.{node.func.attr}: draw from random.Random(seed)"
            for path, tree in trees()
            if path.startswith(tuple(SEEDED_PREFIXES))
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if isinstance(node.func.value, ast.Name) and node.func.value.id == "random"
            if node.func.attr != "Random" or not node.args
        ]
    )


def test_tests_do_not_sleep() -> None:
    """A test waits for something with a deadline (`tests/support/poll.py`), never for a time that somebody guessed.

    `sleep(0)` lets others run; a fake or a load may pace itself by a few milliseconds. What runs in a simulated world
    sleeps in its time, which takes none; a test that is itself `async` runs in the machine's, whatever it imports.
    """
    simulated = {path for path, tree in trees() if any(name in VIRTUAL_TIME for name in imported(tree))}
    assert_none(
        [
            f"{path}:{line} sleeps: wait for a condition with wait_until, or give the code a clock that jumps"
            for path, node in functions()
            if path.startswith("tests/") and path != "tests/support/poll.py"
            for name, attribute, line in dotted_calls(node)
            if (name, attribute) in (("time", "sleep"), ("asyncio", "sleep"))
            if not (path in simulated and name == "asyncio" and not is_async_test(node))
            if _seconds(node, line) > (0 if node.name.startswith("test_") else PACE_SECONDS_MAX)
        ]
    )


def _seconds(tree: ast.AST, line: int) -> float:
    """The constant that the call on `line` sleeps for; endless when it is no constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.lineno == line and node.args and isinstance(node.args[0], ast.Constant):
            return float(node.args[0].value)  # type: ignore[arg-type]
    return float("inf")


def test_every_module_says_why_it_is_there() -> None:
    """A module opens with a docstring."""
    assert_none([f"{path} has no docstring" for path, tree in trees() if ast.get_docstring(tree) is None])


def test_every_test_says_what_it_shows() -> None:
    """A test has a sentence that can be read alone when it fails."""
    assert_none(
        [
            f"{path}:{node.lineno} {node.name} has no docstring"
            for path, node in functions()
            if path.startswith("tests/") and node.name.startswith("test_") and ast.get_docstring(node) is None
        ]
    )


def test_no_name_that_says_nothing() -> None:
    """`utils` is where things go that nobody found a place for."""
    assert_none(
        [
            f"{path}: {part!r} says nothing; name what is in it"
            for path, _ in sources()
            for part in re.split(r"[/_.]", path)
            if part in BANNED_NAMES
        ]
    )


@pytest.mark.parametrize("pattern", [r"/home/\w+", r"/root/", r"/Users/\w+", r"/work/\w+"])
def test_no_path_of_one_machine(pattern: str) -> None:
    """What is committed works on any machine."""
    own = Path(__file__).relative_to(ROOT).as_posix()
    texts = [(path, text) for path, text in [*sources(), *_documents()] if path != own]
    assert_none(
        [
            f"{path}:{number}: {line.strip()}"
            for path, text in texts
            for number, line in enumerate(text.splitlines(), 1)
            if re.search(pattern, line)
        ]
    )


def _documents() -> list[tuple[str, str]]:
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    return [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
