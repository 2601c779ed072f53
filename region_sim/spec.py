"""Drills as typed files: what is run, what breaks when, and what passes.

A drill is a TOML file beside this module (or anywhere else, named by its path). `--set load.users=50` replaces one
value; types are checked, and a misspelt key is refused, because a drill that silently tested something else would be
worse than none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from region_sim.errors import BadDrill

DRILL_DIR: Final = Path(__file__).parent / "drills"
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Target = str
"""`active`, `passive`, `etcd-leader` or the name of a site; looked up when the fault comes."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a drill file."""


class Topology(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The deployment that is started for the drill."""

    regions: Annotated[list[str], msgspec.Meta(min_length=2)] = msgspec.field(default_factory=lambda: ["east", "west"])
    witness: str = "north"
    """Empty: none, which needs three regions."""
    network: Literal["loopback", "namespaces"] = "loopback"
    base_port: Annotated[int, msgspec.Meta(ge=1, le=65_000)] = 28_080
    up_seconds_max: Positive = 300.0


class Load(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An open loop: the schedule is fixed beforehand, whatever the regions do."""

    searches_per_second: Positive = 50.0
    events_per_second: Positive = 200.0
    events_per_call: Count = 5
    bare_share: Share = 0.4
    """Of searches and of events: said by bare HTTP clients, one pinned to each region; the library says the rest."""
    users: Count = 300
    items: Count = 300
    search_timeout_ms: Count = 1_000
    publish_timeout_seconds: Positive = 20.0
    bare_timeout_seconds: Positive = 5.0
    ack: Literal["", "local", "remote", "bounded"] = ""
    """Sent as `Meridian-Ack` with events; empty: the gateway's own setting.

    With `remote`, searches say `local`, and where their events lie is taken for no promise: a region that is left
    alone must still rank.
    """
    calls_in_flight_max: Count = 2_000

    @property
    def search_ack(self) -> Literal["", "local", "bounded"]:
        """What searches say."""
        return "local" if self.ack == "remote" else self.ack


class Phases(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long each part lasts, and how long is waited for what must happen."""

    warm_up_seconds: Positive = 20.0
    """Not judged: a region that was just started needs about 12 s under this load until all is compiled."""
    begin_seconds_max: Positive = 90.0
    """Until a region serves and the catalogue is found."""
    steady_seconds: Positive = 10.0
    fault_seconds: Positive = 12.0
    """From the fault (or, longer, the takeover) to its heal."""
    takeover_seconds_max: Positive = 30.0
    heal_seconds_max: Positive = 180.0
    after_seconds: Positive = 5.0
    """Load goes on for so long after the heal is complete."""
    settle_seconds_max: Positive = 90.0
    """Without load: until all regions stand at one frontier."""


class Kill(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="kill", tag_field="kind"):
    """SIGKILL; healed by starting the site again (single processes are started by their supervisor)."""

    target: Target = "active"
    processes: list[str] = []
    """Names of single processes; empty: all of the site, its supervisor included."""
    also_etcd_leader: bool = False
    """Kill the etcd member that leads at the same moment, wherever it is."""


class Wipe(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="wipe", tag_field="kind"):
    """SIGKILL to all of a site, and its directory is deleted."""

    target: Target = "active"


class Cut(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cut", tag_field="kind"):
    """The broker is killed and comes back without its newest records, as after a power loss.

    Its supervisor starts it; with `whole_site`, all of the site is killed and started again by the heal.
    """

    target: Target = "active"
    whole_site: bool = False
    records: Count = 10
    """Taken from each partition, at least: whole batches. Fewer than the load writes until somebody notices."""
    partitions: Count = 2
    """How many lose something: those that hold most."""
    peers_behind_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """So long before, the other regions' replicators are stopped: what was said meanwhile is held by nobody else."""


class Pause(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pause", tag_field="kind"):
    """SIGSTOP to all of a site, or to single processes; healed by SIGCONT."""

    target: Target = "active"
    processes: list[str] = []


class Partition(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="partition", tag_field="kind"):
    """The network drops packets between a site and the others; clients reach every side."""

    target: Target = "active"
    shape: Literal["full", "outgoing", "incoming", "peer"] = "full"
    """full: from and to all other sites; outgoing, incoming: one direction; peer: the other region only."""


class Switchover(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="switchover", tag_field="kind"):
    """An operator moves the activity to another region. No heal."""

    target: Target = "active"
    to: str = ""
    """Empty: the first other region."""


Fault = Kill | Wipe | Cut | Pause | Partition | Switchover


class Marks(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What passes. None: measured, not judged."""

    rto_seconds_max: float | None = None
    gap_seconds_max: float | None = None
    last_contact_seconds_max: float | None = None
    heal_seconds_max: float | None = None
    steady_share_min: Share = 0.99
    """Searches answered before the fault; below it nothing was tested, and the verdict is unknown."""


class Drill(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One drill, complete."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,60}$")]
    summary: str
    fault: Fault
    topology: Topology = Topology()
    load: Load = Load()
    phases: Phases = Phases()
    marks: Marks = Marks()


def known_drills() -> list[Drill]:
    """Return the drills that come with the project. Raises BadDrill."""
    return [load_drill(path.stem) for path in sorted(DRILL_DIR.glob("*.toml"))]


def load_drill(name: str, changes: Sequence[str] = ()) -> Drill:
    """Read a drill by name or path and replace what `changes` (`key.key=value`) say. Raises BadDrill."""
    is_path = name.endswith(".toml")
    path = Path(name) if is_path else DRILL_DIR / f"{name}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = ", ".join(sorted(found.stem for found in DRILL_DIR.glob("*.toml")))
        raise BadDrill(f"there is no drill {name!r}; there are: {there}. A file is named by its path.") from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadDrill(f"{path} cannot be read: {error}") from error
    for change in changes:
        _replace(table, change)
    try:
        drill = msgspec.convert(table, Drill)
    except msgspec.ValidationError as error:
        raise BadDrill(f"drill {name!r}: {error}") from error
    problem = _contradiction(drill)
    if problem is not None:
        raise BadDrill(f"drill {drill.name}: {problem}")
    return drill


def _replace(table: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise BadDrill(f"--set {change!r}: write it as key=value, such as load.searches_per_second=20")
    *tables, last = key.strip().split(".")
    for part in tables:
        inner = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise BadDrill(f"--set {change!r}: {part} is a value, not a table")
        table = inner
    table[last] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value; what is none (`west`) is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _contradiction(drill: Drill) -> str | None:
    topology = drill.topology
    sites = [*topology.regions, *([topology.witness] if topology.witness else [])]
    if len(set(sites)) < len(sites):
        return f"two sites have one name: {', '.join(sites)}"
    if not topology.witness and len(topology.regions) < 3:
        return "two regions need a witness: without one, nobody has a majority when a region is lost"
    if isinstance(drill.fault, Partition) and topology.network != "namespaces":
        return 'a partition needs topology.network = "namespaces": on loopback there is no network to cut'
    return _wrong_target(drill, sites)


def _wrong_target(drill: Drill, sites: Sequence[str]) -> str | None:
    topology = drill.topology
    target = drill.fault.target
    if target not in ("active", "passive", "etcd-leader", *sites):
        return f"fault.target {target!r} is none of active, passive, etcd-leader, {', '.join(sites)}"
    if isinstance(drill.fault, Cut) and target in ("etcd-leader", topology.witness):
        return f"fault.target {target!r} has no log that could be cut"
    if isinstance(drill.fault, Switchover) and drill.fault.to and drill.fault.to not in topology.regions:
        return f"fault.to {drill.fault.to!r} is no region; there are: {', '.join(topology.regions)}"
    return None
