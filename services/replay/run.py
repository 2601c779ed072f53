"""One replay from its options to its report. The command line, the demo and the quality run all come through here."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from models.records import Source
from services.client import ClientSettings, Clock, MeridianClient, SystemClock
from services.ledger.acks import AckWriter
from services.replay.errors import ReplayMisused
from services.replay.judge import Judge
from services.replay.player import Hook, Player, PlayerSettings
from services.replay.progress import ProgressBoard
from services.replay.report import ReplayReport, build
from services.replay.script import Script, Step, searches_in, split
from services.replay.tally import Tally

OUTBOX_EVENTS_MAX = 200_000
"""A replay holds its log in memory anyway; back-pressure comes from the calls in flight."""


AtEnd = Callable[[MeridianClient, Player], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay and how. `ranked_searches` None: rank nothing; 0: rank all after the bulk part."""

    gateways: Sequence[str]
    token: str | None = None
    skip: int = 0
    limit: int | None = None
    bulk_searches: int = 0
    """How many searches at the start are only published, before ranking begins."""
    rank: bool = False
    rate: float | None = None
    """Searches a second when ranking, else events a second; None: as fast as it goes."""
    acks: Path | None = None
    event_source: str = ""
    player: PlayerSettings = field(default_factory=PlayerSettings)

    def __post_init__(self) -> None:
        if not self.gateways:
            raise ReplayMisused("name at least one gateway, such as --gateway http://127.0.0.1:8080")
        if self.rate is not None and self.rate <= 0:
            raise ReplayMisused(f"--rate must be above 0, not {self.rate}; leave it out to go as fast as it goes")
        if self.skip < 0 or self.bulk_searches < 0 or (self.limit is not None and self.limit < 0):
            raise ReplayMisused("--skip, --limit and --bulk cannot be negative")


class Replay:
    """A replay that can be watched and hooked into while it runs."""

    def __init__(
        self, source: Source, options: ReplayOptions, board: ProgressBoard, clock: Clock | None = None
    ) -> None:
        self._script = Script(source, options.event_source)
        self._source = source
        self._options = options
        self._board = board
        self._clock: Clock = clock or SystemClock()
        self.judge = Judge()

    async def run(self, on_search: Hook | None = None, at_end: AtEnd | None = None) -> ReplayReport:
        """Catalogue, bulk, ranked part, flush. `on_search` hears each ranked search's number beforehand.

        `at_end` has the client once more when everything was said, before the report is made.
        """
        options = self._options
        settings = ClientSettings(
            outbox_events_max=OUTBOX_EVENTS_MAX,
            connections_max=256,
            batches_in_flight_max=64,
            batch_events_max=max(options.player.bulk_events_per_call, 1),
            remember_users_max=OUTBOX_EVENTS_MAX,
        )
        started = self._clock.elapsed_seconds()
        with ExitStack() as stack:
            acks = stack.enter_context(AckWriter(options.acks)) if options.acks is not None else None
            tally = Tally(acks, self._clock.wall_ms)
            async with MeridianClient(
                options.gateways,
                source=self._script.event_source,
                token=options.token,
                settings=settings,
                clock=self._clock,
            ) as client:
                player = Player(client, self._clock, tally, self.judge, options.player)
                report = await self._play(player, tally, started, on_search)
                if at_end is not None:
                    await at_end(client, player)
                return report

    async def _play(self, player: Player, tally: Tally, started: float, on_search: Hook | None) -> ReplayReport:
        catalogue = self._script.catalogue()
        steps = list(self._script.steps(self._options.skip, self._options.limit))
        await player.bulk(catalogue, self._board.piece("catalogue", len(catalogue)))
        await player.flush()
        bulk_seconds = await self._main_part(player, steps, on_search)
        await player.flush()
        bulk_events = tally.acknowledged - len(catalogue)
        return build(
            source=self._source.name,
            catalogue_items=len(catalogue),
            searches=searches_in(steps),
            seconds=self._clock.elapsed_seconds() - started,
            bulk_events_per_second=None if bulk_seconds is None else bulk_events / max(bulk_seconds, 1e-9),
            player=player,
            tally=tally,
            quality=self.judge.report() if self._options.rank else None,
            open_loop=self._options.rate is not None,
        )

    async def _main_part(self, player: Player, steps: list[Step], on_search: Hook | None) -> float | None:
        """Returns how long a part took that was only bulk; None when something else was timed as well."""
        options, board = self._options, self._board
        if not options.rank:
            return await self._published(player, steps)
        before, rest = split(steps, options.bulk_searches)
        if before:
            await player.bulk(before, board.piece("publish in bulk", len(before)))
            await player.flush()
        first = next((step.event.time_ms for step in rest), 0)
        if not await player.barrier(first):
            board.say("the region has not taken in the bulk part yet: the first rankings know less")
        ranked = board.piece("rank, then publish clicks", searches_in(rest))
        if options.rate is None:
            await player.waves(rest, ranked)
        else:
            await player.ranked(rest, options.rate, ranked, on_search)
        return None

    async def _published(self, player: Player, steps: list[Step]) -> float | None:
        board, rate = self._board, self._options.rate
        started = self._clock.elapsed_seconds()
        if rate is not None:
            await player.paced(steps, rate, board.piece(f"publish {rate:g} a second", len(steps)))
            return None
        await player.bulk(steps, board.piece("publish as fast as it goes", len(steps)))
        return self._clock.elapsed_seconds() - started
