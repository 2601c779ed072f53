"""Keeping a worker on what the aliases name: the champion first, then challenger and shadow, then a standby.

The alias in the coordination store is the one place where it is decided which version ranks, for all regions at once.
Each worker looks at it every second and brings what it names: from its own repository, or fetched from a peer. What
cannot be had changes nothing here, shows in the health answer, and is tried again: soon and then less often when the
cause may pass by itself (no peer yet, a full disk), otherwise when the alias moves or somebody touches the folder.

Bringing may take minutes, so the aliases are heard meanwhile: what they do not name any more is given up, and nothing
else is brought while the champion waits.

Looking was preferred to watching: it needs no second way of learning what is true now after a lost watch, works over
the file of a region that is alone, and costs one small read a second.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from services.common.clock import Clock
from services.common.logging import get_logger
from services.coordination import CoordinationError
from services.coordination.model_records import AliasRecord
from services.inference.errors import ModelRefused, UnknownModel, VersionOutOfReach
from services.inference.report import ChampionReport, NamedVersion, ServingVersion
from services.inference.repository import Named, Repository
from services.inference.serving import BESIDE, CHALLENGER, CHAMPION, SHADOW, STANDBY, ServedVersion
from services.inference.settings import InferenceSettings
from services.inference.standby import standby_candidates
from services.inference.worker import Worker

log = get_logger(__name__)

LOOK_SECONDS: Final = 2.0
"""How long the coordination store may take, at start too."""
RETRY_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 30.0
SILENCE_POLLS: Final = 10
"""After both without an answer of the store, what it said last is no proof any more of what is champion. Long, because
serving goes on as it was; harmless, because a region that cannot hear the store cannot take the lease either."""

OnDamaged = Callable[[str, str], None]
"""(name of an alias that cannot be read, why)."""
ReadAliases = Callable[[str, OnDamaged], Awaitable[dict[str, AliasRecord]]]
"""A model's aliases by name; those that cannot be read are only told. Raises CoordinationError."""


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
        self._read = read
        self._repository = repository
        self._settings = settings
        self._clock = clock
        self._deaf = "the coordination store was not asked yet"
        self._failed: dict[str, _Failed] = {}
        self._beside_named: dict[str, Named] = {}
        """The champions of further models, as they were last heard."""
        self._standby_for: tuple[str, str, tuple[str, ...]] | None = None
        self._standby_tries = 0
        self._standby_retry_at_seconds = float("inf")
        self._began_seconds = clock.monotonic()
        self._heard_at_seconds: dict[str, float] = {}
        """By model, when its aliases were last heard."""
        self._damaged: dict[str, dict[str, str]] = {}

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
        champion = await self._listen(worker)
        if champion is not None and worker.held is None and not await self._bring(worker, CHAMPION, champion):
            return
        for role in BESIDE:
            if not await self._beside(worker, role, self.named.get(role)):
                return
        await self._keep_standby(worker)

    async def look_beside(self, worker: Worker, model: str) -> None:
        """Bring what the champion's alias of another model names, if it is set; that model has no other roles."""
        champion = await self._listen_beside(model)
        if champion is not None:
            await self._bring(worker, CHAMPION, champion, model)

    def blocker(self, worker: Worker) -> str | None:
        """Why this worker does not rank as the champion should; None when it does."""
        model = self._settings.model
        named, served = self._champion(), worker.table.current(model)
        if named is None and model not in self._heard_at_seconds:
            return f"which version is champion is not known: {self._deaf}"
        if served is None:
            return f"model {model!r} has no version that serves"
        if named is None or _is(served, named):
            return worker.instead_of or (None if self._settings.model_version else self._silence(model))
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
            heard=model in self._heard_at_seconds,
            silent_seconds=self._silent_seconds(model),
            serving=serving(CHAMPION),
            standby=serving(STANDBY),
            challenger=serving(CHALLENGER),
            shadow=serving(SHADOW),
        )

    def report_beside(self, worker: Worker, model: str) -> ChampionReport:
        """The same of a further model, which has no other roles; no proof of a region waits for it."""
        named, served = self._beside_named.get(model), worker.table.current(model)
        blocker = self._silence(model)
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
            silent_seconds=self._silent_seconds(model),
            serving=None if served is None else _shown(served),
            standby=None,
            challenger=None,
            shadow=None,
        )

    def _silent_seconds(self, model: str) -> float:
        """How long ago the aliases of a model were heard, or hearing them was first tried."""
        return self._clock.monotonic() - self._heard_at_seconds.get(model, self._began_seconds)

    def _silence(self, model: str) -> str | None:
        """Why what was heard last proves nothing any more."""
        silent = self._silent_seconds(model)
        if silent <= max(SILENCE_SECONDS, SILENCE_POLLS * self._settings.alias_poll_seconds):
            return None
        return f"which version is champion was not heard for {silent:.0f} s: {self._deaf}"

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
            self._deaf = _told(problem)
            remembered = None if model in self._heard_at_seconds else self._repository.remembered(model)
            if remembered is not None:
                self.named = {CHAMPION: remembered}
            return
        if CHAMPION in self.named:
            self._repository.remember(model, self.named[CHAMPION])

    async def _listen(self, worker: Worker) -> Named | None:
        """Hear which version is champion; what a caller asked for ends with a move of the alias."""
        before = self._champion()
        champion = await self.wanted(self._settings.model)
        if worker.held is not None and champion != before:
            log.info("the alias moved, so what a caller asked for no longer stands", held=worker.held)
            worker.held = None
        return champion

    async def _listen_beside(self, model: str) -> Named | None:
        """Hear the champion of a further model; None when the store is away: what serves goes on."""
        try:
            champion = (await self._look(model)).get(CHAMPION)
        except (CoordinationError, TimeoutError) as problem:
            self._deaf = _told(problem)
            return None
        if champion is not None:
            self._beside_named[model] = champion
        return champion

    async def _look(self, model: str) -> dict[str, Named]:
        damaged: dict[str, str] = {}
        async with asyncio.timeout(LOOK_SECONDS):
            found = await self._read(model, damaged.__setitem__)
        self._heard_at_seconds[model] = self._clock.monotonic()
        if damaged != self._damaged.get(model, {}):
            log.warning("aliases cannot be read, so their versions stay as they are", model=model, damaged=damaged)
        self._damaged[model] = damaged
        named: dict[str, Named] = {role: _named(found[role]) for role in (CHAMPION, *BESIDE) if role in found}
        before = self.named if model == self._settings.model else {}
        return named | {role: before[role] for role in BESIDE if role in damaged and role in before}

    async def _bring(self, worker: Worker, role: str, named: Named, other: str = "") -> bool:
        """Let a role (of another model) have what its alias names, if it does not yet and another try is due.

        False: given up for something that comes first; look again.
        """
        model = other or self._settings.model
        key = f"{other}/{role}" if other else role
        if not self._is_wanted(worker, role, named, other):
            return True
        failed = self._failed.get(key)
        before = failed if failed is not None and _same(failed.named, named) else None
        try:
            if not await self._load(worker, role, named, model):
                return False
        except (ModelRefused, UnknownModel) as problem:
            reason = problem.reason if isinstance(problem, ModelRefused) else problem.cause
            tries = 1 if before is None else before.tries + 1
            passes = isinstance(problem, VersionOutOfReach)
            retry_at = self._retry_at(tries) if passes else float("inf")
            seen = self._repository.fingerprint(model, named.version)
            self._failed[key] = _Failed(named, reason, tries, retry_at, seen)
        else:
            self._failed.pop(key, None)
        return True

    async def _load(self, worker: Worker, role: str, named: Named, model: str) -> bool:
        """Have the worker load a version, and hear the aliases meanwhile; False when it was given up for what they say.

        What was fetched of it stays for the next try. Raises ModelRefused, UnknownModel.
        """
        loading = asyncio.ensure_future(worker.load(model, named.version, sha256=named.sha256, role=role))
        try:
            while not await self._ends_within_a_poll(loading):
                await self._listen(worker)
                for beside in worker.options.also:
                    await self._listen_beside(beside)
                if not loading.done() and self._is_outdated(worker, role, named, model):
                    log.info("a version is not brought any further", model=model, version=named.version, role=role)
                    return False
            await loading
        finally:
            loading.cancel()
            await asyncio.wait({loading})
        return True

    async def _ends_within_a_poll(self, loading: asyncio.Future[Any]) -> bool:
        sleeping: asyncio.Future[Any] = asyncio.ensure_future(self._clock.sleep(self._settings.alias_poll_seconds))
        try:
            await asyncio.wait({loading, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
        return loading.done()

    def _is_outdated(self, worker: Worker, role: str, named: Named, model: str) -> bool:
        """Whether a version that is being brought is not to serve any more, or must wait for the champion."""
        champion = self._champion()
        if model == self._settings.model and role == CHAMPION:
            return worker.held is not None or champion is None or not _same(champion, named)
        if champion is not None and worker.held is None and self._is_wanted(worker, CHAMPION, champion, ""):
            return True
        if role == STANDBY:
            return False
        now = self._beside_named.get(model) if role == CHAMPION else self.named.get(role)
        return now is None or not _same(now, named)

    def _is_wanted(self, worker: Worker, role: str, named: Named, other: str) -> bool:
        """Whether a version that an alias names does not serve, and a try is due."""
        model = other or self._settings.model
        key = f"{other}/{role}" if other else role
        served = worker.table.current(model, role)
        if served is not None and _is(served, named):
            self._failed.pop(key, None)
            return False
        failed = self._failed.get(key)
        return failed is None or not _same(failed.named, named) or self._is_due(failed, model)

    def _retry_at(self, tries: int) -> float:
        wait = min(RETRY_SECONDS * 2.0 ** min(tries - 1, 20), self._settings.retry_seconds_max)
        return self._clock.monotonic() + wait

    def _is_due(self, failed: _Failed, model: str) -> bool:
        if self._clock.monotonic() >= failed.retry_at_seconds:
            return True
        return self._repository.fingerprint(model, failed.named.version) != failed.fingerprint

    async def _beside(self, worker: Worker, role: str, named: Named | None) -> bool:
        if named is not None:
            return await self._bring(worker, role, named)
        if worker.table.current(self._settings.model, role) is not None:
            worker.unload(self._settings.model, role)
        return True

    async def _keep_standby(self, worker: Worker) -> None:
        """Have the first candidate that passes ready below the champion; looked for again when anything changed.

        One that is out of reach is tried again, soon and then less often.
        """
        model = self._settings.model
        champion = worker.table.current(model)
        if champion is None:
            return
        candidates = standby_candidates(self._repository, model, champion.version, self._settings.standby_version)
        key = champion.version, champion.sha256, tuple(candidates)
        if key != self._standby_for:
            self._standby_for, self._standby_tries = key, 0
        elif self._clock.monotonic() < self._standby_retry_at_seconds:
            return
        self._standby_retry_at_seconds = float("inf")
        for version in candidates:
            standing = worker.table.current(model, STANDBY)
            sha256 = self._repository.manifest_sha256(model, version)
            if standing is not None and (standing.version, standing.sha256) == (version, sha256):
                return
            if await self._bring_standby(worker, version):
                return
        if worker.table.current(model, STANDBY) is not None:
            worker.unload(model, STANDBY)

    async def _bring_standby(self, worker: Worker, version: str) -> bool:
        """False: the next larger one may pass; why this one does not is said in the log and the index."""
        try:
            if not await self._load(worker, STANDBY, Named(version), self._settings.model):
                self._standby_for = None
        except VersionOutOfReach:
            self._standby_tries += 1
            self._standby_retry_at_seconds = self._retry_at(self._standby_tries)
            return False
        except ModelRefused:
            return False
        return True


def _named(record: AliasRecord) -> Named:
    numbers = [record.version, *(change.version for change in record.history)]
    return Named(record.version, record.sha256, tuple(dict.fromkeys(numbers))[1:])


def _told(problem: Exception) -> str:
    return str(problem) or f"the coordination store did not answer within {LOOK_SECONDS:g} s"


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
