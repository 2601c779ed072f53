"""What can stop a demonstration before it has a verdict."""


class DemoError(Exception):
    """The root of what this package raises; the message says what to look at next."""
