"""What can go wrong while counting. None of it ever means "all is well"."""


class LedgerError(Exception):
    """The root of what this package raises."""


class AcksUnreadable(LedgerError):
    """The acknowledgements file is missing or damaged."""


class LogUnreadable(LedgerError):
    """The raw log could not be read as far as it had to be."""


class ClaimsUnavailable(LedgerError):
    """The region does not say what it has counted."""
