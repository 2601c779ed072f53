"""The outermost layer of every service: settings in, exit code out.

A service's `__main__` is one call of `run_service`. Whatever ends it is logged as one last line that names cause and
next step, because that line is what the supervisor and `meridian status` show.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

from services.common import logging
from services.common.exit_codes import ExitCode
from services.common.http import stop_on_signals
from services.common.region_settings import RegionSettings
from services.common.settings import ServiceSettings, SettingsError, as_toml, load

LoadedSettings = Mapping[type[ServiceSettings], ServiceSettings]
Serve = Callable[[LoadedSettings, asyncio.Event], Awaitable[None]]


def run_service(
    name: str,
    settings: Sequence[type[ServiceSettings]],
    serve: Serve,
    *,
    exit_codes: Mapping[type[Exception], ExitCode] | None = None,
    arguments: Sequence[str] | None = None,
) -> int:
    """Load each settings class, run `serve(loaded, stop)` until it returns or a signal sets `stop`; return the code.

    `exit_codes` says which exceptions want an operator; the first match in its order wins. Every other one is a crash.
    """
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}")
    parser.add_argument("--print-config", action="store_true", help="print the settings (secrets masked) and end")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    options = parser.parse_args(arguments)
    logging.configure(name, options.log_level)
    log = logging.get_logger(f"services.{name}")
    try:
        loaded = {cls: load(cls) for cls in settings}
        for found in loaded.values():
            if isinstance(found, RegionSettings):
                logging.bind_process(region=found.name, incarnation=found.incarnation or None)
        if options.print_config:
            print("\n".join(as_toml(found) for found in loaded.values()))
            return ExitCode.OK
        asyncio.run(_until_stopped(serve, loaded))
    except Exception as error:  # noqa: BLE001 - the outermost loop
        return log_end(name, error, exit_codes or {})
    except KeyboardInterrupt:
        return ExitCode.OK
    log.info("stopped as asked")
    return ExitCode.OK


def log_end(name: str, error: Exception, exit_codes: Mapping[type[Exception], ExitCode]) -> ExitCode:
    """Log what ended the process as its last line, and return the exit code that goes with it."""
    log = logging.get_logger(f"services.{name}")
    code = _code_of(error, exit_codes)
    if code is ExitCode.CRASH:
        reason = f"{type(error).__name__}: {error}"
        log.error("crashed", exit_code=int(code), reason=reason, exc_info=error)
    else:
        log.error("stopped, an operator must mend this", exit_code=int(code), reason=str(error))
    return code


async def _until_stopped(serve: Serve, loaded: LoadedSettings) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    gc.freeze()  # what was imported lives as long as the process: collections need not walk it
    await serve(loaded, stop)


def _code_of(error: Exception, exit_codes: Mapping[type[Exception], ExitCode]) -> ExitCode:
    if isinstance(error, ExceptionGroup):
        codes = {_code_of(inner, exit_codes) for inner in error.exceptions}
        wanted = sorted(codes - {ExitCode.CRASH})
        return wanted[0] if wanted else ExitCode.CRASH
    if isinstance(error, SettingsError):
        return ExitCode.BAD_SETTINGS
    return next((code for kind, code in exit_codes.items() if isinstance(error, kind)), ExitCode.CRASH)


def main_exit(code: int) -> None:
    """Leave the process with `code` after flushing what was printed."""
    sys.stdout.flush()
    sys.exit(int(code))
