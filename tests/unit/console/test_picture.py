"""What is shown, from what was heard: unknown is never taken for good, and who is cut off outvotes nobody."""

from __future__ import annotations

import typing

import msgspec
import pytest

from services.common.deployment import Deployment, Site
from services.console import said, wording
from services.console.asking import Heard, Readiness
from services.console.picture import FRESH_SECONDS, picture, times
from services.console.said import CanarySaid, ExplainSaid, ForecastSaid, LeaderSaid, LeaseSaid, RegionSaid, StatusSaid
from services.console.shapes import Operating, Picture
from services.console.watch import RegionSeen, Seen
from services.controller.answers import ExplainAnswer, StatusAnswer
from services.controller.answers import Predicate as TheirCondition
from services.controller.answers import RegionLine as TheirLine
from services.controller.client import LeaseAnswer
from services.controller.model import Operation, Pause
from services.inference.report import NamedVersion
from services.replicator.client import ReplicationReport
from tests.support.small_region import champion_report, copied

NOW = 1000.0
MAY = Operating(allowed=True, why_not="", wants_token=False)
DEPLOYMENT = Deployment(
    deployment_id="d",
    network="loopback",
    sites=[
        Site(name="east", kind="region", host="127.0.0.1", base_port=1000),
        Site(name="west", kind="region", host="127.0.0.1", base_port=1020),
        Site(name="north", kind="witness", host="127.0.0.1", base_port=1040),
    ],
    directory="/nowhere",
)


def leader(region: str, revision: int, *, serving: bool = True) -> LeaderSaid:
    """Who holds the lease."""
    return LeaderSaid(region=region, epoch=(0, revision), serving=serving)


def lease(region: str, of: LeaderSaid | None, *, age_ms: int = 100, largest: int | None = None) -> LeaseSaid:
    """What a region's controller says of it."""
    revision = largest if largest is not None else of.epoch[1] if of is not None else 0
    is_active = of is not None and of.region == region
    return LeaseSaid(
        region=region,
        active=is_active,
        remaining_ms=1500 if is_active else 0,
        reason="",
        largest_epoch=(0, revision),
        leader=of,
        view_age_ms=age_ms,
        version=1,
    )


def status(region: str, **blockers: str) -> StatusSaid:
    """What a region's controller says of all; a region without a blocker could take over."""
    lines = [
        RegionSaid(region=name, blocker=blockers.get(name, ""), lag_events=0, lag_seconds=0.0)
        for name in ("east", "west")
    ]
    return StatusSaid(at_ms=1, region=region, sentence="no action", etcd_leader="west", regions=lines)


def seen(**leases: LeaseSaid | None) -> Seen:
    """Everybody heard just now; None: that region's controller does not answer."""
    regions = {}
    for name, found in leases.items():
        region = RegionSeen()
        if found is not None:
            region.lease = Heard(found, NOW - 0.1, "")
            region.status = Heard(status(name), NOW - 0.1, "")
        else:
            region.lease = region.status = Heard(problem="connection refused")
        regions[name] = region
    return Seen(regions=regions, etcd=dict.fromkeys(("east", "west", "north"), Readiness("ready")))


def shown(found: Seen, now_seconds: float = NOW) -> Picture:
    """The picture of it."""
    return picture(DEPLOYMENT, found, MAY, now_seconds)


def test_a_healthy_deployment() -> None:
    """Who serves, under which epoch, and that another one could take over."""
    east = leader("east", 7)
    found = shown(seen(east=lease("east", east), west=lease("west", east)))
    assert (found.headline.level, found.headline.title) == ("good", "east serves")
    assert found.headline.sentence == "Ready to take over: west (0 events, 0.0 s behind)."
    assert (found.active, found.serving, found.known, found.epoch) == ("east", True, True, (0, 7))
    assert [(r.name, r.role, r.promotable) for r in found.regions] == [
        ("east", "active", "active"),
        ("west", "passive", "yes"),
    ]
    assert [site.name for site in found.sites if site.leads] == ["west"]


def test_nobody_answers() -> None:
    """Nothing is claimed: no role, no lag, no word that anybody could take over."""
    found = shown(seen(east=None, west=None))
    assert (found.headline.level, found.headline.title) == ("unknown", "No controller answers")
    assert "east: connection refused" in found.headline.sentence
    assert not found.known
    assert found.controllers_answering == 0
    assert {region.role for region in found.regions} == {"unknown"}
    assert {region.promotable for region in found.regions} == {"unknown"}
    assert all("no controller answers" in region.blocker for region in found.regions)
    assert {region.lag_words for region in found.regions} == {"unknown"}
    assert found.worst_lag_words == "unknown"


def test_what_was_heard_long_ago_is_not_known() -> None:
    """An answer that has grown old says nothing, even when no try has failed meanwhile."""
    east = leader("east", 7)
    heard = seen(east=lease("east", east), west=lease("west", east))
    assert shown(heard, NOW + FRESH_SECONDS - 0.2).known
    later = shown(heard, NOW + FRESH_SECONDS + 0.2)
    assert (later.known, later.headline.level) == (False, "unknown")
    assert later.headline.title == "No controller answers"


def test_a_silent_store_leaves_nothing_known() -> None:
    """Controllers that answer, of a store that does not: who is active is what was last heard, and said as that."""
    east = leader("east", 7)
    found = shown(seen(east=lease("east", east, age_ms=5000), west=lease("west", east, age_ms=9000)))
    assert found.headline.title == "The coordination store is silent"
    assert found.headline.level == "unknown"
    assert (found.known, found.serving, found.active) == (False, False, "east")
    assert all("store is silent" in region.blocker for region in found.regions)


def test_a_region_that_is_cut_off_outvotes_nobody() -> None:
    """East still believes in its lease; west, which the store confirms, has taken over."""
    cut = lease("east", leader("east", 7), age_ms=8000)
    found = shown(seen(east=cut, west=lease("west", leader("west", 9))))
    assert (found.active, found.epoch, found.headline.title) == ("west", (0, 9), "west serves")


def test_the_larger_epoch_counts_among_confirmed_ones() -> None:
    """One controller learned of the takeover some milliseconds before the other."""
    found = shown(seen(east=lease("east", leader("east", 7)), west=lease("west", leader("west", 9))))
    assert found.active == "west"


def test_among_equals_whoever_learned_last_counts() -> None:
    """The lease is gone, and the other controller has not heard yet."""
    heard = seen(east=lease("east", leader("east", 7)), west=lease("west", None, largest=7))
    heard.regions["west"].lease_changed_at = NOW - 0.05
    heard.regions["east"].lease_changed_at = NOW - 90.0
    found = shown(heard)
    assert (found.headline.level, found.headline.title) == ("bad", "No region is active")


def test_a_holder_whose_controller_is_silent_is_no_good_news() -> None:
    """For the two seconds that its lease may still last, nothing says that it serves."""
    found = shown(seen(east=None, west=lease("west", leader("east", 7))))
    assert found.headline.level == "warning"
    assert found.headline.title == "east holds the lease, but its controller does not answer"


def test_the_last_words_of_a_silent_controller_are_not_repeated() -> None:
    """`it may act` was true when it was said."""
    heard = seen(east=lease("east", leader("east", 7)), west=lease("west", leader("east", 7)))
    assert shown(heard).regions[0].sentence == "no action"
    heard.regions["east"].lease = heard.regions["east"].lease.failed("connection refused")
    found = shown(heard).regions[0]
    assert (found.sentence, found.heard) == ("", "its controller does not answer: connection refused")


def test_a_holder_that_does_not_serve_yet() -> None:
    """Markers are being written."""
    east = leader("east", 7, serving=False)
    found = shown(seen(east=lease("east", east), west=lease("west", east)))
    assert (found.headline.level, found.headline.title) == ("warning", "east holds the lease and does not serve yet")


def test_a_blocker_is_shown_word_for_word() -> None:
    """Nobody could take over: that is the headline's business too."""
    east = leader("east", 7)
    heard = seen(east=lease("east", east), west=lease("west", east))
    heard.regions["west"].status = Heard(status("west", west="lag events: 9,000 of 5,000"), NOW, "")
    found = shown(heard)
    assert (found.regions[1].promotable, found.regions[1].blocker) == ("no", "lag events: 9,000 of 5,000")
    assert found.headline.level == "warning"
    assert "west: lag events: 9,000 of 5,000" in found.headline.sentence


def test_a_holder_whose_canary_is_lost_does_not_look_well() -> None:
    """Its gate is open by its own word, and no search comes back."""
    east = leader("east", 7)
    heard = seen(east=lease("east", east), west=lease("west", east))
    said = status("east")
    lost = CanarySaid(at_ms=said.at_ms, sent=9, lost=1, problem="in the log, not folded")
    heard.regions["east"].status = Heard(
        msgspec.structs.replace(said, regions=[msgspec.structs.replace(said.regions[0], canary=lost), said.regions[1]]),
        NOW,
        "",
    )
    found = shown(heard)
    assert (found.headline.level, found.headline.title) == (
        "warning",
        "east is active, but its canary does not come back",
    )
    assert "in the log, not folded" in found.headline.sentence


def test_a_silent_controller_makes_no_candidate() -> None:
    """Another controller's word that it could take over may be as old as its entry."""
    found = shown(seen(east=lease("east", leader("east", 7)), west=None))
    assert found.regions[1].promotable == "unknown"
    assert "connection refused" in found.regions[1].blocker


def test_no_peer_copies_is_seen_on_the_map() -> None:
    """An arrow for each pair, also where no replicator answers and where nothing is copied."""
    east = leader("east", 7)
    heard = seen(east=lease("east", east), west=lease("west", east))
    found = shown(heard)
    assert [(a.source, a.target, a.level) for a in found.arrows] == [
        ("west", "east", "unknown"),
        ("east", "west", "unknown"),
    ]
    logs = [copied("east", held=90, end=100, last_contact_ms=99_990)]
    heard.regions["west"].replication = Heard(_report("west", logs), NOW, "")
    arrow = shown(heard).arrows[1]
    assert (arrow.level, arrow.label) == ("warning", "10 events behind")


def _report(region: str, logs: list[typing.Any], at_ms: int = 100_000) -> ReplicationReport:
    return ReplicationReport(
        region=region,
        incarnation=f"{region}-1",
        at_ms=at_ms,
        logs=logs,
        alarms=[],
        records_per_second=0.0,
        eta_seconds=0.0,
    )


@pytest.mark.parametrize(
    ("held", "contact_ms", "reachable", "level", "words"),
    [
        (100, 99_900, True, "good", "level: nothing behind"),
        (60, 99_900, True, "warning", "40 events, 0.0 s behind"),
        (60, 80_000, True, "bad", "out of reach for 20 s; 40 events known to be missing"),
        (100, 80_000, False, "bad", "out of reach for 20 s"),
        (100, 0, True, "unknown", "its origin was never heard"),
    ],
)
def test_words_of_a_copy(held: int, contact_ms: int, *, reachable: bool, level: str, words: str) -> None:
    """How far it is, in words that tell good from unknown."""
    log = copied("east", held=held, end=100, last_contact_ms=contact_ms, reachable=reachable)
    found = wording.copy_line(_report("west", [log]), log, is_fresh=True)
    assert (found.level, found.words) == (level, words)
    assert wording.copy_line(_report("west", [log]), log, is_fresh=False).level == "unknown"


@pytest.mark.parametrize(
    ("canary", "is_active", "level", "words"),
    [
        (None, True, "unknown", "unknown"),
        (CanarySaid(at_ms=9_000, reached="answer", latency_ms=41.7, sent=5), True, "good", "answered in 42 ms"),
        (CanarySaid(at_ms=9_000, reached="gate", latency_ms=9.0), False, "good", "reached the closed gate in 9 ms"),
        (CanarySaid(at_ms=9_000, reached="gate", latency_ms=9.0), True, "warning", "reached the closed gate in 9 ms"),
        (CanarySaid(at_ms=9_000, sent=4, lost=2), True, "bad", "did not arrive: no answer came, 2 of 4 lost so far"),
        (
            CanarySaid(at_ms=9_000, reached="answer", latency_ms=9.0, problem="scored by counters: no worker"),
            True,
            "warning",
            "answered in 9 ms, scored by counters: no worker",
        ),
        (CanarySaid(at_ms=9_000, problem="no token", unknown=True), True, "unknown", "could not be sent: no token"),
        (CanarySaid(at_ms=-40_000, reached="answer"), True, "unknown", "unknown"),
        (CanarySaid(at_ms=1, reached="answer"), True, "good", "answered"),
    ],
)
def test_words_of_a_canary(canary: CanarySaid | None, *, is_active: bool, level: str, words: str) -> None:
    """An absent one is unknown; one that stops at the gate of an active region is no good sign."""
    assert wording.canary(canary, 10_000, is_active=is_active) == (level, words)


def test_an_old_canary_says_nothing_of_now() -> None:
    """It may have been answered well, a minute ago."""
    found = wording.canary(CanarySaid(at_ms=10_000, reached="answer"), 70_000, is_active=True)
    assert found == ("unknown", "the last one was 60 s ago")


def test_words_of_a_forecast() -> None:
    """The sum and its parts; without one, unknown."""
    assert wording.forecast(None) == "unknown"
    found = ForecastSaid(seconds=3.4, detection_seconds=0.5, lease_seconds=2.0, replay_seconds=0.8, opening_seconds=0.1)
    assert wording.forecast(found) == ("3.4 s (0.5 s to notice + 2.0 s of lease + 0.8 s of replay + 0.1 s to open)")


def test_words_of_models() -> None:
    """Proven is what serves as the alias names it; whatever else there is, is said."""
    proven = msgspec.structs.replace(champion_report(None), named=NamedVersion(version="1", sha256="ab" * 32))
    good = wording.models(Heard(proven, NOW, ""), is_fresh=True)
    assert (good.level, good.words) == ("good", "the champion serves, proven by 512 golden rows")
    blocked = wording.models(Heard(champion_report("version 2 is champion, version 1 serves"), NOW, ""), is_fresh=True)
    assert (blocked.level, blocked.words) == ("bad", "version 2 is champion, version 1 serves")
    stale = wording.models(Heard(champion_report(None), NOW, ""), is_fresh=False)
    assert (stale.level, stale.serving) == ("unknown", "")


def test_the_lease_counts_down_from_the_holders_own_word() -> None:
    """Only the holder knows it; what others say of the lease has no time in it."""
    east = leader("east", 7)
    found = times(seen(east=lease("east", east), west=lease("west", east)), NOW, 5)
    assert (found.lease_until_ms, found.now_ms) == (1_001_400, 1_000_000)
    assert times(seen(east=None, west=lease("west", east)), NOW, 5).lease_until_ms is None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (StatusSaid, StatusAnswer),
        (RegionSaid, TheirLine),
        (said.PauseSaid, Pause),
        (said.OperationSaid, Operation),
        (ExplainSaid, ExplainAnswer),
        (said.Condition, TheirCondition),
        (LeaseSaid, LeaseAnswer),
    ],
)
def test_what_is_read_is_what_controllers_say(ours: type[msgspec.Struct], theirs: type[msgspec.Struct]) -> None:
    """A field that a controller renames would read as its default for ever."""
    coming = {"canary", "rto_forecast"}
    assert set(ours.__struct_fields__) - coming <= set(theirs.__struct_fields__)


def test_an_older_controller_is_read_too() -> None:
    """What it does not say is unknown, not an error."""
    found = msgspec.json.decode(b'{"at_ms": 1, "region": "east", "regions": [{"region": "east"}]}', type=StatusSaid)
    assert found.regions[0].canary is None
    assert found.regions[0].blocker
