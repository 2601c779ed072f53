"""`python -m services.gateway.inbox FD`: the worker process of a gateway, which starts it and talks to it over FD."""

import argparse
import gc
import os
import socket
from pathlib import Path

from services.common import logging
from services.common.clock import SystemClock
from services.common.exit_codes import ExitCode
from services.common.process import main_exit
from services.common.settings import SettingsError
from services.gateway.errors import ProducerBroken
from services.gateway.inbox.messages import Begin
from services.gateway.inbox.worker import GatewayGone, Line, Worker
from services.gateway.pseudonym_key import read_pseudonyms
from streams.pseudonym import Pseudonyms

NICENESS = 5
"""Where cores are few, requests that somebody waits for come before the inbox."""
GARBAGE_MIN = 50_000
"""Events under way are no garbage, and walking them all every few hundred objects finds none."""


def main() -> int:
    """Run the worker; the gateway starts another one unless it ends with 0."""
    parser = argparse.ArgumentParser(prog="python -m services.gateway.inbox", description=__doc__)
    parser.add_argument("fd", type=int, help="number of the inherited socket")
    options = parser.parse_args()
    logging.configure("gateway-inbox", "info")
    log = logging.get_logger("services.gateway.inbox")
    os.nice(NICENESS)
    gc.freeze()  # what was imported lives as long as the process
    gc.set_threshold(GARBAGE_MIN)
    line = Line(socket.socket(fileno=options.fd))
    try:
        begin = _first(line)
        Worker(line, begin, _pseudonyms(begin), SystemClock()).run()
    except GatewayGone:
        return ExitCode.OK
    except (ProducerBroken, SettingsError) as error:
        log.error("the inbox worker ends", reason=str(error))
        return ExitCode.CRASH
    return ExitCode.OK


def _first(line: Line) -> Begin:
    while True:
        for message in line.receive(1.0):
            if isinstance(message, Begin):
                return message


def _pseudonyms(begin: Begin) -> Pseudonyms:
    """The key that the gateway has checked. Raises SettingsError when the file holds another one by now."""
    found = read_pseudonyms(Path(begin.key_file))
    if found.fingerprint != begin.key_fingerprint:
        raise SettingsError(f"{begin.key_file} was replaced while the gateway runs. Put the right file back.")
    return found


if __name__ == "__main__":
    main_exit(main())
