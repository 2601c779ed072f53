"""From a seed to a drill: what breaks, where and when, drawn at random but never hopeless.

Swarm testing: each seed draws for itself which kinds of faults it may use and how often, because a mixture of
everything, everywhere, hides what one kind does when it comes again and again (Groce et al., ISSTA 2012). Faults come
in episodes with quiet between them, since a system that is never left alone has nothing to prove. Not drawn is what
takes away what nobody could give back: the only two copies of a log, or a majority of etcd for ever.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from region_sim.spec import (
    ClockFault,
    Cut,
    DiskFull,
    Drill,
    Fault,
    Herd,
    Kill,
    Link,
    Load,
    Marks,
    Model,
    OperatorPause,
    Partition,
    Pause,
    Phases,
    Poison,
    Steady,
    StoreFault,
    Switchover,
    TopicLoss,
    Topology,
    Wipe,
)

FAULTS_MIN: Final = 8
FAULTS_SECONDS_MIN: Final = 157.5
"""With the phases under load before and after, a little more than three minutes."""
TAKING_MIN: Final = 2
"""Episodes that take the active region away for longer than its lease."""
TAKEN_SECONDS: Final = (22.0, 30.0)
"""Longer than a lease of 9 s, an election of etcd, and a promotion."""
SHORT_SECONDS: Final = (3.0, 10.0)
QUIET_SECONDS: Final = (8.0, 14.0)
QUIET_AFTER_LOSS_SECONDS: Final = (18.0, 26.0)
"""After data was destroyed: until the other region's copy is whole again. What is destroyed before that is nowhere."""
BEHIND_SHARE: Final = 0.6
CLOCK_RATE_ERROR_MAX: Final = 0.000_5
"""What the regions' settings allow for is twice that."""
PROCESSES: Final = ("etcd", "kafka", "inference", "processor", "gateway", "replicator", "controller")
SITES: Final = ("active", "passive", "east", "west")
ANYWHERE: Final = (*SITES, "north")

Shape = Literal["full", "outgoing", "incoming", "peer", "etcd", "data"]
StoreTrouble = Literal["lost-replies", "silent-watches", "compaction", "new-leader"]
"""All but the wrong revocation, a bug that etcd had: against that a holder's deadline is no protection."""
_Maker = Callable[[random.Random, float, float], Fault]
"""From a generator, when it begins and how long it lasts, in seconds."""


def generate(seed: int) -> Drill:
    """Return the drill of a seed: the same one everywhere and always."""
    draw = random.Random(f"campaign {seed}")  # noqa: S311 - a drill is drawn, not a secret
    faults, seconds = _faults(draw)
    return Drill(
        name=f"campaign-{seed}",
        summary=f"Drawn at random from seed {seed}.",
        faults=faults,
        topology=Topology(network="namespaces", pace="far"),
        load=Load(
            # Little, but for so long: more than three hundred events, and both sides of every cut are asked.
            searches_per_second=round(draw.uniform(0.48, 0.52), 2),
            events_per_second=round(draw.uniform(1.75, 1.85), 2),
            events_per_call=draw.choice((8, 9, 10, 11)),
            bare_share=0.5,
            users=40,
            items=40,
            ack=draw.choices(("", "local", "remote", "bounded"), (6, 1, 1, 1))[0],
        ),
        phases=Phases(
            warm_up_seconds=5.0,
            steady_seconds=8.0,
            fault_seconds=round(seconds, 2),
            takeover_seconds_max=60.0,
            heal_seconds_max=120.0,
            after_seconds=10.0,
            settle_seconds_max=60.0,
        ),
        steady=Steady(answered_share_min=0.9),
        marks=Marks(),
    )


def _faults(draw: random.Random) -> tuple[list[Fault], float]:
    """The faults in the order of their times, and how long is waited after the last one."""
    takings, taking_weights = _swarm(draw, _TAKING)
    minors, minor_weights = _swarm(draw, _MINOR)
    kinds = ["taking"] * (TAKING_MIN + (draw.random() < 0.3)) + ["minor"] * draw.randint(1, 2)
    draw.shuffle(kinds)
    faults: list[Fault] = []
    at = 0.0
    for place, kind in enumerate(kinds):
        # So many that, with what the episodes to come bring for sure, there are enough in the end.
        due = -(-(FAULTS_MIN - len(faults)) // (len(kinds) - place))
        if kind == "taking":
            lasts = draw.uniform(*TAKEN_SECONDS)
            # Copiers that are behind when data is destroyed: what nobody else holds then must stand in a receipt.
            lead = round(draw.uniform(2.0, 5.0), 2) if draw.random() < BEHIND_SHARE else 0.0
            main = draw.choices(takings, taking_weights)[0](draw, round(at + lead, 2), lasts)
            if lead and _destroys(main):
                faults.append(
                    Pause(target="passive", at_seconds=at, for_seconds=round(lead + 1.0, 2), processes=["replicator"])
                )
            found = [main, *_companions(draw, minors, minor_weights, at, lasts, max(due - 1, draw.randint(0, 2)), main)]
        else:
            lasts = draw.uniform(8.0, 16.0)
            found = _companions(draw, minors, minor_weights, at, lasts, max(due, draw.randint(1, 3)), None)
        faults += found
        ends = max(fault.at_seconds + (fault.for_seconds or 0.0) for fault in found)
        destroyed = any(_destroys(fault) for fault in found)
        at = round(ends + draw.uniform(*(QUIET_AFTER_LOSS_SECONDS if destroyed else QUIET_SECONDS)), 2)
    faults.sort(key=lambda fault: fault.at_seconds)
    # A drill counts from its last fault on.
    return faults, max(at, FAULTS_SECONDS_MIN) - faults[-1].at_seconds


def _swarm(draw: random.Random, makers: Sequence[_Maker]) -> tuple[list[_Maker], list[float]]:
    """A random part of what there is, with random weights."""
    share = draw.uniform(0.35, 1.0)
    chosen = [make for make in makers if draw.random() < share] or [draw.choice(list(makers))]
    return chosen, [draw.uniform(0.2, 1.0) for _ in chosen]


def _companions(
    draw: random.Random,
    makers: list[_Maker],
    weights: list[float],
    at: float,
    lasts: float,
    many: int,
    main: Fault | None,
) -> list[Fault]:
    """Smaller faults while an episode lasts; at most one of an episode destroys data, and not beside a takeover."""
    found: list[Fault] = []
    for _ in range(many):
        seconds = min(draw.uniform(*SHORT_SECONDS), lasts)
        begins = round(at + draw.uniform(0.0, max(lasts - seconds, 0.0)), 2)
        fault = _suitable(draw, makers, weights, begins, round(seconds, 2), main, found)
        found.append(fault)
    return found


def _suitable(
    draw: random.Random,
    makers: list[_Maker],
    weights: list[float],
    at: float,
    seconds: float,
    main: Fault | None,
    others: list[Fault],
) -> Fault:
    for _ in range(20):
        fault = draw.choices(makers, weights)[0](draw, at, seconds)
        if main is not None and isinstance(fault, Switchover | OperatorPause):
            continue  # an operator does neither while nobody serves; and a hold would forbid the takeover that is due
        if _destroys(fault) and (main is not None or any(_destroys(other) for other in others)):
            continue
        if isinstance(fault, Switchover | OperatorPause) and any(isinstance(o, OperatorPause) for o in others):
            continue
        return fault
    return _kill_processes(draw, at, seconds)


def _destroys(fault: Fault) -> bool:
    """Whether data is gone afterwards that other regions must give back."""
    return isinstance(fault, Wipe | Cut | TopicLoss)


def _kill(draw: random.Random, at: float, seconds: float) -> Fault:
    return Kill(target="active", at_seconds=at, for_seconds=_round(seconds), also_etcd_leader=draw.random() < 0.3)


def _wipe(_draw: random.Random, at: float, seconds: float) -> Fault:
    return Wipe(target="active", at_seconds=at, for_seconds=_round(seconds))


def _pause(_draw: random.Random, at: float, seconds: float) -> Fault:
    return Pause(target="active", at_seconds=at, for_seconds=_round(seconds))


def _partition(draw: random.Random, at: float, seconds: float) -> Fault:
    # Not `incoming`: what the holder says still arrives, so its lease goes on, and nobody may take over.
    shape: Shape = draw.choice(("full", "outgoing", "etcd"))
    return Partition(target="active", at_seconds=at, for_seconds=_round(seconds), shape=shape)


def _power_loss(draw: random.Random, at: float, seconds: float) -> Fault:
    return Cut(
        target="active",
        at_seconds=at,
        for_seconds=_round(seconds),
        whole_site=True,
        records=draw.randint(1, 10),
        partitions=draw.randint(1, 2),
        peers_behind_seconds=round(draw.uniform(0.0, 2.0), 2),
    )


def _kill_processes(draw: random.Random, at: float, seconds: float) -> Fault:
    times = draw.choice((1, 1, 2, 3))
    return Kill(
        target=draw.choice(SITES),
        at_seconds=at,
        for_seconds=seconds,
        processes=[draw.choice(PROCESSES)],
        times=times,
        every_seconds=_round(draw.uniform(1.0, 3.0)),
    )


def _kill_etcd(draw: random.Random, at: float, seconds: float) -> Fault:
    target = draw.choice(("etcd-leader", "north"))
    return Kill(target=target, at_seconds=at, for_seconds=seconds, processes=["etcd"])


def _pause_processes(draw: random.Random, at: float, seconds: float) -> Fault:
    return Pause(target=draw.choice(SITES), at_seconds=at, for_seconds=seconds, processes=[draw.choice(PROCESSES)])


def _wipe_passive(_draw: random.Random, at: float, seconds: float) -> Fault:
    return Wipe(target="passive", at_seconds=at, for_seconds=seconds)


def _cut(draw: random.Random, at: float, seconds: float) -> Fault:
    return Cut(
        target=draw.choice(("active", "passive")),
        at_seconds=at,
        for_seconds=seconds,
        records=draw.randint(1, 10),
        partitions=draw.randint(1, 2),
        peers_behind_seconds=round(draw.uniform(0.0, 2.0), 2),
    )


def _topic_loss(draw: random.Random, at: float, seconds: float) -> Fault:
    return TopicLoss(target=draw.choice(("active", "passive")), at_seconds=at, for_seconds=seconds)


def _cut_links(draw: random.Random, at: float, seconds: float) -> Fault:
    shape: Shape = draw.choice(("full", "outgoing", "incoming", "peer", "etcd", "data"))
    return Partition(target=draw.choice(ANYWHERE), at_seconds=at, for_seconds=seconds, shape=shape)


def _bad_link(draw: random.Random, at: float, seconds: float) -> Fault:
    return Link(
        target=draw.choice(ANYWHERE),
        at_seconds=at,
        for_seconds=seconds,
        delay_ms=_round(draw.uniform(0.0, 200.0)),
        jitter_ms=_round(draw.uniform(0.0, 100.0)),
        loss_share=_round(draw.choice((0.0, draw.uniform(0.0, 0.2)))),
    )


def _disk_full(draw: random.Random, at: float, seconds: float) -> Fault:
    return DiskFull(target=draw.choice(SITES), at_seconds=at, for_seconds=seconds)


def _model(draw: random.Random, at: float, seconds: float) -> Fault:
    return Model(target=draw.choice(SITES), at_seconds=at, for_seconds=seconds, how=draw.choice(("corrupt", "wrong")))


def _poison(draw: random.Random, at: float, _seconds: float) -> Fault:
    return Poison(target=draw.choice(SITES), at_seconds=at, records=draw.randint(1, 5))


def _herd(draw: random.Random, at: float, _seconds: float) -> Fault:
    return Herd(target=draw.choice(SITES), at_seconds=at, clients=draw.randint(3, 10), searches_each=1)


def _clock(draw: random.Random, at: float, seconds: float) -> Fault:
    return ClockFault(
        target=draw.choice(ANYWHERE),
        at_seconds=at,
        for_seconds=seconds,
        step_seconds=_round(draw.uniform(-60.0, 60.0)),
        rate=round(1 + draw.uniform(-CLOCK_RATE_ERROR_MAX, CLOCK_RATE_ERROR_MAX), 6),
    )


def _store(draw: random.Random, at: float, seconds: float) -> Fault:
    how: StoreTrouble = draw.choice(("lost-replies", "silent-watches", "compaction", "new-leader"))
    return StoreFault(target=draw.choice(SITES), at_seconds=at, for_seconds=seconds, how=how)


def _hold(_draw: random.Random, at: float, seconds: float) -> Fault:
    return OperatorPause(target="active", at_seconds=at, for_seconds=seconds)


def _switchover(_draw: random.Random, at: float, _seconds: float) -> Fault:
    return Switchover(target="active", at_seconds=at)


def _round(number: float) -> float:
    return round(number, 2)


_TAKING: Final[tuple[_Maker, ...]] = (_kill, _wipe, _pause, _partition, _power_loss)
_MINOR: Final[tuple[_Maker, ...]] = (
    _kill_processes,
    _kill_etcd,
    _pause_processes,
    _wipe_passive,
    _cut,
    _topic_loss,
    _cut_links,
    _bad_link,
    _disk_full,
    _model,
    _poison,
    _herd,
    _clock,
    _store,
    _hold,
    _switchover,
)


def as_toml(drill: Drill) -> str:
    """Write a drill as a drill file that reads back as the same drill."""
    table = msgspec.to_builtins(drill)
    assert isinstance(table, dict)
    faults = table.pop("faults")
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for fault in faults:
        lines += ["", "[[faults]]", *_pairs(fault)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{key}]", *_pairs(value)]
    return "\n".join(lines) + "\n"


def _pairs(table: dict[str, object]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]


def _toml(value: object) -> str:
    """One value; JSON's strings, numbers and arrays are TOML's, too."""
    return msgspec.json.encode(value).decode()
