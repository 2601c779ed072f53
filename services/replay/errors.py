"""What can go wrong with a replay."""


class ReplayError(Exception):
    """The root of what this package raises."""


class ReplayMisused(ReplayError):
    """The options do not fit together; the message says which."""
