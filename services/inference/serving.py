"""The versions that serve, and the swap between them.

Only a version that passed everything (manifest, device, golden set, warm-up) becomes a `ServedVersion`, and each role
of a model points at one of them. The champion answers whoever names no version; the standby answers when the champion
cannot; challenger and shadow answer only those who name their number. A swap moves a pointer between two requests;
requests hold on to the version that they came for, and the old one's memory is given back when the last of them is
answered. Versions run under a serial of their own, so a reloaded `1` never shares a batch with the `1` before it.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from services.inference.errors import NotServing, UnknownModel
from services.inference.loading import ProvenVersion
from services.inference.signature import Buckets
from services.inference.statistics import VersionStatistics

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"
SHADOW: Final = "shadow"
STANDBY: Final = "standby"
BESIDE: Final = (CHALLENGER, SHADOW)
"""Roles that an alias may leave empty; they are loaded beside the champion."""


class ServedVersion:
    """One loaded, proven and warmed version, and how many requests hold it."""

    def __init__(
        self, model: str, version: str, proven: ProvenVersion, buckets: Buckets, statistics: VersionStatistics
    ) -> None:
        self.model = model
        self.version = version
        self.sha256 = proven.sha256
        self.session = proven.session
        self.paces = proven.paces
        self.golden_rows = proven.golden_rows
        self.buckets = buckets
        self.statistics = statistics
        self.serial = version
        self._held = 0
        self._free = asyncio.Event()
        self._free.set()

    def enter(self) -> None:
        """A request begins to use it."""
        self._held += 1
        self.statistics.pending += 1
        self._free.clear()

    def leave(self) -> None:
        """A request ends."""
        self._held -= 1
        self.statistics.pending -= 1
        if self._held == 0:
            self._free.set()

    async def drained(self) -> None:
        """Return when nobody uses it."""
        await self._free.wait()


@dataclass(frozen=True, slots=True)
class VersionState:
    """A line of the repository index: Triton's states READY, UNAVAILABLE, LOADING."""

    model: str
    version: str
    state: str
    reason: str


class ServingTable:
    """Which version serves each role of each model, and why others do not."""

    def __init__(self) -> None:
        self._serving: dict[str, dict[str, ServedVersion]] = {}
        self._states: dict[tuple[str, str], VersionState] = {}
        self._statistics: dict[tuple[str, str], VersionStatistics] = {}
        self._swaps = 0

    def find(self, model: str, version: str | None) -> ServedVersion:
        """The version that answers a request. Raises UnknownModel or NotServing."""
        roles = self._serving.get(model, {})
        served = roles.get(CHAMPION)
        if served is not None and version in (None, served.version):
            return served
        beside = next((found for found in roles.values() if found.version == version), None)
        if beside is not None:
            return beside
        states = [state for (name, _), state in self._states.items() if name == model]
        if not states:
            raise UnknownModel(f"model {model[:80]!r} is not known here; POST /v2/repository/index lists what is")
        if served is None:
            raise NotServing(f"model {model!r} has no version that serves; {_why(states)}", retry_after_seconds=2)
        raise UnknownModel(f"version {str(version)[:40]!r} of model {model!r} does not serve; {served.version!r} does")

    def current(self, model: str, role: str = CHAMPION) -> ServedVersion | None:
        """The version that serves a role now."""
        return self._serving.get(model, {}).get(role)

    def all_served(self) -> list[tuple[str, ServedVersion]]:
        """Every role of every model, and the version that has it."""
        return [(role, served) for roles in self._serving.values() for role, served in roles.items()]

    def served(self, model: str) -> list[ServedVersion]:
        """Every version of a model that serves, each once."""
        found = self._serving.get(model, {}).values()
        return list({id(version): version for version in found}.values())

    def swap(self, served: ServedVersion, role: str = CHAMPION) -> ServedVersion | None:
        """Let `served` have a role from now on; returns who had it, when that has no other role left."""
        roles = self._serving.setdefault(served.model, {})
        if all(served is not found for found in roles.values()):
            self._swaps += 1
            served.serial = f"{served.version}#{self._swaps}"
        before = roles.get(role)
        roles[role] = served
        left = self._left(before)
        self.note(VersionState(served.model, served.version, "READY", ""))
        return left

    def remove(self, model: str, role: str = CHAMPION) -> ServedVersion | None:
        """Leave a role empty; returns who had it, when that has no other role left."""
        return self._left(self._serving.get(model, {}).pop(role, None))

    def note(self, state: VersionState) -> None:
        """Keep what the index shows of a version. One that serves stays READY whatever happens beside it."""
        if any(found.version == state.version for found in self.served(state.model)):
            state = VersionState(state.model, state.version, "READY", state.reason)
        self._states[(state.model, state.version)] = state

    def forget_absent(self, present: set[tuple[str, str]]) -> None:
        """Drop the states of versions that are neither in the repository any more nor serving."""
        serving = {(model, served.version) for model in self._serving for served in self.served(model)}
        for key in [key for key in self._states if key not in present | serving]:
            del self._states[key]
            self._statistics.pop(key, None)

    def states(self) -> list[VersionState]:
        """Everything known, by model and version."""
        return [self._states[key] for key in sorted(self._states)]

    def statistics_of(self, model: str, version: str) -> VersionStatistics:
        """The counts of a version; they outlive its reloads, as counters must."""
        return self._statistics.setdefault((model, version), VersionStatistics())

    def statistics(self) -> dict[tuple[str, str], VersionStatistics]:
        """All counts."""
        return dict(self._statistics)

    def _left(self, before: ServedVersion | None) -> ServedVersion | None:
        """`before` if it has no role any more; its version may still serve as another load of it."""
        if before is None or any(found is before for found in self._serving[before.model].values()):
            return None
        if all(found.version != before.version for found in self.served(before.model)):
            self._states[before.model, before.version] = VersionState(
                before.model, before.version, "UNAVAILABLE", "unloaded"
            )
        return before


def _why(states: list[VersionState]) -> str:
    reasons = [f"version {state.version}: {state.reason or state.state}" for state in states]
    return "; ".join(reasons)[:600]
