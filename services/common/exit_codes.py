"""How a process ended, as a number that the supervisor and operators act on.

From BAD_SETTINGS to MODEL_REFUSED a restart would only fail again: an operator must mend something, and the last line
that the process logged says what. Everything else is restarted.
"""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """What `main()` of a service returns."""

    OK = 0
    BAD_SETTINGS = 64
    UNKNOWN_FRAME_VERSION = 65
    LOG_TRUNCATED_OR_GAP = 66
    KEY_MISMATCH = 67
    MODEL_REFUSED = 68
    CRASH = 70
    LIFE_OVER = 71
    """Of the preparing step: the log's life is over; end what reads and writes it, and run the step again."""
    LIFE_DRAINED = 72
    """Of the preparing step: all that is left of that life is with the peers; start Kafka anew."""


WANTS_OPERATOR: Final = frozenset(range(ExitCode.BAD_SETTINGS, ExitCode.MODEL_REFUSED + 1))
"""Codes after which the supervisor leaves a process down and says why."""
