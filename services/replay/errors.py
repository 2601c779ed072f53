"""What can go wrong with a replay."""


class ReplayError(Exception):
    """The root of what this package raises."""


class NobodyAnswers(ReplayError):
    """Nothing of a whole call was acknowledged or refused within the time allowed: going on would only pile up."""


class ReplayMisused(ReplayError):
    """The options do not fit together; the message says which."""
