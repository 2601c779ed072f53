"""What apps send and what they get back: the types from which the API's description is generated.

Bodies of requests refuse unknown fields: `exlude` that is silently ignored would show a user what must not be shown.
"""

from typing import Annotated, Literal

import msgspec

from streams.cloudevents import EventId, Source, Time
from streams.events import LIST_MAX, Identifier, OptionalIdentifier, Query

SIZE_MAX = 100
CANDIDATES_MAX = 1000
AFTER_MAX = 64
FILTER_LIST_MAX = 100
RANGE_OPERATORS = ("min", "max")

Size = Annotated[int, msgspec.Meta(ge=1, le=SIZE_MAX)]
DeadlineMs = Annotated[
    int, msgspec.Meta(ge=1, description="How long the app still listens; the gateway has an upper bound of its own.")
]
Items = Annotated[list[Identifier], msgspec.Meta(max_length=CANDIDATES_MAX)]
FilterText = Annotated[str, msgspec.Meta(max_length=256)]
FilterRange = Annotated[
    dict[str, float], msgspec.Meta(extra_json_schema={"propertyNames": {"enum": list(RANGE_OPERATORS)}})
]
FilterValue = (
    FilterText | float | bool | Annotated[list[FilterText], msgspec.Meta(max_length=FILTER_LIST_MAX)] | FilterRange
)
Filter = Annotated[dict[FilterText, FilterValue], msgspec.Meta(max_length=32)]
Context = Annotated[
    dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=256)]],
    msgspec.Meta(max_length=32),
]


RungWord = Literal["model", "counters", "popularity"]


class Coordinates(msgspec.Struct, frozen=True, kw_only=True):
    """Where an acknowledged event lies for good; hand it to `after` to read what you wrote."""

    log: Annotated[str, msgspec.Meta(min_length=1, max_length=249)]
    partition: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    offset: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    index: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    """Place inside the frame."""


After = Annotated[list[Coordinates], msgspec.Meta(max_length=AFTER_MAX)]


class RankingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request for a ranking may say."""

    size: Size = 10
    filter: Filter = {}
    """Attribute to value, list of values, or range ({"min": 1, "max": 2})."""
    exclude: Items = []
    in_stock: bool = False
    context: Context = {}
    at: Time | None = None
    """The time that the answer is for: only events up to then count. Default: now, or the search's `time` if later."""
    after: After = []
    """Coordinates that must be folded before the answer is made."""
    session: OptionalIdentifier | None = None
    deadline_ms: DeadlineMs | None = None


class SearchRequest(RankingRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should this user see for this query? Writes the search event: do not post it again."""

    user: Identifier
    query: Query
    candidates: Items | None = None
    """Re-rank exactly these, for shops that have a search engine of their own."""
    id: EventId | None = None
    """Id of the search event; with it, `time` or `at` is required, so that a second try is the same event."""
    source: Source = "/apps/default"
    time: Time | None = None
    """When the user searched. Default: `at`, else now."""


class RecommendationsRequest(RankingRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should this user see on the home page?"""

    user: Identifier


class SimilarRequest(RankingRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is like this item?"""

    item: Identifier
    user: Identifier | None = None


class RankingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Items, best first, and what they were made from."""

    ranking_id: str
    """Send it with clicks, so that they count for this ranking."""
    items: list[str]
    scores: list[float]
    rung: RungWord
    """Which step of the ladder scored: the model, the streaming counters, or plain popularity."""
    model_version: str
    region: str
    epoch: tuple[int, int]
    feature_age_ms: int
    """Age of the newest record that the features know."""
    at: str
    event: Coordinates | None
    """Where the search event lies; null for recommendations and similar items."""
    after_reached: bool
    """False when something named in `after` was not folded in time, and the answer may not know it."""
    reason: str = ""
    """Why the answer did not come from the model; empty when it did."""


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem document."""

    title: str
    status: int
    detail: str
    type: str
    """`urn:meridian:problem:` and a word for this kind of refusal."""
    field: str = ""
    """Path of what is wrong: `data.user`."""
    remedy: str = ""
    """What to do next."""
    retry_after_seconds: float | None = None


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag_field="status", tag="accepted", omit_defaults=True):
    """The event is in the log, for good, at these coordinates."""

    id: str
    coordinates: Coordinates
    stored: Literal["local", "remote"] = "local"
    """`remote`: another region holds it too. Left out when only the own one is known to."""


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag_field="status", tag="refused"):
    """The event was not kept; it would be refused again as it is."""

    id: str | None
    """As the app sent it; null when it could not be read."""
    problem: ProblemDocument


class Unknown(msgspec.Struct, frozen=True, kw_only=True, tag_field="status", tag="unknown", omit_defaults=True):
    """Nobody can say that the event is kept as was wanted: send it again with the same id and time."""

    id: str
    problem: ProblemDocument
    stored: Literal["", "local"] = ""
    """`local`: it is in this region's log, at `coordinates`, but no other region confirmed it in time."""
    coordinates: Coordinates | None = None


Result = Accepted | Refused | Unknown


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each event, in the order in which they were sent."""

    results: list[Result]


class EventsProblem(ProblemDocument, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document for events of which none is known to be kept."""

    results: list[Result] = []
    """What became of each, as far as they could be told apart."""
    stored: Literal["", "local"] = ""
    """`local`: all of them are in this region's log, but no other region confirmed them in time (504)."""


class RankingProblem(ProblemDocument, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document for a ranking that is not shown."""

    coordinates: Coordinates | None = None
    """Where the search event lies, when it was kept all the same."""
    stored: Literal["", "local"] = ""
    """`local`: that event is in this region's log, but no other region confirmed it in time."""


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """Another region is active: ask at `location`, which the Location header names too."""

    region: str
    epoch: tuple[int, int]
    location: str


class RegionGateways(msgspec.Struct, frozen=True, kw_only=True):
    """One region, and where its gateways are."""

    region: str
    gateways: list[str]
    """Addresses: every one of them takes events, those of the active region give rankings."""
    active: bool
    inbox: str | None = None
    """The topic of its Kafka to which apps may publish events; it changes with the life of the region's data.

    Null while no life of it is known to go on.
    """


class RegionsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who is active, and where everybody is, as this gateway knows it."""

    region: str
    """Of the gateway that answers."""
    active: str | None
    """The region that gives rankings; null when none is known to."""
    epoch: tuple[int, int]
    """The largest epoch known of."""
    view_age_ms: int | None
    """How old the knowledge of who is active is; null when there is none."""
    regions: list[RegionGateways]


assert LIST_MAX >= SIZE_MAX, "a whole ranking must fit an impression"
