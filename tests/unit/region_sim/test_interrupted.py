"""Ctrl-C and SIGTERM end a drill in order: no verdict, exit code 255, and the reason in words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from region_sim.interrupted import Interrupted, both_interrupt, interrupted_later, undisturbed
from tests.support.poll import wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt(number: signal.Signals) -> None:
    """And the handlers of before are put back."""
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="no verdict"), both_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tidying_up_is_not_disturbed(number: signal.Signals) -> None:
    """Somebody who presses Ctrl-C twice must not leave half of it behind."""
    with both_interrupt(), undisturbed():
        signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_must_not_be_half_done_is_done_first(number: signal.Signals) -> None:
    """And then it is interrupted all the same."""
    done = []

    def work() -> None:
        with interrupted_later():
            signal.raise_signal(number)
            done.append("the rest")
        done.append("more")

    with pytest.raises(Interrupted), both_interrupt():
        work()
    assert done == ["the rest"]


EXECUTING_A_STRING = """
import sys
from region_sim.interrupted import Interrupted, both_interrupt
try:
    with both_interrupt():
        exec("import signal; signal.raise_signal({number:d})")
except Interrupted:
    sys.exit(255)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_it_is_interrupted_does_not_change_the_exit_code(number: signal.Signals, tmp_path: Path) -> None:
    """Modules are imported late, and dataclasses execute strings: `python -m` would end by SIGINT after all."""
    (tmp_path / "interrupted_here.py").write_text(EXECUTING_A_STRING.format(number=number))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "interrupted_here"]
    assert subprocess.run(command, check=False, timeout=60, env=environment).returncode == 255


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "words", [["run", "kill-active", "--backend", "memory"], ["campaign", "--seeds", "500", "--workers", "2"]]
)
def test_what_is_interrupted_ends_with_255_and_says_so(
    words: list[str], number: signal.Signals, tmp_path: Path
) -> None:
    """There is no verdict, and no traceback."""
    results = tmp_path / "results"
    command = [sys.executable, "-m", "region_sim", *words, "--out", str(results)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        wait_until(results.exists, 60.0, "a place for the results")
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 255
    assert "region-sim: interrupted, so there is no verdict" in said
    assert "Traceback" not in said
