"""The position of the inbox: never past a record without an outcome."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.inbox.letters import InboxReceipt, receipt_of
from services.gateway.inbox.runs import Run, Runs


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**32), st.sampled_from([1, 2]))
def test_the_position_moves_over_settled_runs_only(sizes: list[int], seed: int, step: int) -> None:
    """Whatever the order of outcomes: below the position everything has one, and at the end all is moved."""
    chance = random.Random(seed)
    runs, at, slots = Runs(), 100, []
    runs.begin(0, at)
    for size in sizes:
        offsets = [at + step * n for n in range(size)]
        at = offsets[-1] + 1
        run = Run(0, offsets, oldest_ms=1)
        runs.take(run)
        slots += [(run, slot) for slot in range(size)]
    chance.shuffle(slots)
    open_offsets = {run.offsets[slot] for run, slot in slots}
    for run, slot in slots:
        if chance.random() < 0.3:
            run.buried(slot, "no")
        else:
            run.moved(slot, (3, 7), slot)
        open_offsets.discard(run.offsets[slot])
        for ready in runs.settled():
            ready.told = True
            ready.said = chance.random() < 0.7
        runs.advance()
        assert all(offset >= runs.positions[0] for offset in open_offsets)
        assert all(run.said for run, _ in slots if run.end <= runs.positions[0]), "moved before its receipt was there"
    for _, run in enumerate({id(run): run for run, _ in slots}.values()):
        run.told = run.said = True
    runs.advance()
    assert runs.positions[0] == at
    assert (runs.waiting, runs.waiting_bytes, runs.oldest_ms()) == (0, 0, 0)


def test_a_partition_that_begins_anew_forgets_what_was_under_way() -> None:
    """Its outcomes come late and move nothing; the same records are read again."""
    runs = Runs()
    runs.begin(0, 10)
    old = Run(0, [10, 11], oldest_ms=5, size_bytes=8)
    runs.take(old)
    runs.begin(0, 4)
    old.moved(0, (0, 0), 0)
    old.moved(1, (0, 0), 1)
    assert not list(runs.settled())
    assert not runs.advance()
    assert (runs.positions[0], runs.waiting, runs.waiting_bytes) == (4, 0, 0)


def test_a_receipt_says_where_each_record_went() -> None:
    """Offsets of the inbox to coordinates of the log; refused ones with their reason."""
    run = Run(2, [5, 6, 9], oldest_ms=0)
    run.moved(0, (1, 40), 3)
    run.buried(1, "time is ahead")
    run.moved(2, (0, 41), 0)
    receipt = msgspec.json.decode(receipt_of(run, "east-1"), type=InboxReceipt)
    assert (receipt.inbox, receipt.log, receipt.partition) == ("east-1.inbox", "east-1.events", 2)
    assert (receipt.start, receipt.end) == (5, 10)
    found = {offset: (receipt.frames[frame], index) for offset, frame, index in receipt.events}
    assert found == {5: ((1, 40), 3), 9: ((0, 41), 0)}
    assert receipt.refused == {6: "time is ahead"}
