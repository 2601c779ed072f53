"""From a drill's words to its fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from region_sim.errors import DrillBroken
from region_sim.faults.base import FaultPlay, Scene
from region_sim.faults.cut import CutPlay
from region_sim.faults.disconnect import DisconnectPlay
from region_sim.faults.disk_full import DiskFullPlay
from region_sim.faults.herd import HerdPlay
from region_sim.faults.hold import HoldPlay
from region_sim.faults.kill import KillPlay
from region_sim.faults.link import LinkPlay
from region_sim.faults.model import ModelPlay
from region_sim.faults.partition import PartitionPlay
from region_sim.faults.pause import PausePlay
from region_sim.faults.poison import PoisonPlay
from region_sim.faults.refusals import on_processes
from region_sim.faults.restart import RestartPlay
from region_sim.faults.switchover import SwitchoverPlay
from region_sim.faults.topic_loss import TopicLossPlay
from region_sim.faults.wipe import WipePlay
from region_sim.spec import (
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
    Switchover,
    TopicLoss,
    Wipe,
)

# By the kind of fault: its play, from the scene, the fault, the site of etcd's leader, and the life of the target.
_PLAYS: dict[type, Callable[[Scene, Any, str, str], FaultPlay]] = {
    Kill: lambda scene, fault, etcd_leader, _: KillPlay(scene, fault, etcd_leader),
    Wipe: lambda scene, *_: WipePlay(scene),
    Cut: lambda scene, fault, _, incarnation: CutPlay(scene, fault, incarnation),
    TopicLoss: lambda scene, fault, _, incarnation: TopicLossPlay(scene, fault, incarnation),
    Pause: lambda scene, fault, *_: PausePlay(scene, fault),
    Restart: lambda scene, *_: RestartPlay(scene),
    Partition: lambda scene, fault, *_: _partition(scene, fault),
    Link: lambda scene, fault, *_: LinkPlay(scene, fault),
    DiskFull: lambda scene, *_: DiskFullPlay(scene),
    Model: lambda scene, fault, *_: ModelPlay(scene, fault),
    Poison: lambda scene, fault, _, incarnation: PoisonPlay(scene, fault, incarnation),
    Herd: lambda scene, fault, *_: HerdPlay(scene, fault),
    OperatorPause: lambda scene, *_: HoldPlay(scene),
    Switchover: lambda scene, fault, *_: SwitchoverPlay(scene, fault),
}


def _partition(scene: Scene, fault: Partition) -> FaultPlay:
    return DisconnectPlay(scene) if fault.how == "disconnect" else PartitionPlay(scene, fault)


def play_of(scene: Scene, fault: Fault, etcd_leader: str, incarnation: str = "") -> FaultPlay:
    """Return what carries `fault` out on the scene's target. Raises DrillBroken for what is refused.

    `etcd_leader` is the site whose etcd member leads, `incarnation` the life that the target is in.
    """
    build = _PLAYS.get(type(fault))
    if build is None:
        raise DrillBroken(f"refused: {on_processes(fault)}")
    return build(scene, fault, etcd_leader, incarnation)
