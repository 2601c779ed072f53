"""The promise over several regions: each way to break it is noticed, and missing evidence is never success."""

import msgspec
import pytest

from services.ledger.acks import Ack
from services.ledger.count import LogCount, key_of
from services.ledger.deployment import DeploymentLedger, Looked, judge_deployment
from services.ledger.verdict import Claims
from services.receipts.model import Range, Receipt

CONTACT_MS = 1_000


def ack(number: int, *, log: str = "east-1.events", acknowledged_ms: int = 500) -> Ack:
    """An acknowledged click at offset `number`."""
    return Ack(
        source="/app", id=str(number), time_ms=1, kind="click", log=log, partition=0, offset=number,
        acknowledged_ms=acknowledged_ms,
    )  # fmt: skip


ACKS = [ack(0), ack(1), ack(2, acknowledged_ms=2_000), ack(3, log="west-1.events")]


def seen(region: str, missing: list[Ack] = [], **changes: object) -> Looked:  # noqa: B006 - never changed
    """What a region without fault shows."""
    count = LogCount(
        frames=4, corrupt_frames=0, rows=4, distinct_events=4, distinct_items=0, item_rows=0, distinct_by_kind={},
        acknowledged=4, lost=0, lost_examples=[],
    )  # fmt: skip
    claims = Claims(
        incarnation=f"{region}-1", frontier=(("east-1.events", 0, 3), ("west-1.events", 0, 1)), events=4, digest="ab"
    )
    good = Looked(region=region, count=count, missing=frozenset(map(key_of, missing)), claims=claims, uncovered="")
    return msgspec.structs.replace(good, **changes)


def receipt(*ranges: tuple[str, int, int], state: str = "confirmed_lost") -> Receipt:
    """East's life was lost."""
    listed = [Range(log=log, partition=0, start=start, end=end, events=None) for log, start, end in ranges]
    return Receipt(
        receipt_id="r1", kind="failover", region="east", incarnation="east-1", was_active=True, issued_by="west",
        epoch=(0, 9), created_ms=1_100, reason="", survivors=["west"], last_contact_ms=CONTACT_MS, ranges=listed,
        remaining=listed, state=state,  # type: ignore[arg-type]
    )  # fmt: skip


def judged(*looked: Looked, receipts: list[Receipt] = [], acks: list[Ack] = ACKS) -> DeploymentLedger:  # noqa: B006
    """The finding."""
    places: dict[tuple[str, str, int, str], list[Ack]] = {}
    for one in acks:
        places.setdefault(key_of(one), []).append(one)
    return judge_deployment(places, looked, receipts)


def test_everything_everywhere_is_valid() -> None:
    """Both regions hold all, counted it once, and hash to the same."""
    found = judged(seen("east"), seen("west"))
    assert (found.verdict, found.events_lost, found.events_listed, found.digests_equal) == ("valid", 0, 0, True)


def test_what_a_range_lists_is_not_lost() -> None:
    """The other offsets of the same log still are."""
    missing = [ACKS[1]]
    listed = judged(seen("east", missing), seen("west", missing), receipts=[receipt(("east-1.events", 1, 2))])
    assert (listed.verdict, listed.events_lost, listed.events_listed) == ("valid", 0, 1)
    beside = judged(seen("east", missing), seen("west", missing), receipts=[receipt(("east-1.events", 2, 3))])
    assert (beside.verdict, beside.events_lost) == ("invalid", 1)


def test_after_the_last_contact_the_receipt_speaks_for_itself() -> None:
    """Unless the life came back, or it is another life's event."""
    missing = [ACKS[2]]
    assert judged(seen("east", missing), seen("west", missing), receipts=[receipt()]).verdict == "valid"
    back = judged(seen("east", missing), seen("west", missing), receipts=[receipt(state="healed")])
    assert back.verdict == "invalid"
    never = msgspec.structs.replace(receipt(), last_contact_ms=0)
    assert judged(seen("east", missing), seen("west", missing), receipts=[never]).verdict == "invalid"
    other = [ack(3, log="west-1.events", acknowledged_ms=9_999)]
    assert judged(seen("east", other), seen("west", other), receipts=[receipt()], acks=other).verdict == "invalid"


def test_an_event_acknowledged_again_elsewhere_must_be_lost_in_both_places_to_be_listed() -> None:
    """A receipt for the first place does not excuse the loss of the second."""
    twice = [ack(1), ack(1, log="west-1.events")]
    found = judged(seen("east", twice), seen("west", twice), receipts=[receipt(("east-1.events", 1, 2))], acks=twice)
    assert (found.events_acknowledged, found.events_lost) == (1, 1)


@pytest.mark.parametrize(
    ("east", "verdict", "sentence"),
    [
        (seen("east", [ACKS[0]]), "invalid", "east does not hold 1"),
        (seen("east", claims=msgspec.structs.replace(seen("east").claims, events=5)), "invalid", "counted 1"),
        (seen("east", claims=msgspec.structs.replace(seen("east").claims, events=3)), "invalid", "did not count 1"),
        (seen("east", claims=msgspec.structs.replace(seen("east").claims, digest="cd")), "invalid", "different states"),
        (
            seen("east", claims=msgspec.structs.replace(seen("east").claims, frontier=(("east-1.events", 0, 2),))),
            "unknown",
            "same frontier",
        ),
        (seen("east", claims=None, uncovered="no answer"), "unknown", "no answer"),
        (seen("east", uncovered="1 partitions are behind"), "unknown", "behind"),
    ],
)  # fmt: skip
def test_one_region_can_break_it(east: Looked, verdict: str, sentence: str) -> None:
    """Each fault alone, with its sentence."""
    found = judged(east, seen("west"))
    assert found.verdict == verdict
    assert sentence in found.sentence


def test_no_acknowledgement_proves_nothing() -> None:
    """And no region neither."""
    assert judged(seen("east"), seen("west"), acks=[]).verdict == "unknown"
    assert judged().verdict == "unknown"
