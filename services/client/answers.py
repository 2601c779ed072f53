"""What comes back: where an event is kept, what became of it, and a ranking."""

from __future__ import annotations

import msgspec

from .errors import Problem


class Coordinates(msgspec.Struct, frozen=True):
    """Where an acknowledged event lies for good. Handed to `after`, a read waits until it was taken in."""

    log: str
    partition: int
    offset: int
    index: int = 0


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The event is durable."""

    id: str
    coordinates: Coordinates
    stored: str = "local"
    """`remote`: another region holds it too, as `ack="remote"` asks for."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The event is wrong and was not kept; sending it again as it is cannot help."""

    id: str
    problem: Problem


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody could say within the time allowed. The event stays in the outbox and `flush` sends it again."""

    id: str
    reason: str
    coordinates: Coordinates | None = None
    """Where it lies all the same, when it was kept but not confirmed by another region in time."""


Outcome = Accepted | Refused | Unknown


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: items best first, and what it was made from."""

    ranking_id: str
    items: tuple[str, ...]
    scores: tuple[float, ...] = ()
    rung: str = ""
    model_version: str = ""
    region: str = ""
    epoch: tuple[int, int] = (0, 0)
    feature_age_ms: int | None = None
    after_reached: bool | None = None
    event: Coordinates | None = None
    reason: str = ""
    """Why the answer did not come from the model; empty when it did."""


class WireResult(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the answer to `POST /v1/events`."""

    status: str
    id: str | None = None
    coordinates: Coordinates | None = None
    stored: str = ""
    problem: Problem | None = None


class WireResults(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `POST /v1/events`."""

    results: tuple[WireResult, ...]


decode_results = msgspec.json.Decoder(WireResults).decode
decode_ranking = msgspec.json.Decoder(Ranking).decode
decode_problem = msgspec.json.Decoder(Problem).decode
