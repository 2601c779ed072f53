"""A real etcd cluster for tests: three members as local processes, to be killed, frozen and wiped by name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from infra.runtime.etcd import EtcdMember, EtcdRuntimeError, make_members
from infra.runtime.etcd_members import http_json
from services.coordination.etcd import EtcdGatewayStore
from tests.support.poll import wait_until

SITES = ("east", "west", "north")


class EtcdCluster:
    """Members by site name. The test that asked for it owns its processes."""

    def __init__(self, directory: Path, sites: Sequence[str] = SITES) -> None:
        self.members: dict[str, EtcdMember] = {member.name: member for member in make_members(directory, sites)}

    @property
    def endpoints(self) -> list[str]:
        """The client addresses, in the order of the sites."""
        return [member.client_url for member in self.members.values()]

    def store(self, *, first: str | None = None, request_timeout_seconds: float = 2.0) -> EtcdGatewayStore:
        """Return a new store on the cluster; close it. It is patient, because machines that test are busy."""
        endpoints = [self.members[name].client_url for name in sorted(self.members, key=lambda name: name != first)]
        return EtcdGatewayStore(endpoints, request_timeout_seconds=request_timeout_seconds, watch_silence_seconds=5.0)

    def start(self) -> None:
        """Start all members, and return once each of them answers."""
        for member in self.members.values():
            member.prepare(bootstrapped=False)
            member.start(wait=False)
        for member in self.members.values():
            member.wait_ready()

    def kill(self) -> None:
        """End all members as a crash does."""
        for member in self.members.values():
            member.kill()

    def leader(self) -> str:
        """Return the site of the cluster's own leader, waiting for an election that is under way."""
        found: list[str] = []
        wait_until(lambda: found.extend(self._leaders()) or found, 60, "a leader of the etcd cluster")
        return found[-1]

    def wipe(self, site: str) -> None:
        """Kill a member and remove all that it had."""
        self.members[site].kill()
        shutil.rmtree(self.members[site].directory)

    def rejoin(self, site: str) -> None:
        """Start a wiped member again: the others take it in as a learner."""
        wait_until(lambda: self._prepared(site), 60, f"the others to take {site} in")
        self.members[site].start(wait=False)

    def _prepared(self, site: str) -> bool:
        try:
            self.members[site].prepare(bootstrapped=True)
        except EtcdRuntimeError:
            return False
        return True

    def _leaders(self) -> list[str]:
        for member in self.members.values():
            if member.pid is None:
                continue
            try:
                status = http_json(f"{member.client_url}/v3/maintenance/status", {})
            except (OSError, ValueError):
                continue
            if status.get("leader") == status["header"]["member_id"]:
                return [member.name]
        return []
