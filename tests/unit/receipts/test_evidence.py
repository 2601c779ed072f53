"""From several regions' reports to one finding."""

from services.coordination.lives import Life, LogCut
from services.receipts import contact_of, held_by_log, log_evidence
from services.receipts.model import Receipt
from services.replicator.client import LogReport, PartitionReport, ReplicationReport

LOG = "east-1.events"


def report(
    region: str,
    held: int,
    origin_end: int,
    *,
    log: str = LOG,
    lag_events: int | None = None,
    reachable: bool = True,
    sealed: bool = False,
    contact_ms: int = 4_000,
    leader_epoch: int = 0,
    walked: bool = True,
) -> ReplicationReport:
    """One region's report about one partition of one log."""
    part = PartitionReport(
        partition=0, held=held, origin_end=origin_end, lag_events=lag_events, leader_epoch=leader_epoch, checksum=""
    )
    found = LogReport(
        log=log,
        origin="east",
        incarnation="east-1",
        source="east",
        reachable=reachable,
        last_contact_ms=contact_ms,
        sealed=sealed,
        caught_up=held >= origin_end,
        lag_records=origin_end - held,
        lag_events=lag_events,
        lag_seconds=0.0,
        partitions=[part],
        walked=walked,
    )
    return ReplicationReport(
        region=region,
        incarnation=f"{region}-1",
        at_ms=1,
        logs=[found],
        alarms=[],
        records_per_second=0.0,
        eta_seconds=None,
    )


def receipt(*logs: str) -> Receipt:
    """One about these logs."""
    return Receipt(
        receipt_id="r",
        kind="failover",
        region="east",
        incarnation="east-1",
        was_active=True,
        issued_by="west",
        epoch=(0, 7),
        created_ms=5_000,
        reason="",
        survivors=["west"],
        last_contact_ms=4_000,
        ranges=[],
        remaining=[],
        state="open",
        known_ends={log: {0: 6} for log in logs},
    )


def test_the_largest_of_all_reports_counts() -> None:
    """One region holds more, another saw a later end, the store knows of a later acknowledgement."""
    west, south = report("west", 4, 9, contact_ms=3_000), report("south", 5, 6, contact_ms=3_500)
    found = log_evidence(LOG, [west, south], {0: 8, 1: 2})
    assert (found.held, found.known_ends, found.last_contact_ms) == ({0: 5}, {0: 9, 1: 2}, 3_500)
    assert log_evidence(LOG, [], {0: 8}).last_contact_ms == 0


def test_events_are_counted_only_for_exactly_that_range() -> None:
    """A count of [4, 9) says nothing about [5, 9); logs without events lose none."""
    west, south = report("west", 4, 9, lag_events=50), report("south", 5, 9, lag_events=41)
    assert log_evidence(LOG, [west, south], {}).events_after_held == {0: 41}
    assert log_evidence(LOG, [west, report("south", 5, 6, lag_events=9)], {}).events_after_held == {}
    assert log_evidence(LOG, [west], {0: 10}).events_after_held == {}
    ranking = report("west", 4, 9, log="east-1.rankings")
    assert log_evidence("east-1.rankings", [ranking], {}).events_after_held == {0: 0}


def test_what_is_held_is_the_longest_copy() -> None:
    """Of the receipt's logs only."""
    reports = {"west": report("west", 4, 9), "south": report("south", 7, 9)}
    assert held_by_log(receipt(LOG), reports) == {LOG: {0: 7}}
    assert held_by_log(receipt("east-1.dead"), reports) == {}


def test_contact_needs_every_log_and_the_same_life() -> None:
    """A sealed log cannot be heard again, and half a region is no contact."""
    assert contact_of(receipt(LOG), {"west": report("west", 4, 9, contact_ms=6_000)}, ["west"]).last_contact_ms == 6_000
    assert contact_of(receipt(LOG), {"west": report("west", 4, 9)}, ["west"]).ends == {LOG: {0: 9}}
    assert contact_of(receipt(LOG), {"west": report("west", 4, 9, sealed=True)}, ["west"]).last_contact_ms == 0
    assert contact_of(receipt(LOG), {"west": report("west", 4, 9, reachable=False)}, ["west"]).last_contact_ms == 0
    assert contact_of(receipt(LOG, "east-1.dead"), {"west": report("west", 4, 9)}, ["west"]).last_contact_ms == 0


def test_regions_that_do_not_report_are_unheard() -> None:
    """Whether or not the origin was heard."""
    assert contact_of(receipt(LOG), {"west": report("west", 4, 9)}, ["west", "south"]).unheard == ["south"]
    assert contact_of(receipt(LOG), {}, ["west"]).unheard == ["west"]


def test_a_replicator_that_has_just_started_was_not_asked() -> None:
    """It does not know of the log yet, or not yet what it holds of it: both would look like holding nothing."""
    west, early = report("west", 4, 9), report("south", 0, 9, log="west-1.events")
    unwalked = report("south", 0, 9, walked=False)
    assert contact_of(receipt(LOG), {"west": west, "south": early}, ["west", "south"]).unheard == ["south"]
    assert contact_of(receipt(LOG), {"west": west, "south": unwalked}, ["west", "south"]).unheard == ["south"]
    assert contact_of(receipt(LOG), {"west": west, "south": report("south", 0, 9)}, ["west", "south"]).unheard == []


def test_what_was_copied_from_behind_a_cut_is_not_what_was_acknowledged() -> None:
    """East ended at 60 with 100 acknowledged, and wrote on under epoch 5: west took 3 of those before it was noticed.

    South held all 100 before; its records are the genuine ones.
    """
    cut = LogCut(LOG, 0, found=60, acknowledged_end=100, leader_epoch=5)
    life = Life(incarnation="east-1", region="east", number=1, cluster_id="a", opened_ms=1, sealed_ms=2, cuts=[cut])
    west, south = report("west", 63, 63, leader_epoch=5), report("south", 100, 100, leader_epoch=4)
    assert log_evidence(LOG, [west], {}, [cut]).held == {0: 60}
    assert held_by_log(receipt(LOG), {"west": west}, [life]) == {LOG: {0: 60}}
    assert log_evidence(LOG, [west, south], {}, [cut]).held == {0: 100}
    unknown = LogCut(LOG, 0, found=60, acknowledged_end=100)
    assert log_evidence(LOG, [west], {}, [unknown]).held == {0: 63}
