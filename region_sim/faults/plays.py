"""From a drill's words to its fault."""

from __future__ import annotations

from region_sim.faults.base import FaultPlay, Scene
from region_sim.faults.cut import CutPlay
from region_sim.faults.kill import KillPlay
from region_sim.faults.partition import PartitionPlay
from region_sim.faults.pause import PausePlay
from region_sim.faults.switchover import SwitchoverPlay
from region_sim.faults.wipe import WipePlay
from region_sim.spec import Cut, Fault, Kill, Partition, Pause, Wipe


def play_of(scene: Scene, fault: Fault, etcd_leader: str, incarnation: str = "") -> FaultPlay:
    """Return what carries `fault` out on the scene's target.

    `etcd_leader` is the site whose etcd member leads, `incarnation` the life that the target is in.
    """
    if isinstance(fault, Kill):
        return KillPlay(scene, fault, etcd_leader)
    if isinstance(fault, Wipe):
        return WipePlay(scene)
    if isinstance(fault, Cut):
        return CutPlay(scene, fault, incarnation)
    if isinstance(fault, Pause):
        return PausePlay(scene, fault)
    if isinstance(fault, Partition):
        return PartitionPlay(scene, fault)
    return SwitchoverPlay(scene, fault)
