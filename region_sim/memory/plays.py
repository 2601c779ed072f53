"""Faults of a simulated world: what is a signal, a rule of a firewall or a file elsewhere is a word to a model here.

Faults overlap. What is counted (cuts of a link) is let go when the last fault that wants it is healed; what happens to
something that is down already is no failure, and the history says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from region_sim.errors import DrillBroken
from region_sim.faults.base import FaultPlay
from region_sim.memory.hands import Hands, MemoryPlay
from region_sim.memory.plays_control import ClockPlay, HerdPlay, HoldPlay, StorePlay, SwitchoverPlay
from region_sim.memory.plays_data import CutPlay, DiskFullPlay, ModelPlay, PoisonPlay, TopicLossPlay
from region_sim.memory.plays_network import LinkPlay, PartitionPlay
from region_sim.memory.plays_processes import KillPlay, PausePlay, RestartPlay, WipePlay
from region_sim.spec import (
    ClockFault,
    Cut,
    DiskFull,
    Fault,
    Herd,
    Kill,
    Link,
    Model,
    OperatorPause,
    Partition,
    Pause,
    Poison,
    Restart,
    StoreFault,
    Switchover,
    TopicLoss,
    Wipe,
)

__all__ = ["Hands", "MemoryPlay", "play_of"]


def play_of(hands: Hands, fault: Fault, target: str, etcd_leader: str, incarnation: str) -> FaultPlay:
    """Return what carries `fault` out on the site `target`. Raises DrillBroken when it cannot be done there."""
    if isinstance(fault, Cut | TopicLoss | DiskFull | Model | Poison | Herd) and target not in hands.world.regions:
        raise DrillBroken(f"{target} is no region: it has neither a log nor a model")
    makers: dict[type, Callable[[], FaultPlay]] = {
        Kill: lambda: KillPlay(hands, cast("Kill", fault), target, etcd_leader),
        Wipe: lambda: WipePlay(hands, target),
        Cut: lambda: CutPlay(hands, cast("Cut", fault), target, incarnation),
        TopicLoss: lambda: TopicLossPlay(hands, cast("TopicLoss", fault), target, incarnation),
        Pause: lambda: PausePlay(hands, cast("Pause", fault), target),
        Restart: lambda: RestartPlay(hands, target),
        Partition: lambda: PartitionPlay(hands, cast("Partition", fault), target),
        Link: lambda: LinkPlay(hands, cast("Link", fault), target),
        DiskFull: lambda: DiskFullPlay(hands, target),
        Model: lambda: ModelPlay(hands, cast("Model", fault), target),
        Poison: lambda: PoisonPlay(hands, cast("Poison", fault), target, incarnation),
        Herd: lambda: HerdPlay(hands, cast("Herd", fault), target),
        ClockFault: lambda: ClockPlay(hands, cast("ClockFault", fault), target),
        StoreFault: lambda: StorePlay(hands, cast("StoreFault", fault), target),
        OperatorPause: lambda: HoldPlay(hands),
        Switchover: lambda: SwitchoverPlay(hands, cast("Switchover", fault), target),
    }
    return makers[type(fault)]()
