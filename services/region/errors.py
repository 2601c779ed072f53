"""What can go wrong when starting, watching or ending a region."""

from __future__ import annotations

from services.common.exit_codes import ExitCode


class RegionError(Exception):
    """Root of everything that `services.region` raises on purpose; `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int = ExitCode.BAD_SETTINGS) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartLater(RegionError):
    """A process cannot be started now, through nobody's fault here: it is tried again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.CRASH)
