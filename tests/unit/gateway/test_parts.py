"""The small pure parts: acknowledged ends, admission, what is believed about the processor, the last check."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from services.common.clock import SystemClock
from services.common.problem import Problem
from services.common.settings import Secret, SettingsError, load
from services.gateway.acked_ends import AckedEnds
from services.gateway.admission import Admission
from services.gateway.answers import AnswerDesk
from services.gateway.metrics import GatewayMetrics
from services.gateway.processor_watch import ProcessorWatch, WatchLimits
from services.gateway.routing import Alone
from services.gateway.settings import GatewaySettings
from streams.asks import Ask
from streams.epochs import read_epoch
from tests.support.gateway_parts import answer_to
from tests.support.gateway_rights import StoppedClock

ASK = Ask(ask_id="g.1", reply_to="g", kind="search", deadline_unix_ms=0, at_ms=0)


def test_ends_grow_and_an_offset_below_one_proves_a_cut() -> None:
    """The offset after the last acknowledged record is the end; one below it was given away before."""
    ends = AckedEnds("log", {0: 5})
    assert ends.acknowledge(0, 5) is None
    assert ends.acknowledge(0, 9) is None
    assert ends.acknowledge(1, 0) is None
    cut = ends.acknowledge(0, 9)
    assert cut is not None
    assert (cut.partition, cut.acknowledged_end, cut.found) == (0, 10, 9)
    assert "log/0" in str(cut)
    assert ends.take_changes() == {0: 10, 1: 1}


def test_nothing_behind_a_cut_is_acknowledged() -> None:
    """Of several frames in flight the later may reach beyond what was acknowledged: they lie behind the cut, too."""
    ends = AckedEnds("log", {0: 10, 1: 10})
    first = ends.acknowledge(0, 9)
    assert first is not None
    for offset in (10, 11):
        again = ends.acknowledge(0, offset)
        assert again is not None
        assert (again.found, again.acknowledged_end) == (9, 10)
    assert ends.acknowledge(1, 10) is None
    assert ends.take_changes() == {0: 10, 1: 11}


def test_a_recorded_end_counts_before_the_first_acknowledgement() -> None:
    """A restarted gateway notices what an earlier one was promised."""
    assert AckedEnds("log", {3: 7}).acknowledge(3, 6) is not None


def test_what_the_log_shows_at_the_start_counts_as_acknowledged() -> None:
    """An earlier process may have acknowledged it without recording that."""
    ends = AckedEnds("log", {0: 5, 1: 5})
    ends.reach({0: 5})
    assert ends.take_changes() is None
    ends.reach({0: 7, 1: 4, 2: 0})
    assert ends.take_changes() == {0: 7, 1: 5}
    assert ends.acknowledge(0, 6) is not None


def test_a_log_must_reach_every_acknowledged_end() -> None:
    """At the start: shorter is a cut, equal and longer are fine."""
    ends = AckedEnds("log", {0: 5, 1: 5, 2: 5})
    assert [(cut.partition, cut.found) for cut in ends.compare({0: 5, 1: 4, 2: 6})] == [(1, 4)]
    assert [cut.partition for cut in ends.compare({0: 5, 2: 6})] == [1]


def test_changes_are_taken_once_and_can_be_given_back() -> None:
    """What could not be recorded is recorded the next time."""
    ends = AckedEnds("log", {})
    assert ends.take_changes() is None
    ends.acknowledge(0, 0)
    assert ends.take_changes() == {0: 1}
    assert ends.take_changes() is None
    ends.give_back()
    assert ends.take_changes() == {0: 1}


def test_admission_is_a_bound_on_events_and_on_bytes() -> None:
    """Over either bound the answer is 429 with Retry-After, and nothing is reserved."""
    admission = Admission(events_max=3, bytes_max=10, retry_after_seconds=2.0)
    admission.enter_events(3)
    for enter in (lambda: admission.enter_events(1), lambda: (admission.enter_bytes(8), admission.enter_bytes(3))):
        with pytest.raises(Problem) as caught:
            enter()
        assert (caught.value.status, caught.value.retry_after_seconds) == (429, 2.0)
    assert (admission.events, admission.bytes) == (3, 8)
    admission.leave_events(3)
    admission.enter_events(2)


def test_a_processor_that_says_it_is_not_ready_is_believed_at_once() -> None:
    """And again at once when it says that it is."""
    watch = ProcessorWatch(WatchLimits())
    watch.health("replaying")
    assert "replaying" in (watch.asked(0.0, 500) or "")
    watch.health(None)
    assert watch.asked(0.0, 500) is None


def test_silence_closes_the_door_but_for_one_trial_at_a_time() -> None:
    """After three asks without an answer the next are refused; one in every interval tries."""
    watch = ProcessorWatch(WatchLimits(silent_asks_max=3, trial_seconds=0.25))
    for _ in range(3):
        assert watch.asked(10.0, 500) is None
        watch.expired(10.0, 500)
    assert "has not answered" in (watch.asked(10.1, 500) or "")
    assert watch.blocker(10.1) == watch.asked(10.1, 500)
    assert watch.asked(10.25, 500) is None
    assert watch.asked(10.3, 500) is not None
    watch.answered()
    assert watch.asked(10.3, 500) is None
    assert watch.blocker(10.3) is None


def test_an_app_that_hardly_waits_closes_the_door_for_nobody() -> None:
    """Short deadlines are no silence and use up no trial; late expiries do not put the next trial off."""
    watch = ProcessorWatch(WatchLimits(silent_asks_max=2, trial_seconds=0.25, deadline_ms_min=200))
    for _ in range(9):
        watch.expired(10.0, 199)
    assert watch.blocker(10.0) is None
    for _ in range(2):
        watch.expired(10.0, 200)
    assert watch.asked(10.1, 500) is not None
    watch.expired(10.2, 500)
    watch.expired(10.2, 1)
    assert watch.asked(10.25, 1) is None
    assert watch.asked(10.25, 500) is None, "the short one did not use up the trial"
    assert watch.asked(10.26, 1) is not None


def test_a_default_deadline_always_counts() -> None:
    """However short it is set."""
    assert GatewaySettings(deadline_ms=50).watch_limits().deadline_ms_min == 50
    assert GatewaySettings().watch_limits() == WatchLimits()


def test_a_recovery_in_health_ends_the_silence() -> None:
    """A processor that was down and is ready again is asked at once."""
    watch = ProcessorWatch(WatchLimits(silent_asks_max=1))
    watch.asked(0.0, 500)
    watch.expired(0.0, 500)
    watch.health(None)
    assert watch.asked(0.1, 500) is not None, "healthy all the while, and silent"
    watch.health("it cannot be reached")
    watch.health(None)
    assert watch.asked(0.1, 500) is None


def desk(clock: StoppedClock | None = None) -> AnswerDesk:
    """A desk for at most two asks, of a region that is alone."""
    metrics = GatewayMetrics(CollectorRegistry())
    return AnswerDesk("g", 2, ProcessorWatch(WatchLimits()), metrics, clock or SystemClock(), Alone())


async def test_an_answer_finds_the_one_who_waits() -> None:
    """By ask id; one that nobody waits for is counted and dropped."""
    at = desk()
    future = at.expect("g.1")
    at.on_ranking(answer_to(ASK), (0, 1))
    assert (await future).ask_id == "g.1"
    at.forget("g.1")
    at.on_ranking(answer_to(ASK), (0, 1))
    assert at.in_flight == 0


async def test_asks_are_bounded() -> None:
    """The third at once is told to come back."""
    at = desk()
    at.expect("g.1")
    assert at.blocker() is None
    at.expect("g.2")
    blocker = at.blocker()
    assert blocker is not None
    assert blocker.status == 429
    assert at.new_id() != at.new_id()


async def test_an_answer_under_a_smaller_epoch_is_never_shown() -> None:
    """Neither when it comes after the larger epoch nor when that comes between its arrival and the writing."""
    at = desk()
    future = at.expect("g.1")
    at.on_epoch((1, 0))
    at.on_ranking(answer_to(ASK, epoch=(0, 9)), (0, 9))
    await asyncio.sleep(0)
    assert not future.done()
    early = answer_to(ASK, epoch=(1, 0))
    at.check(early)
    at.on_epoch((1, 1))
    with pytest.raises(Problem, match="no longer leads"):
        at.check(early)


async def test_an_answer_that_is_no_longer_valid_is_never_shown() -> None:
    """The bound itself is already too late."""
    clock = StoppedClock(unix_ms=999)
    at = desk(clock)
    ranking = answer_to(ASK, valid_until_ms=1000)
    at.check(ranking)
    clock.advance(0.001)
    with pytest.raises(Problem, match="too late"):
        at.check(ranking)


@pytest.mark.parametrize(
    ("raw", "epoch"), [(b"0:1", (0, 1)), (b"12:7", (12, 7)), (b"", None), (None, None), (b"1", None), (b"a:b", None)]
)
def test_the_epoch_header_is_read_or_refused(raw: bytes | None, epoch: tuple[int, int] | None) -> None:
    """Anything else is no epoch, and such a record is not believed."""
    assert read_epoch(raw) == epoch


def test_without_tokens_only_a_loopback_host_is_accepted() -> None:
    """An open door needs a lock; the message says how to get one."""
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        assert load(GatewaySettings, {"MERIDIAN_GATEWAY_HOST": host}).host == host
    for host in ("0.0.0.0", "10.0.0.1", "::", "example.org"):
        with pytest.raises(SettingsError, match="MERIDIAN_GATEWAY_API_TOKENS"):
            load(GatewaySettings, {"MERIDIAN_GATEWAY_HOST": host})
    trusting = {"MERIDIAN_GATEWAY_HOST": "10.77.0.11", "MERIDIAN_GATEWAY_TRUST_NETWORK": "true"}
    assert load(GatewaySettings, trusting).tokens() == ()
    token = "0123456789abcdef"
    opened = load(
        GatewaySettings, {"MERIDIAN_GATEWAY_HOST": "0.0.0.0", "MERIDIAN_GATEWAY_API_TOKENS": f"{token}, x{token}"}
    )
    assert opened.tokens() == (token, f"x{token}")
    assert token not in repr(opened)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("api_tokens", "short"),
        ("batch_events_max", "200000"),
        ("body_bytes_max", "100000000"),
        ("frame_events_max", "50000"),
        ("frame_bytes_max", "4194304"),
    ],
)
def test_bounds_that_contradict_each_other_are_refused(setting: str, value: str) -> None:
    """Settings are checked when they are read, not when the bound is reached."""
    with pytest.raises(SettingsError):
        load(GatewaySettings, {f"MERIDIAN_GATEWAY_{setting.upper()}": value})
    assert GatewaySettings(api_tokens=Secret("")).tokens() == ()
