"""Checksums of blocks: the same for the same records, and different in the block where something differs."""

from __future__ import annotations

from services.replicator.blocks import BLOCK_RECORDS, BlockSums, differences
from services.replicator.compare import BLOCKS_MAX, ChecksumReport, Comparison, Ledger

PLACE = ("east-1.events", 0)


def sums(checksums: list[int], start: int = 0) -> BlockSums:
    """Blocks of these records."""
    found = BlockSums()
    for offset, checksum in enumerate(checksums, start):
        found.take(offset, checksum)
    return found


def test_only_the_block_that_differs_is_named() -> None:
    """One record of the second block is another one, two of the third changed places."""
    ours = list(range(4 * BLOCK_RECORDS))
    theirs = list(ours)
    theirs[1500] = 7
    theirs[2100], theirs[2101] = theirs[2101], theirs[2100]
    found = differences("east-1.events", 0, sums(ours).done, sums(theirs).done)
    assert [difference.block for difference in found] == [1, 2]
    assert "records 1000 to 1999" in str(found[0])


def test_a_block_that_was_not_seen_whole_is_not_compared() -> None:
    """Begun in the middle, or with a hole in it."""
    assert list(sums(list(range(1500)), start=500).done) == [1]
    holed = sums(list(range(300)))
    holed.skip()
    for offset in range(400, 2000):
        holed.take(offset, offset)
    assert list(holed.done) == [1]


def test_a_block_goes_on_after_a_restart() -> None:
    """What is kept of the block under way is all that is needed."""
    before = sums(list(range(300)))
    after = BlockSums(running=before.running, whole=before.whole)
    for offset in range(300, 1000):
        after.take(offset, offset)
    assert after.done == sums(list(range(1000))).done


def report_of(ledger: Ledger, after: int, instance: str = "a") -> ChecksumReport:
    """What the other region answers."""
    rows, following = ledger.after(after, [])
    return ChecksumReport(region="east", instance=instance, next=following, blocks=rows)


def test_regions_compare_what_both_have_completed_once() -> None:
    """A block that we complete later is compared then; a difference is an alarm that names the other region."""
    ledger, comparison = Ledger(), Comparison("east")
    theirs = sums([*range(2500), *range(5000, 5500)])
    ledger.collect({PLACE: theirs})
    ours = sums(list(range(2000)))
    comparison.take(report_of(ledger, comparison.after))
    assert comparison.judge({PLACE: ours}) == {}
    assert comparison.compared == 2
    for offset in range(2000, 3000):
        ours.take(offset, offset)
    alarms = list(comparison.judge({PLACE: ours}).values())
    assert len(alarms) == 1
    assert "records 2000 to 2999" in alarms[0]
    assert "east" in alarms[0]
    comparison.take(report_of(ledger, comparison.after))
    assert comparison.judge({PLACE: ours}) == {}


def test_a_peer_that_was_started_anew_is_asked_for_everything_again() -> None:
    """Its numbering began again: what was asked from is a number of another process."""
    ledger, comparison = Ledger(), Comparison("east")
    ledger.collect({PLACE: sums(list(range(3000)))})
    comparison.take(report_of(ledger, 0))
    assert comparison.after == 3
    comparison.take(report_of(ledger, 3, "b"))
    assert comparison.after == 0
    comparison.take(report_of(ledger, 0, "b"))
    assert len(comparison.theirs[PLACE]) == 3


def test_an_answer_is_bounded_and_the_rest_comes_with_the_next() -> None:
    """Blocks of other logs are left out, and still counted."""
    ledger = Ledger()
    ledger.collect({PLACE: BlockSums(done=dict.fromkeys(range(BLOCKS_MAX + 5), 1))})
    rows, following = ledger.after(0, [])
    assert len(rows) == BLOCKS_MAX
    assert len(ledger.after(following, [])[0]) == 5
    assert ledger.after(0, ["west-1.events"]) == ([], BLOCKS_MAX)
