"""The outermost layer of a service: exit codes, signals, last words, printed settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import ClassVar

import pytest

from services.common.exit_codes import ExitCode
from services.common.logging import configure, get_logger
from services.common.process import LoadedSettings, run_service
from services.common.settings import Secret, ServiceSettings, SettingsError
from services.region.last_words import last_words


class Settings(ServiceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table."""

    TABLE: ClassVar[str] = "shop"

    port: int = 80
    token: Secret = Secret("")


class LogCut(Exception):
    """Something that an operator must mend."""


def run(serve: object, arguments: tuple[str, ...] = ()) -> int:
    """Run a service whose cut logs want an operator."""
    codes = {LogCut: ExitCode.LOG_TRUNCATED_OR_GAP}
    return run_service("shop", [Settings], serve, exit_codes=codes, arguments=arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LogCut("east-1.events was cut"), 66),
        (SettingsError("port 1 is taken"), 64),
        (RuntimeError("a bug"), 70),
        (ExceptionGroup("several", [RuntimeError("a bug"), LogCut("east-1.events was cut")]), 66),
    ],
)
def test_what_ended_a_service_decides_its_exit_code(error: Exception, code: int) -> None:
    """What wants an operator has a code of its own, also inside a group; everything else is a crash."""

    async def serve(_: LoadedSettings, __: asyncio.Event) -> None:
        raise error

    assert run(serve) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_service_in_good_order(number: signal.Signals) -> None:
    """SIGTERM and SIGINT set `stop`; the service ends by itself with 0."""
    ended = []

    async def serve(_: LoadedSettings, stop: asyncio.Event) -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        await stop.wait()
        ended.append("in good order")

    assert run(serve) == 0
    assert ended == ["in good order"]


def test_a_wrong_setting_ends_a_service_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code 64, and nothing was served."""
    monkeypatch.setenv("MERIDIAN_SHOP_PORT", "many")
    assert run(None) == 64


def test_printed_settings_mask_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`--print-config` shows everything but secrets, and serves nothing."""
    monkeypatch.setenv("MERIDIAN_SHOP_TOKEN", "t0k3n")
    assert run(None, ("--print-config",)) == 0
    printed = capsys.readouterr().out
    assert "port = 80" in printed
    assert "t0k3n" not in printed


def test_last_words_are_the_reason_in_a_log(tmp_path: Path) -> None:
    """Of a JSON line the reason or event, of anything else the line itself, of nothing nothing."""
    log = tmp_path / "x.log"
    assert last_words(log) == ""
    log.write_text('{"event": "listening"}\n{"event": "stopped", "reason": "the log was cut"}\n\n')
    assert last_words(log) == "the log was cut"
    log.write_text("Traceback (most recent call last):\n  File\nValueError: no\n")
    assert last_words(log) == "ValueError: no"
    log.write_bytes(b"\xff{broken\n" * 5000)
    assert last_words(log).endswith("{broken")


def test_every_library_logs_in_one_shape(capfd: pytest.CaptureFixture[str]) -> None:
    """Our own lines and those of standard-library loggers are JSON objects of the same keys."""
    import logging

    configure("shop")
    get_logger("services.shop").info("published", events=3)
    logging.getLogger("aiokafka").warning("reconnecting to %s", "broker 1")
    ours, theirs = (json.loads(line) for line in capfd.readouterr().err.splitlines())
    assert (ours["event"], ours["events"], ours["service"]) == ("published", 3, "shop")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("reconnecting to broker 1", "aiokafka", "warning")
    assert ours.keys() - {"events"} == theirs.keys()
