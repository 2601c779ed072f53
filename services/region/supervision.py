"""When a process is started, restarted, left alone or ended: a pure decision over what is known of all of them.

The shell (`supervisor.py`) reports what happened to a process (`started`, `became_ready`, `exited`) and performs what
`decide` says. Three rules carry it:

* A process starts when everything it needs is ready, and ends before what it needs ends.
* A process that dies is restarted: the first time at once, because a crash is mostly about the moment; then with a
  pause that doubles up to a bound, because a second crash is mostly about the state. Having been ready for a while
  clears the count. Exit codes 64 to 68 mean that a restart cannot help; it stays down
  with its reason, the rest stays up.
* A *step* (a process that ends by itself when its work is done) counts as ready when it ended with 0, and is due again
  whenever something that it needs was restarted: a broker that comes back may have come back with less. A process
  that found its log cut has the step that judges logs run again (`rechecked_by`), where there is a way on: the step may
  find that the log's life is over (LIFE_OVER), then all that need it are ended and it runs again; and that nothing of
  that life is needed here any more (LIFE_DRAINED), then what the step itself needs is ended, to start anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from services.common.exit_codes import WANTS_OPERATOR, ExitCode


class Phase(StrEnum):
    """Where a process is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKOFF = "backoff"
    DONE = "done"
    REFUSED = "refused"
    STOPPING = "stopping"
    STOPPED = "stopped"


ALIVE = frozenset({Phase.STARTING, Phase.READY, Phase.STOPPING})
SATISFIED = frozenset({Phase.READY, Phase.DONE})


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The bounds of restarting and stopping."""

    backoff_first_seconds: float = 0.5
    backoff_seconds_max: float = 10.0
    stable_after_seconds: float = 30.0
    stop_grace_seconds: float = 12.0


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What is known of one process; times are the supervisor's monotonic seconds."""

    name: str
    needs: tuple[str, ...] = ()
    is_step: bool = False
    rechecked_by: str = ""
    phase: Phase = Phase.WAITING
    ready_at: float | None = None
    restarts: int = 0
    failures_in_a_row: int = 0
    not_before: float = 0.0
    kill_at: float = 0.0
    exit_code: int | None = None
    reason: str = ""

    @property
    def alive(self) -> bool:
        """Whether a process of the operating system stands behind it."""
        return self.phase in ALIVE


class Verb(StrEnum):
    """What the shell does with a process."""

    START = "start"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do, and why, in words for the log."""

    verb: Verb
    name: str
    why: str


States = Mapping[str, ProcessState]


def started(state: ProcessState) -> ProcessState:
    """Return the state after its process was started."""
    again = state.exit_code is not None and not state.is_step
    return replace(
        state, phase=Phase.STARTING, ready_at=None, restarts=state.restarts + again, reason="has not reported yet"
    )


def not_ready(state: ProcessState, reason: str) -> ProcessState:
    """Return the state after a probe of a starting process found why it is not ready."""
    return replace(state, reason=reason)


def became_ready(state: ProcessState, now: float) -> ProcessState:
    """Return the state after the process said that it is ready."""
    return replace(state, phase=Phase.READY, ready_at=now, reason="")


def stopping(state: ProcessState, why: str, now: float, policy: RestartPolicy) -> ProcessState:
    """Return the state after the process was asked to end."""
    return replace(state, phase=Phase.STOPPING, kill_at=now + policy.stop_grace_seconds, reason=why)


def exited(state: ProcessState, exit_code: int, reason: str, now: float, policy: RestartPolicy) -> ProcessState:
    """Return the state after the process ended with `exit_code` (negative: a signal) and `reason`, its last line."""
    ended = replace(state, exit_code=exit_code, reason=reason, ready_at=None, kill_at=0.0)
    if state.phase is Phase.STOPPING:
        return replace(ended, phase=Phase.STOPPED, reason=state.reason, failures_in_a_row=0)
    if exit_code in WANTS_OPERATOR and not wants_recheck(ended):
        return replace(ended, phase=Phase.REFUSED)
    if state.is_step and exit_code == 0:
        return replace(ended, phase=Phase.DONE, reason="", failures_in_a_row=0)
    was_stable = state.ready_at is not None and now - state.ready_at >= policy.stable_after_seconds
    failures = 1 if was_stable else state.failures_in_a_row + 1
    return replace(
        ended, phase=Phase.BACKOFF, failures_in_a_row=failures, not_before=now + backoff_seconds(failures, policy)
    )


def backoff_seconds(failures_in_a_row: int, policy: RestartPolicy) -> float:
    """Return the pause before the restart after the nth failure in a row: none, then doubling up to the bound."""
    if failures_in_a_row <= 1:
        return 0.0
    exponent = min(failures_in_a_row - 2, 30)
    return min(policy.backoff_seconds_max, policy.backoff_first_seconds * 2.0**exponent)


def wants_recheck(state: ProcessState) -> bool:
    """Say whether a process ended because its log was cut, and a step is there to judge that."""
    return state.exit_code == ExitCode.LOG_TRUNCATED_OR_GAP and bool(state.rechecked_by)


def due_again(states: States, restarted: str) -> dict[str, ProcessState]:
    """Return the steps that must run again because `restarted`, which they need, was started anew."""
    return {
        name: replace(state, phase=Phase.WAITING, exit_code=0, failures_in_a_row=0)
        for name, state in states.items()
        if state.is_step and restarted in state.needs and (state.phase is Phase.DONE or _drained(state))
    }


def due_for_recheck(states: States, ended: str) -> dict[str, ProcessState]:
    """Return the step that must run again because the process `ended` found its log cut."""
    state = states[ended]
    step = states.get(state.rechecked_by)
    if step is None or not wants_recheck(state) or step.phase is not Phase.DONE:
        return {}
    return {step.name: replace(step, phase=Phase.WAITING)}


def decide(states: States, now: float, *, ending: bool = False) -> list[Action]:
    """Return what is to be done now. With `ending`, everything is ended, dependents first, and nothing starts."""
    actions = [Action(Verb.KILL, s.name, "did not end in time") for s in states.values() if _overdue(s, now)]
    if ending:
        return actions + [
            Action(Verb.TERMINATE, state.name, "the region ends")
            for state in states.values()
            if state.phase in (Phase.STARTING, Phase.READY) and not _needed_by_a_living_one(state.name, states)
        ]
    actions += _ended_with_a_life(states)
    for state in states.values():
        refused = _refused_need(state, states)
        if refused is not None:
            if state.phase in (Phase.STARTING, Phase.READY):
                actions.append(Action(Verb.TERMINATE, state.name, f"{refused.name} refused: {refused.reason}"))
        elif start_blocker(state, states, now) is None:
            actions.append(Action(Verb.START, state.name, "again" if state.exit_code is not None else "first start"))
    return actions


def start_blocker(state: ProcessState, states: States, now: float) -> str | None:
    """Return why a process is not started now, or None."""
    if state.alive:
        return "runs already"
    if state.phase in (Phase.DONE, Phase.REFUSED):
        return f"is {state.phase}"
    missing = [need for need in state.needs if states[need].phase not in SATISFIED]
    if missing:
        return f"waits for {', '.join(missing)}"
    if (blocker := _between_lives(state, states)) is not None:
        return blocker
    if state.phase is Phase.BACKOFF and now < state.not_before:
        return f"starts again in {state.not_before - now:.1f} s"
    return None


def wake_in_seconds(states: Iterable[ProcessState], now: float, probe_interval_seconds: float) -> float | None:
    """Return when there is next something to do without a signal; None: nothing, so a quiet region costs nothing."""
    waits = []
    for state in states:
        if state.phase is Phase.STARTING and not state.is_step:
            waits.append(probe_interval_seconds)
        elif state.phase is Phase.BACKOFF and state.not_before > now:
            waits.append(state.not_before - now)
        elif state.phase is Phase.STOPPING:
            waits.append(max(0.0, state.kill_at - now))
    return min(waits, default=None)


def _ended_with_a_life(states: States) -> list[Action]:
    """What must end because a log's life is over: first its readers and writers, then what holds it."""
    actions = []
    for step in states.values():
        if _life_over(step):
            ending = [found for found in _living_dependents(step, states) if found.phase is not Phase.STOPPING]
        elif _drained(step):
            ending = [states[need] for need in step.needs if states[need].phase in (Phase.STARTING, Phase.READY)]
        else:
            continue
        actions += [Action(Verb.TERMINATE, found.name, f"{step.name}: {step.reason}") for found in ending]
    return actions


def _between_lives(state: ProcessState, states: States) -> str | None:
    if _life_over(state) and (living := _living_dependents(state, states)):
        return f"waits for the end of {', '.join(found.name for found in living)}"
    return f"waits for another life of {', '.join(state.needs)}" if _drained(state) else None


def _life_over(state: ProcessState) -> bool:
    return state.is_step and state.phase is Phase.BACKOFF and state.exit_code == ExitCode.LIFE_OVER


def _drained(state: ProcessState) -> bool:
    return state.is_step and state.phase is Phase.BACKOFF and state.exit_code == ExitCode.LIFE_DRAINED


def _living_dependents(step: ProcessState, states: States) -> list[ProcessState]:
    return [state for state in states.values() if step.name in state.needs and state.alive]


def _overdue(state: ProcessState, now: float) -> bool:
    return state.phase is Phase.STOPPING and now >= state.kill_at


def _refused_need(state: ProcessState, states: States) -> ProcessState | None:
    return next((states[need] for need in state.needs if states[need].phase is Phase.REFUSED), None)


def _needed_by_a_living_one(name: str, states: States) -> bool:
    """Say whether something alive needs `name`, directly or through a step that is over."""
    dependents = [state for state in states.values() if name in state.needs]
    return any(state.alive or _needed_by_a_living_one(state.name, states) for state in dependents)
