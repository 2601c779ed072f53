"""With `ack=remote` nothing that was acknowledged may be lost, or listed; and apps ask for it as they should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from region_sim.evidence import HeldEnds, ReceiptsRead
from region_sim.history import HistoryWriter, read_history
from region_sim.load.bare import BareApp
from region_sim.load.library import LibraryApp
from region_sim.load.script import Script
from region_sim.spec import ClockFault, Fault, Kill, Load, Wipe
from region_sim.verdict import Checked, Verdict, judge
from services.common.clock import SystemClock
from services.receipts.model import Range
from tests.support.fake_gateway import FakeGateway
from tests.support.planted_history import LOG, UNIX_MS, Planted, history, range_of, receipt

REMOTE = Load(ack="remote")


def finding(verdict: Verdict) -> Checked:
    """What is said of the promise."""
    return next(found for found in verdict.checks if "another region held" in found.check)


def lost_with_the_region(planted: Planted) -> None:
    """An event that only the wiped region held, acknowledged right before the fault."""
    planted.event(9.9, held="")


def lists_it(planted: Planted) -> None:
    """As the receipt says, too."""
    planted.receipts = [receipt(state="confirmed_lost", ranges=[range_of(17, 18, 1)], remaining=[range_of(17, 18, 1)])]


def test_a_listed_loss_is_fine_for_apps_that_did_not_ask_and_for_no_others() -> None:
    """The same history: with `local` the receipt excuses it, with `remote` nothing does."""
    local = judge(history("wipe", before=lost_with_the_region, end=lists_it, held_end=17))
    assert (local.verdict, local.lost, local.lost_unlisted, local.rpo_events) == ("valid", 1, 0, 1)
    remote = judge(history("wipe", before=lost_with_the_region, end=lists_it, held_end=17, load=REMOTE))
    assert (remote.verdict, finding(remote).verdict) == ("invalid", "invalid")
    assert "click 'e17' at east-1.events/0/17" in finding(remote).examples[0]


def test_a_receipt_that_lists_an_acknowledged_event_is_found_though_nothing_is_lost() -> None:
    """It came back; what the receipt said was wrong all the same."""
    wrong = receipt(receipt_id="r2", kind="unreachable", ranges=[range_of(3, 4, 1)])

    def end(planted: Planted) -> None:
        planted.receipts.append(wrong)

    assert finding(judge(history("kill", end=end, load=REMOTE))).verdict == "invalid"


def test_a_record_may_be_listed_before_its_app_is_told_that_it_is_safe() -> None:
    """Found by a campaign, seed 1346: listed while only its writer held it; it was copied, and only then acknowledged.

    What is still missing in the end was never safe; and by a clock that was set nobody can say which came first.
    """

    def end(state: str, left: list[Range], told_before: int) -> Callable[[Planted], None]:
        listed = [range_of(18, 19, None)]
        return lambda planted: planted.receipts.append(
            receipt(
                receipt_id="r2",
                kind="unreachable",
                state=state,
                created_ms=UNIX_MS + 15_500 + told_before,
                ranges=listed,
                remaining=left,
            )
        )

    def verdict(end: Callable[[Planted], None], faults: list[Fault] | None = None) -> str:
        return finding(
            judge(history("kill", after=lambda planted: planted.event(15.5), end=end, load=REMOTE, faults=faults))
        ).verdict

    assert verdict(end("healed", [], -1)) == "valid"
    assert verdict(end("healed", [], 1)) == "invalid"
    assert verdict(end("healed", [], 1), [Kill(), ClockFault()]) == "valid"
    assert verdict(end("confirmed_lost", [range_of(18, 19, None)], -1)) == "invalid"


def test_a_history_without_losses_or_listings_keeps_the_promise() -> None:
    """The right one passes."""
    verdict = judge(history("wipe", load=REMOTE))
    assert (verdict.verdict, finding(verdict).verdict) == ("valid", "valid")
    assert (verdict.lost, verdict.rpo_events) == (0, 0)


def test_what_survivors_held_in_one_loss_says_nothing_about_a_later_one() -> None:
    """Found by a campaign, seed 3469: nobody was left to be asked the second time, and the first answer was taken."""

    def lost_again(planted: Planted) -> None:
        planted.event(15.2)
        planted.heal(planted.strike(15.4), 15.8)

    verdict = judge(history("kill", after=lost_again, held_end=17, load=REMOTE, faults=[Kill(), Kill()]))
    assert (verdict.rpo_events, finding(verdict).verdict) == (0, "valid")


def test_each_loss_counts_what_its_survivors_lacked() -> None:
    """And what they had got by a later one counts all the same, once: it was missing after the first."""

    def lost_again(planted: Planted) -> None:
        again = planted.strike(15.4)
        held = HeldEnds(region="west", log=LOG, next_offsets={0: 13})
        planted.add("info", "collect", "collector", 15.6, evidence=held)
        planted.heal(again, 15.8)

    verdict = judge(history("kill", after=lost_again, held_end=15, load=REMOTE, faults=[Kill(), Kill()]))
    assert verdict.rpo_events == 2, "offsets 13 and 15"
    assert "2 were held by no survivor" in finding(verdict).sentence


@pytest.mark.parametrize(
    ("lost_at", "said_at", "verdict"),
    [(15.45, None, "valid"), (15.75, 15.5, "invalid"), (15.45, 15.25, "invalid"), (15.45, 15.47, "valid")],
)
def test_a_second_loss_before_the_copies_of_the_first_are_back_is_more_than_was_promised(
    lost_at: float, said_at: float | None, verdict: str
) -> None:
    """Found by a campaign, seed 30062: the passive region was wiped, and the active one cut off while it came back.

    What was acknowledged after the wipe is held again, with all that lies before it: copies are prefixes.
    """

    def after(planted: Planted) -> None:
        wiped = planted.strike(15.3, kind="wipe", target="west", incarnation="west-1", was_active=False)
        planted.heal(wiped, 15.4)
        if said_at is not None and said_at < lost_at:
            planted.event(said_at)
        again = planted.strike(lost_at)
        if said_at is not None and said_at > lost_at:
            planted.event(said_at)
        held = HeldEnds(region="west", log=LOG, next_offsets={0: 0})
        planted.add("info", "collect", "collector", lost_at + 0.1, evidence=held)
        planted.heal(again, lost_at + 0.2)

    judged = judge(history("kill", after=after, load=REMOTE, faults=[Kill(), Wipe(target="passive"), Kill()]))
    assert finding(judged).verdict == verdict, finding(judged).sentence
    assert judged.rpo_events, "the figure says what it would have cost, whatever was promised"


def test_a_wipe_of_the_lost_region_itself_excuses_nothing() -> None:
    """Its copies are none that anybody counts on."""

    def after(planted: Planted) -> None:
        wiped = planted.strike(15.3, kind="wipe")
        held = HeldEnds(region="west", log=LOG, next_offsets={0: 13})
        planted.add("info", "collect", "collector", 15.4, evidence=held)
        planted.heal(wiped, 15.5)

    judged = judge(history("kill", after=after, load=REMOTE, faults=[Kill(), Wipe()]))
    assert "were held by no survivor" in finding(judged).sentence


@pytest.mark.parametrize("missing", [HeldEnds, ReceiptsRead])
def test_what_nobody_looked_at_proves_nothing(missing: type) -> None:
    """Unknown, never kept."""
    entries = [entry for entry in history("wipe", load=REMOTE) if not isinstance(entry.evidence, missing)]
    renumbered = [msgspec.structs.replace(entry, index=place) for place, entry in enumerate(entries)]
    assert finding(judge(renumbered)).verdict == "unknown"


@pytest.mark.parametrize("make", [LibraryApp, BareApp])
async def test_events_ask_for_another_region_and_searches_do_not(
    tmp_path: Path, make: Callable[..., LibraryApp | BareApp]
) -> None:
    """A region that is left alone must still rank; where that search's event lies is then no promise."""
    path, script = tmp_path / "history.jsonl", Script(1, REMOTE, "r")
    async with FakeGateway() as gateway:
        urls = gateway.url if make is BareApp else [gateway.url]
        with HistoryWriter(path, SystemClock()) as written:
            async with make("app", urls, REMOTE, written, SystemClock()) as app:
                await app.publish(script.events("app", 0))
                await app.search(script.search("app", 0))
        asked = {where: headers.get("Meridian-Ack") for where, _, headers in gateway.requests}
    assert asked == {"/v1/events": "remote", "/v1/search": "local"}
    completed = {entry.op: entry for entry in read_history(path) if entry.type == "ok"}
    assert completed["publish"].acks
    assert completed["search"].acks == []
