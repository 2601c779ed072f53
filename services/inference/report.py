"""What a worker says of its champion, in the shape that other processes read (through `client.py`)."""

import msgspec


class NamedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The version that the alias `champion` names."""

    version: str
    sha256: str
    """Of the manifest; empty when only the number is given (by the setting `model_version`)."""


class ServingVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that serves here; it gave the scores of its golden set in this very process."""

    version: str
    sha256: str
    golden_rows: int
    device: str


class ChampionReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `GET /v2/repository/models/M/champion`."""

    model: str
    blocker: str | None
    """Why this region does not rank as its champion should, in one sentence; None when it does."""
    named: NamedVersion | None
    """None: no alias is set, and the newest version that passes serves."""
    heard: bool
    """Whether the alias was read from the coordination store since the worker started; False: as it remembers it."""
    silent_seconds: float = 0.0
    """How long ago it was last read, or reading it was first tried; after 30 s and 10 polls this is a blocker."""
    serving: ServingVersion | None
    standby: ServingVersion | None
    challenger: ServingVersion | None
    shadow: ServingVersion | None
