"""Which lives get a receipt; how lag is read off a replicator's report; where etcd's leader may be."""

from __future__ import annotations

import msgspec

from services.common.deployment import Deployment, Site
from services.controller.cases import NEVER_HEARD_SECONDS, Takeover, other_cases, takeover_case
from services.controller.model import Operation
from services.controller.observe import lag_of
from services.controller.placement import wanted_sites
from services.coordination.lives import Life, LogCut
from services.replicator.client import LogReport, ReplicationReport
from tests.support.small_region import copied

NOW_MS = 1_000_000_000


def life(incarnation: str, **changes: object) -> Life:
    """A life that is written."""
    region, _, number = incarnation.rpartition("-")
    base = Life(incarnation=incarnation, region=region, number=int(number), cluster_id="", opened_ms=NOW_MS - 10_000)
    return msgspec.structs.replace(base, **changes)


def report(*logs: LogReport) -> ReplicationReport:
    """What the own replicator says."""
    return ReplicationReport(
        region="west",
        incarnation="west-1",
        at_ms=NOW_MS,
        logs=list(logs),
        alarms=[],
        records_per_second=0,
        eta_seconds=0,
    )


def takeover(before: str, operation: Operation | None = None) -> Takeover:
    """West took over."""
    return Takeover((0, 9), "west", before, 3, "the lease ended", operation, 1, 2)


def test_a_takeover_is_about_the_life_that_was_active() -> None:
    """Its kind is what led to it; nobody before, or oneself, is no case."""
    lives = [life("east-1", sealed_ms=5), life("east-2"), life("west-1")]
    case = takeover_case(takeover("east"), lives)
    assert case is not None and (case.kind, case.life.incarnation, case.was_active) == ("failover", "east-2", True)
    operation = Operation(
        operation_id="op", kind="switchover", source="east", target="west", by="anna", reason="x", created_ms=0
    )
    planned = takeover_case(takeover("east", operation), lives)
    assert planned is not None and planned.kind == "switchover" and "anna" in planned.reason
    assert takeover_case(takeover(""), lives) is None
    assert takeover_case(takeover("west"), lives) is None


def test_a_life_out_of_reach_gets_one_after_a_while() -> None:
    """Not at once, and not one that has just begun and was never heard."""
    silent = copied("east", held=5, end=5, last_contact_ms=NOW_MS - 11_000, reachable=False)
    lives = [life("east-1", opened_ms=0)]
    assert [case.kind for case in other_cases(lives, [], report(silent), NOW_MS, 10.0)] == ["unreachable"]
    assert other_cases(lives, [], report(silent), NOW_MS, 12.0) == []
    heard = msgspec.structs.replace(silent, reachable=True)
    assert other_cases(lives, [], report(heard), NOW_MS, 10.0) == []
    never = msgspec.structs.replace(silent, last_contact_ms=0)
    young = [life("east-1", opened_ms=NOW_MS - 60_000)]
    assert other_cases(young, [], report(never), NOW_MS, 10.0) == []
    old = [life("east-1", opened_ms=NOW_MS - int(NEVER_HEARD_SECONDS + 11) * 1000)]
    assert len(other_cases(old, [], report(never), NOW_MS, 10.0)) == 1


def test_a_cut_and_a_wipe_that_nobody_noticed_get_one() -> None:
    """The cut names what was lost of it."""
    cut = life("east-1", sealed_ms=5, sealed_because="cut", cuts=[LogCut("east-1.events", 3, 40, 52)])
    (case,) = other_cases([cut], [], report(), NOW_MS, 10.0)
    assert case.kind == "cut" and "east-1.events/3 40-52" in case.reason
    wiped = life("east-1", sealed_ms=5, sealed_because="east came back as east-2")
    (case,) = other_cases([wiped], [], report(), NOW_MS, 10.0)
    assert case.kind == "unreachable" and "east-2" in case.reason


def test_lag_is_that_of_the_last_contact() -> None:
    """An origin that died an hour ago does not make a copy an hour old."""
    dead = msgspec.structs.replace(
        copied("east", held=90, end=100, last_contact_ms=NOW_MS - 3_600_000, reachable=False), lag_seconds=3_600.5
    )
    lag = lag_of(report(dead), {})
    assert (lag.events, lag.seconds) == (10, 0.5)


def test_a_log_that_is_over_counts_while_somebody_holds_more() -> None:
    """What is lost for good must not keep a region from being promoted for ever."""
    lost = msgspec.structs.replace(
        copied("east", held=90, end=100, last_contact_ms=1, reachable=False), sealed=True, caught_up=False
    )
    assert lag_of(report(lost), {}).events == 0
    assert lag_of(report(msgspec.structs.replace(lost, source="south")), {}).events == 10


def test_records_count_when_events_are_not_known() -> None:
    """A record holds at least one event."""
    unknown = msgspec.structs.replace(copied("east", held=90, end=100, last_contact_ms=1), lag_events=None)
    assert lag_of(report(unknown), {}).events == 10


def test_what_was_acknowledged_is_missing_also_when_its_origin_was_never_heard() -> None:
    """A replicator that was started after its origin died knows of no lag: that is no reason to be promoted."""
    never = msgspec.structs.replace(copied("east", held=90, end=90, last_contact_ms=0, reachable=False), lag_events=0)
    assert lag_of(report(never), {}).events == 0
    lag = lag_of(report(never), {"east-1.events": {0: 9_000, 1: 30}})
    assert (lag.events, lag.log) == (8_940, "east-1.events")
    assert lag_of(report(), {"east-1.events": {0: 9_000}}).events == 9_000
    assert lag_of(report(never), {"east-1.events": {0: 80}}).events == 0


def test_etcds_leader_belongs_to_the_witness() -> None:
    """Else to a region that is not active."""
    sites = [
        Site(name=name, kind=kind, host="127.0.0.1", base_port=8_000 + 20 * place)  # type: ignore[arg-type]
        for place, (name, kind) in enumerate([("east", "region"), ("west", "region"), ("north", "witness")])
    ]
    deployment = Deployment(deployment_id="x", network="loopback", sites=sites, directory="/nowhere")
    assert wanted_sites(deployment, "east") == ["north", "west"]
