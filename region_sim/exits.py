"""How a command of `region-sim` ends: 0 valid, 1 invalid, 2 unknown, 254 a wrong drill or option, 255 it broke."""

from __future__ import annotations

from typing import Final

BAD_DRILL: Final = 254
BROKEN: Final = 255


class Concluded(Exception):
    """There is a verdict. (Typer's own Exit could not be told from its exit code for a wrong command line.)"""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code
