"""The versions that serve, and the swap between them.

Only a version that passed everything (manifest, device, golden set, warm-up) becomes a `ServedVersion`, and a
model's name points at one of them. A swap moves the pointer between two requests; requests hold on to the version
that they came for, and the old one's memory is given back when the last of them is answered. Versions run under a
serial of their own, so a reloaded `1` never shares a batch with the `1` before it.
"""

import asyncio
from dataclasses import dataclass

from services.inference.errors import NotServing, UnknownModel
from services.inference.loading import ProvenVersion
from services.inference.signature import Buckets
from services.inference.statistics import VersionStatistics


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
    """Which version serves each model, and why others do not."""

    def __init__(self) -> None:
        self._serving: dict[str, ServedVersion] = {}
        self._states: dict[tuple[str, str], VersionState] = {}
        self._statistics: dict[tuple[str, str], VersionStatistics] = {}
        self._swaps = 0

    def find(self, model: str, version: str | None) -> ServedVersion:
        """The version that answers a request. Raises UnknownModel or NotServing."""
        served = self._serving.get(model)
        if served is not None and version in (None, served.version):
            return served
        states = [state for (name, _), state in self._states.items() if name == model]
        if not states:
            raise UnknownModel(f"model {model[:80]!r} is not known here; POST /v2/repository/index lists what is")
        if served is None:
            raise NotServing(f"model {model!r} has no version that serves; {_why(states)}", retry_after_seconds=2)
        raise UnknownModel(f"version {str(version)[:40]!r} of model {model!r} does not serve; {served.version!r} does")

    def current(self, model: str) -> ServedVersion | None:
        """The version that serves now."""
        return self._serving.get(model)

    def swap(self, served: ServedVersion) -> ServedVersion | None:
        """Let `served` answer from now on; returns the one that did before."""
        self._swaps += 1
        served.serial = f"{served.version}#{self._swaps}"
        before = self._serving.get(served.model)
        self._serving[served.model] = served
        if before is not None and before.version != served.version:
            self.note(VersionState(before.model, before.version, "UNAVAILABLE", "unloaded"))
        self.note(VersionState(served.model, served.version, "READY", ""))
        return before

    def remove(self, model: str) -> ServedVersion | None:
        """Stop serving a model; returns the version that did."""
        before = self._serving.pop(model, None)
        if before is not None:
            self.note(VersionState(model, before.version, "UNAVAILABLE", "unloaded"))
        return before

    def note(self, state: VersionState) -> None:
        """Keep what the index shows of a version. The one that serves stays READY whatever happens beside it."""
        serving = self._serving.get(state.model)
        if serving is not None and serving.version == state.version:
            state = VersionState(state.model, state.version, "READY", state.reason)
        self._states[(state.model, state.version)] = state

    def forget_absent(self, present: set[tuple[str, str]]) -> None:
        """Drop the states of versions that are neither in the repository any more nor serving."""
        serving = {(served.model, served.version) for served in self._serving.values()}
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


def _why(states: list[VersionState]) -> str:
    reasons = [f"version {state.version}: {state.reason or state.state}" for state in states]
    return "; ".join(reasons)[:600]
