"""The order in which a life ends: its users first, then the step again, then the broker, which starts anew."""

from __future__ import annotations

from dataclasses import replace

from services.common.exit_codes import ExitCode
from services.region.supervision import (
    Phase,
    ProcessState,
    RestartPolicy,
    Verb,
    decide,
    due_again,
    due_for_recheck,
    exited,
    start_blocker,
    started,
)

POLICY = RestartPolicy()


def region(**phases: Phase) -> dict[str, ProcessState]:
    """A region of a deployment, in which the step judges logs that were found cut."""
    states = {
        "etcd": ProcessState("etcd"),
        "kafka": ProcessState("kafka"),
        "prepare": ProcessState("prepare", needs=("kafka",), is_step=True),
        "processor": ProcessState("processor", needs=("prepare",), rechecked_by="prepare"),
        "gateway": ProcessState("gateway", needs=("prepare",), rechecked_by="prepare"),
    }
    return {name: replace(state, phase=phases.get(name, Phase.READY)) for name, state in states.items()}


def ended(states: dict[str, ProcessState], name: str, code: int) -> dict[str, ProcessState]:
    """The region after one of its processes ended, as the supervisor sees it."""
    states = states | {name: exited(states[name], code, "said why", 1.0, POLICY)}
    return states | due_for_recheck(states, name)


def done(states: dict[str, ProcessState]) -> dict[str, tuple[Verb, ...]]:
    """What is decided, by process."""
    actions = decide(states, 2.0)
    return {name: tuple(a.verb for a in actions if a.name == name) for name in {a.name for a in actions}}


def test_a_processor_that_found_a_cut_has_its_log_judged_again() -> None:
    """Exit code 66 runs the step again; the processor waits for its verdict."""
    states = ended(region(prepare=Phase.DONE), "processor", ExitCode.LOG_TRUNCATED_OR_GAP)
    assert done(states) == {"prepare": (Verb.START,)}
    assert start_blocker(states["processor"], states, 2.0) == "waits for prepare"


def test_alone_a_cut_is_an_operators_matter() -> None:
    """Without peers there is no next life to begin by itself."""
    states = region(prepare=Phase.DONE)
    states["processor"] = replace(states["processor"], rechecked_by="")
    assert ended(states, "processor", ExitCode.LOG_TRUNCATED_OR_GAP)["processor"].phase is Phase.REFUSED


def test_other_refusals_are_still_refusals() -> None:
    """A frame of an unknown version is not mended by looking at the log's end."""
    states = ended(region(prepare=Phase.DONE), "processor", ExitCode.UNKNOWN_FRAME_VERSION)
    assert states["processor"].phase is Phase.REFUSED
    assert states["prepare"].phase is Phase.DONE


def test_a_life_that_is_over_ends_its_users_before_the_step_runs_again() -> None:
    """Kafka goes on: the peers still copy from it."""
    states = ended(region(prepare=Phase.STARTING), "prepare", ExitCode.LIFE_OVER)
    assert done(states) == {"gateway": (Verb.TERMINATE,), "processor": (Verb.TERMINATE,)}
    states = states | {name: replace(states[name], phase=Phase.STOPPING, kill_at=9.0) for name in ("gateway",)}
    assert done(states) == {"processor": (Verb.TERMINATE,)}, "asked once"
    states = states | {name: replace(states[name], phase=Phase.STOPPED) for name in ("gateway", "processor")}
    assert done(states) == {"prepare": (Verb.START,)}


def test_a_drained_life_ends_its_kafka_and_the_next_one_is_judged() -> None:
    """The broker that starts again is another life; only then is the step due."""
    states = region(prepare=Phase.STARTING, gateway=Phase.STOPPED, processor=Phase.STOPPED)
    states = ended(states, "prepare", ExitCode.LIFE_DRAINED)
    assert done(states) == {"kafka": (Verb.TERMINATE,)}
    states["kafka"] = replace(states["kafka"], phase=Phase.STOPPED)
    assert done(states) == {"kafka": (Verb.START,)}
    states["kafka"] = started(states["kafka"])
    states = states | due_again(states, "kafka")
    assert states["prepare"].phase is Phase.WAITING
    assert done(states) == {}
    states["kafka"] = replace(states["kafka"], phase=Phase.READY)
    assert done(states) == {"prepare": (Verb.START,)}, "and the new broker is left alone"


def test_etcd_is_nobodys_need() -> None:
    """Its crash restarts it alone."""
    states = ended(region(prepare=Phase.DONE), "etcd", -9)
    assert done(states) == {"etcd": (Verb.START,)}
