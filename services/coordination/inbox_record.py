"""How far an inbox reaches and how far it is moved: what is known of it when its region is lost.

An inbox is not copied. So this is all that survivors can say of what lay in it: which records were known to exist and
not known to be moved, as of a time. Both numbers only grow; whoever writes late changes nothing.
"""

import msgspec

from services.coordination.base import KeyValueStore
from services.coordination.region_record import read_record, update_record


class InboxGap(msgspec.Struct, frozen=True):
    """Records `[start, end)` that were gone before they were moved."""

    partition: int
    start: int
    end: int


class InboxMarks(msgspec.Struct, frozen=True, kw_only=True):
    """By partition, next offsets; a record at or beyond `ends` came after `at_ms`, or was not seen."""

    at_ms: int
    """Unix ms of the gateway's clock before it asked how far the inbox reaches."""
    ends: dict[int, int] = {}
    moved: dict[int, int] = {}
    """Below it, each record is in the events log, below the acknowledged ends of that, or in the dead log."""
    gone: list[InboxGap] = []

    def lag(self) -> int:
        """Records that are known and not known to be moved."""
        return sum(max(0, end - self.moved.get(partition, 0)) for partition, end in self.ends.items())


NO_MARKS = InboxMarks(at_ms=0)


async def inbox_marks(store: KeyValueStore, inbox: str) -> InboxMarks:
    """Return what is known of an inbox; NO_MARKS when there was never anything in it. Raises CoordinationError."""
    return await read_record(store, inbox_key(inbox), InboxMarks) or NO_MARKS


async def raise_inbox_marks(store: KeyValueStore, inbox: str, news: InboxMarks) -> InboxMarks:
    """Merge `news` into what is recorded. Return the result. Raises CoordinationError."""

    def merge(before: InboxMarks | None) -> InboxMarks:
        return merged_marks(before or NO_MARKS, news)

    return await update_record(store, inbox_key(inbox), InboxMarks, merge)


def merged_marks(known: InboxMarks, news: InboxMarks) -> InboxMarks:
    """Return what both say together: nothing that one of them knows is forgotten."""
    return InboxMarks(
        at_ms=max(known.at_ms, news.at_ms),
        ends=_larger(known.ends, news.ends),
        moved=_larger(known.moved, news.moved),
        gone=known.gone + [gap for gap in news.gone if gap not in known.gone],
    )


def inbox_key(inbox: str) -> str:
    """Where the marks of an inbox stand."""
    return f"/meridian/inbox/{inbox}"


def _larger(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {p: max(one.get(p, 0), other.get(p, 0)) for p in sorted({*one, *other})}
