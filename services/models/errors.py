"""What can go wrong with a verb of `meridian models`, each with the exit code that it ends with."""

from typing import ClassVar

from services.common.exit_codes import ExitCode


class RegistryError(Exception):
    """Root of what these verbs raise on purpose; the message names the cause and the next step."""

    exit_code: ClassVar[int] = 1


class VersionRefused(RegistryError):
    """A version is damaged, unsigned, unknown or does not score as it was shipped: nothing was changed."""

    exit_code = ExitCode.MODEL_REFUSED


class NotDone(RegistryError):
    """It could not be done now (a full disk, somebody else was quicker): nothing was changed."""


class BadRequest(RegistryError):
    """What was asked for does not exist or contradicts itself."""

    exit_code = ExitCode.BAD_SETTINGS


class Unreachable(RegistryError):
    """Who had to be asked does not answer, and it is not known what is."""

    exit_code = 69
