"""The decision about processes, without any process."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from services.common.exit_codes import ExitCode
from services.region import supervisor
from services.region.errors import StartLater
from services.region.supervision import (
    Action,
    Phase,
    ProcessState,
    RestartPolicy,
    Verb,
    backoff_seconds,
    became_ready,
    decide,
    due_again,
    exited,
    start_blocker,
    started,
    stopping,
    wake_in_seconds,
)

POLICY = RestartPolicy(backoff_first_seconds=0.5, backoff_seconds_max=4.0, stable_after_seconds=30.0)


def region(**phases: Phase) -> dict[str, ProcessState]:
    """A region of four, like the real one: kafka, the preparing step, and two that need the step."""
    states = {
        "kafka": ProcessState("kafka"),
        "prepare": ProcessState("prepare", needs=("kafka",), is_step=True),
        "processor": ProcessState("processor", needs=("prepare",)),
        "gateway": ProcessState("gateway", needs=("prepare",)),
    }
    return {name: replace(state, phase=phases.get(name, Phase.WAITING)) for name, state in states.items()}


def verbs(actions: list[Action]) -> dict[str, Verb]:
    """What is done with whom."""
    return {action.name: action.verb for action in actions}


def test_only_what_needs_nothing_starts_first() -> None:
    """Kafka alone starts in a region of which nothing runs."""
    assert verbs(decide(region(), 0.0)) == {"kafka": Verb.START}


def test_nothing_starts_before_what_it_needs_is_ready() -> None:
    """A broker that was merely started does not let the step run."""
    assert decide(region(kafka=Phase.STARTING), 0.0) == []
    assert verbs(decide(region(kafka=Phase.READY), 0.0)) == {"prepare": Verb.START}


def test_a_step_that_is_done_lets_the_rest_start() -> None:
    """A step counts as ready once it ended with 0."""
    states = region(kafka=Phase.READY, prepare=Phase.STARTING)
    assert decide(states, 0.0) == []
    states["prepare"] = exited(states["prepare"], 0, "", 1.0, POLICY)
    assert verbs(decide(states, 1.0)) == {"processor": Verb.START, "gateway": Verb.START}


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_up_to_a_bound() -> None:
    """Pauses are 0, then double from the first to the largest."""
    pauses = [backoff_seconds(failures, POLICY) for failures in range(1, 8)]
    assert pauses == [0.0, 0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert backoff_seconds(10_000, POLICY) == 4.0


def test_a_process_in_backoff_starts_when_its_pause_is_over_and_not_before() -> None:
    """The pause is kept to the moment, and the supervisor sleeps exactly so long."""
    states = region(kafka=Phase.READY, prepare=Phase.DONE, gateway=Phase.READY)
    state = replace(states["processor"], phase=Phase.READY, ready_at=0.0, failures_in_a_row=1)
    states["processor"] = exited(state, -9, "", 10.0, POLICY)
    assert states["processor"].not_before == 10.5
    assert decide(states, 10.4) == []
    assert wake_in_seconds(states.values(), 10.4, 0.15) == pytest.approx(0.1)
    assert verbs(decide(states, 10.5)) == {"processor": Verb.START}


def test_having_been_ready_for_long_clears_the_count() -> None:
    """A crash after a quiet hour is a first crash again."""
    state = replace(region()["gateway"], phase=Phase.READY, ready_at=100.0, failures_in_a_row=5)
    assert exited(state, 1, "", 129.0, POLICY).failures_in_a_row == 6
    assert exited(state, 1, "", 130.0, POLICY).failures_in_a_row == 1


@pytest.mark.parametrize("code", range(64, 69))
def test_what_an_operator_must_mend_is_not_restarted_and_the_rest_stays_up(code: int) -> None:
    """Exit codes 64 to 68 leave a process down with its reason."""
    states = region(kafka=Phase.READY, prepare=Phase.DONE, processor=Phase.READY, gateway=Phase.READY)
    states["processor"] = exited(states["processor"], code, "unknown frame version 9", 1.0, POLICY)
    assert states["processor"].phase is Phase.REFUSED
    assert states["processor"].reason == "unknown frame version 9"
    assert decide(states, 1000.0) == []
    assert wake_in_seconds(states.values(), 1.0, 0.15) is None


@pytest.mark.parametrize("code", [0, 1, 63, 69, ExitCode.CRASH, -9, -15])
def test_every_other_end_is_restarted(code: int) -> None:
    """A service that ends by itself is started again, whatever it says; also with 0, which nobody asked for."""
    state = replace(region()["gateway"], phase=Phase.READY, ready_at=0.0)
    assert exited(state, code, "", 1.0, POLICY).phase is Phase.BACKOFF


def test_a_restarted_broker_makes_its_step_due_again() -> None:
    """A broker that came back may have come back with less: the log is checked once more."""
    states = region(kafka=Phase.READY, prepare=Phase.DONE, processor=Phase.READY, gateway=Phase.READY)
    states["kafka"] = exited(states["kafka"], -9, "", 1.0, POLICY)
    assert verbs(decide(states, 1.0)) == {"kafka": Verb.START}
    states["kafka"] = started(states["kafka"])
    states.update(due_again(states, "kafka"))
    assert decide(states, 1.0) == []
    states["kafka"] = became_ready(states["kafka"], 2.0)
    assert verbs(decide(states, 2.0)) == {"prepare": Verb.START}
    assert states["kafka"].restarts == 1


def test_a_refusing_step_ends_what_needs_it() -> None:
    """Nobody reads or writes a log that was found cut; the broker stays up to be looked at."""
    states = region(kafka=Phase.READY, prepare=Phase.STARTING, processor=Phase.READY, gateway=Phase.READY)
    states["prepare"] = exited(states["prepare"], ExitCode.LOG_TRUNCATED_OR_GAP, "east-1.events was cut", 1.0, POLICY)
    actions = decide(states, 1.0)
    assert verbs(actions) == {"processor": Verb.TERMINATE, "gateway": Verb.TERMINATE}
    assert "east-1.events was cut" in actions[0].why
    for name in ("processor", "gateway"):
        states[name] = exited(stopping(states[name], "why", 1.0, POLICY), 0, "", 2.0, POLICY)
    assert decide(states, 100.0) == []


def test_ending_goes_from_dependents_to_what_they_need() -> None:
    """The broker ends last, so that the others can finish, although only a step that is over stands between them."""
    states = region(kafka=Phase.READY, prepare=Phase.DONE, processor=Phase.READY, gateway=Phase.READY)
    assert set(verbs(decide(states, 0.0, ending=True))) == {"processor", "gateway"}
    states["processor"] = exited(stopping(states["processor"], "", 0.0, POLICY), 0, "", 1.0, POLICY)
    states["gateway"] = stopping(states["gateway"], "", 0.0, POLICY)
    assert decide(states, 1.0, ending=True) == []
    states["gateway"] = exited(states["gateway"], 0, "", 2.0, POLICY)
    assert verbs(decide(states, 2.0, ending=True)) == {"kafka": Verb.TERMINATE}


def test_what_does_not_end_in_time_is_killed() -> None:
    """SIGTERM is a request with a deadline."""
    states = region(kafka=Phase.READY)
    states["kafka"] = stopping(states["kafka"], "the region ends", 5.0, POLICY)
    due = 5.0 + POLICY.stop_grace_seconds
    assert decide(states, due - 0.1, ending=True) == []
    assert wake_in_seconds(states.values(), due - 0.1, 0.15) == pytest.approx(0.1)
    assert verbs(decide(states, due, ending=True)) == {"kafka": Verb.KILL}


def test_nothing_starts_while_the_region_ends() -> None:
    """A crash during the end is not mended."""
    states = region(kafka=Phase.BACKOFF)
    assert decide(states, 1000.0, ending=True) == []


def test_a_quiet_region_never_wakes_the_supervisor() -> None:
    """No busy loop: with all ready there is nothing to wait for but a signal."""
    states = region(kafka=Phase.READY, prepare=Phase.DONE, processor=Phase.READY, gateway=Phase.READY)
    assert wake_in_seconds(states.values(), 0.0, 0.15) is None


def test_why_a_process_is_not_started_is_said() -> None:
    """Each reason not to start is a sentence."""
    states = region(kafka=Phase.STARTING)
    assert start_blocker(states["prepare"], states, 0.0) == "waits for kafka"
    assert start_blocker(states["kafka"], states, 0.0) == "runs already"
    backing_off = replace(states["kafka"], phase=Phase.BACKOFF, not_before=3.0)
    assert start_blocker(backing_off, states, 1.0) == "starts again in 2.0 s"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (StartLater("etcd has no majority yet"), True),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_what_a_machine_lacks_for_now_is_no_bad_setting(error: Exception, passes: bool) -> None:  # noqa: FBT001
    """A process that could not be started for it is started again; a wrong path wants an operator."""
    assert supervisor._passes(error) is passes
