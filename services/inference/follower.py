"""Keeping a worker on what the aliases name: the champion first, then challenger and shadow, then a standby.

The alias in the coordination store is the one place where it is decided which version ranks, for all regions at once.
Each worker looks at it every second and brings what it names: from its own repository, or fetched from a peer. What
cannot be had changes nothing here, shows in the health answer, and is tried again: soon and then less often when the
cause may pass by itself (no peer yet, a full disk), otherwise when the alias moves or somebody touches the folder.

Looking was preferred to watching: it needs no second way of learning what is true now after a lost watch, works over
the file of a region that is alone, and costs one small read a second.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from models.registry import MODEL_FILE
from services.common.clock import Clock
from services.common.logging import get_logger
from services.coordination import CoordinationError
from services.coordination.model_records import AliasRecord
from services.inference.errors import ModelRefused, UnknownModel, VersionOutOfReach
from services.inference.report import ChampionReport, NamedVersion, ServingVersion
from services.inference.repository import Named, Repository
from services.inference.serving import BESIDE, CHALLENGER, CHAMPION, SHADOW, STANDBY, ServedVersion
from services.inference.settings import NO_STANDBY, InferenceSettings
from services.inference.worker import Worker

log = get_logger(__name__)

LOOK_SECONDS: Final = 2.0
"""How long the coordination store may take, at start too."""
RETRY_SECONDS: Final = 1.0
STANDBY_SHARE: Final = 0.5
"""A standby's graph has at most this share of the champion's bytes: it must be cheaper to run, not just another one."""

ReadAliases = Callable[[str], Awaitable[dict[str, AliasRecord]]]
"""A model's aliases by name. Raises CoordinationError."""


@dataclass(frozen=True, slots=True)
class _Failed:
    """A version that could not be brought: why, and when it is worth another try."""

    named: Named
    reason: str
    tries: int
    retry_at_seconds: float
    """Infinity: when the folder changes."""
    fingerprint: tuple[tuple[str, int, int], ...]


class Follower:
    """Reads the aliases, and brings what they name into a worker. `run` is its task."""

    def __init__(self, read: ReadAliases, repository: Repository, settings: InferenceSettings, clock: Clock) -> None:
        self.named: dict[str, Named] = {}
        """By role, what the aliases named when they were last heard."""
        self.heard = False
        self._read = read
        self._repository = repository
        self._settings = settings
        self._clock = clock
        self._deaf = "the coordination store was not asked yet"
        self._failed: dict[str, _Failed] = {}
        self._beside_named: dict[str, Named] = {}
        """The champions of further models, as they were last heard."""
        self._standby_for: tuple[str, str, tuple[str, ...]] | None = None

    async def wanted(self, model: str) -> Named | None:
        """Which version should serve: the setting's, the alias's, or as it is remembered when the store is away."""
        if model != self._settings.model:
            return (await self._look(model)).get(CHAMPION)
        await self._hear()
        return self._champion()

    async def run(self, worker: Worker) -> None:
        """Look for ever."""
        while True:
            await self._clock.sleep(self._settings.alias_poll_seconds)
            try:
                await self.look(worker)
                for model in worker.options.also:
                    await self.look_beside(worker, model)
            except Exception:
                # The outermost loop: a worker that no longer follows would serve a version that was rolled back.
                log.exception("the aliases could not be followed")

    async def look(self, worker: Worker) -> None:
        """Read the aliases once, and bring what they name."""
        before = self._champion()
        champion = await self.wanted(self._settings.model)
        if worker.held is not None and champion != before:
            log.info("the alias moved, so what a caller asked for no longer stands", held=worker.held)
            worker.held = None
        if champion is not None and worker.held is None:
            await self._bring(worker, CHAMPION, champion)
        for role in BESIDE:
            await self._beside(worker, role, self.named.get(role))
        await self._keep_standby(worker)

    async def look_beside(self, worker: Worker, model: str) -> None:
        """Bring what the champion's alias of another model names, if it is set; that model has no other roles."""
        try:
            champion = (await self._look(model)).get(CHAMPION)
        except (CoordinationError, TimeoutError):
            return  # what serves goes on; the next look is a second away
        if champion is not None:
            self._beside_named[model] = champion
            await self._bring(worker, CHAMPION, champion, model)

    def blocker(self, worker: Worker) -> str | None:
        """Why this worker does not rank as the champion should; None when it does."""
        model = self._settings.model
        named, served = self._champion(), worker.table.current(model)
        if named is None and not self.heard:
            return f"which version is champion is not known: {self._deaf}"
        if served is None:
            return f"model {model!r} has no version that serves"
        if named is None or _is(served, named):
            return worker.instead_of
        wanted = f"version {named.version}{_content(named.sha256)} is champion"
        return f"{wanted}, version {served.version}{_content(served.sha256)} serves: {self._why(worker, named)}"

    def report(self, worker: Worker) -> ChampionReport:
        """All that there is to say about the champion."""
        model, named = self._settings.model, self._champion()

        def serving(role: str) -> ServingVersion | None:
            served = worker.table.current(model, role)
            return None if served is None else _shown(served)

        return ChampionReport(
            model=model,
            blocker=self.blocker(worker),
            named=None if named is None else NamedVersion(version=named.version, sha256=named.sha256),
            heard=self.heard,
            serving=serving(CHAMPION),
            standby=serving(STANDBY),
            challenger=serving(CHALLENGER),
            shadow=serving(SHADOW),
        )

    def report_beside(self, worker: Worker, model: str) -> ChampionReport:
        """The same of a further model, which has no other roles; no proof of a region waits for it."""
        named, served = self._beside_named.get(model), worker.table.current(model)
        blocker = None
        if named is None:
            blocker = f"no champion of {model!r} was heard of"
        elif served is None or not _is(served, named):
            failed = self._failed.get(f"{model}/{CHAMPION}")
            why = failed.reason if failed is not None and failed.named == named else "it is being loaded"
            blocker = f"version {named.version}{_content(named.sha256)} is champion and does not serve: {why}"
        return ChampionReport(
            model=model,
            blocker=blocker,
            named=None if named is None else NamedVersion(version=named.version, sha256=named.sha256),
            heard=named is not None,
            serving=None if served is None else _shown(served),
            standby=None,
            challenger=None,
            shadow=None,
        )

    def _champion(self) -> Named | None:
        pinned = self._settings.model_version
        return Named(pinned) if pinned else self.named.get(CHAMPION)

    def _why(self, worker: Worker, named: Named) -> str:
        failed = self._failed.get(CHAMPION)
        if worker.held is not None:
            return worker.held
        if failed is not None and failed.named == named:
            return failed.reason
        return worker.instead_of or "it is being loaded"

    async def _hear(self) -> None:
        """Read the aliases of the own model; what was heard last stays when the store is away."""
        model = self._settings.model
        try:
            self.named = await self._look(model)
        except (CoordinationError, TimeoutError) as problem:
            self._deaf = str(problem) or f"the coordination store did not answer within {LOOK_SECONDS:g} s"
            remembered = None if self.heard else self._repository.remembered(model)
            if remembered is not None:
                self.named = {CHAMPION: remembered}
            return
        self.heard = True
        if CHAMPION in self.named:
            self._repository.remember(model, self.named[CHAMPION])

    async def _look(self, model: str) -> dict[str, Named]:
        async with asyncio.timeout(LOOK_SECONDS):
            found = await self._read(model)
        return {role: _named(found[role]) for role in (CHAMPION, *BESIDE) if role in found}

    async def _bring(self, worker: Worker, role: str, named: Named, other: str = "") -> None:
        """Let a role (of another model) have what its alias names, if it does not yet and another try is due."""
        model = other or self._settings.model
        key = f"{other}/{role}" if other else role
        served = worker.table.current(model, role)
        if served is not None and _is(served, named):
            self._failed.pop(key, None)
            return
        failed = self._failed.get(key)
        before = failed if failed is not None and _same(failed.named, named) else None
        if before is not None and not self._is_due(before, model):
            return
        try:
            await worker.load(model, named.version, sha256=named.sha256, role=role)
        except (ModelRefused, UnknownModel) as problem:
            reason = problem.reason if isinstance(problem, ModelRefused) else problem.cause
            tries = 1 if before is None else before.tries + 1
            wait = min(RETRY_SECONDS * 2 ** min(tries - 1, 20), self._settings.retry_seconds_max)
            passes = isinstance(problem, VersionOutOfReach)
            retry_at = self._clock.monotonic() + wait if passes else float("inf")
            seen = self._repository.fingerprint(model, named.version)
            self._failed[key] = _Failed(named, reason, tries, retry_at, seen)
        else:
            self._failed.pop(key, None)

    def _is_due(self, failed: _Failed, model: str) -> bool:
        if self._clock.monotonic() >= failed.retry_at_seconds:
            return True
        return self._repository.fingerprint(model, failed.named.version) != failed.fingerprint

    async def _beside(self, worker: Worker, role: str, named: Named | None) -> None:
        if named is not None:
            await self._bring(worker, role, named)
        elif worker.table.current(self._settings.model, role) is not None:
            worker.unload(self._settings.model, role)

    async def _keep_standby(self, worker: Worker) -> None:
        """Have the first candidate that passes ready below the champion; looked for again when anything changed."""
        model = self._settings.model
        champion = worker.table.current(model)
        if champion is None:
            return
        candidates = standby_candidates(self._repository, model, champion.version, self._settings.standby_version)
        key = champion.version, champion.sha256, tuple(candidates)
        if key == self._standby_for:
            return
        self._standby_for = key
        for version in candidates:
            standing = worker.table.current(model, STANDBY)
            sha256 = self._repository.manifest_sha256(model, version)
            if standing is not None and (standing.version, standing.sha256) == (version, sha256):
                return
            try:
                await worker.load(model, version, role=STANDBY)
            except ModelRefused:
                continue  # said in the log and the index; the next larger one may pass
            return
        if worker.table.current(model, STANDBY) is not None:
            worker.unload(model, STANDBY)


def standby_candidates(repository: Repository, model: str, champion: str, setting: str) -> list[str]:
    """Versions that may stand in for a champion, the best first: the one of the setting, or by the size of the graph.

    The smallest is taken because it must answer when the champion is too slow, on a core that may be busy; whoever has
    a better one (a student, an int8 version) says so by the setting.
    """
    if setting in (NO_STANDBY, champion):
        return []
    if setting:
        return [setting]
    sizes = {version: _graph_bytes(repository, model, version) for version in repository.versions(model)}
    most = STANDBY_SHARE * sizes.get(champion, 0)
    fit = [(size, version) for version, size in sizes.items() if version != champion and 0 < size <= most]
    return [version for _, version in sorted(fit, key=lambda found: (found[0], -int(found[1])))]


def _graph_bytes(repository: Repository, model: str, version: str) -> int:
    try:
        return (repository.folder(model, version) / MODEL_FILE).stat().st_size
    except OSError:
        return 0


def _named(record: AliasRecord) -> Named:
    numbers = [record.version, *(change.version for change in record.history)]
    return Named(record.version, record.sha256, tuple(dict.fromkeys(numbers))[1:])


def _is(served: ServedVersion, named: Named) -> bool:
    return served.version == named.version and named.sha256 in ("", served.sha256)


def _same(one: Named, other: Named) -> bool:
    return (one.version, one.sha256) == (other.version, other.sha256)


def _content(sha256: str) -> str:
    return f" ({sha256[:12]})" if sha256 else ""


def _shown(served: ServedVersion) -> ServingVersion:
    return ServingVersion(
        version=served.version,
        sha256=served.sha256,
        golden_rows=served.golden_rows,
        device=served.session.device.value,
    )
