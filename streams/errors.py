"""What can go wrong with a log or a frame, split by who can do something about it.

`FrameCorrupt` is a property of the bytes alone: every reader, in every region, comes to the same conclusion, so the
frame goes to the dead log and the stream goes on. Everything under `OperatorMustMend` stops the reader instead:
going on would lose acknowledged events, and trying again would not help.
"""

from typing import Final

import msgspec

DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not the JSON or MessagePack they should be: wrong, not UTF-8, or too deep."""


class StreamError(Exception):
    """Root of everything that `streams` raises on purpose."""


class BadEvent(StreamError):
    """An event that an app sent cannot be taken. Nothing of it is kept; the app mends it and sends it again.

    `field` is the path of what is wrong (`data.user`), `cause` a sentence, `remedy` the next step.
    """

    def __init__(self, field: str, cause: str, remedy: str) -> None:
        super().__init__(f"{field}: {cause}. {remedy}")
        self.field = field
        self.cause = cause
        self.remedy = remedy


class FrameCorrupt(StreamError):
    """The bytes of a record are not a frame of the version that its header names."""


class OperatorMustMend(StreamError):
    """Going on would lose or skip something that was acknowledged: stop, and say what to do."""


class UnknownFrameVersion(OperatorMustMend):
    """A frame was written by a newer release than this reader."""


class LogGap(OperatorMustMend):
    """The next record that a reader needs is not in the log any more, but later ones are."""


class LogTruncated(OperatorMustMend):
    """A log ends before, or differs from, what was already read or acknowledged from it."""


class CopyReplaced(LogTruncated):
    """A copy shows another record than the one that was read from it: the copy is wrong, not the log written here."""
