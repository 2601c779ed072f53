"""Drills as typed files: what is run, what breaks when, and what passes.

A drill is a TOML file beside this module (or anywhere else, named by its path). `--set load.users=50` replaces one
value; types are checked, and a misspelt key is refused, because a drill that silently tested something else would be
worse than none.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from region_sim.changes import replace
from region_sim.errors import BadDrill

DRILL_DIR: Final = Path(__file__).parent / "drills"
KEYS: Final = "docs/operating/drills.md lists the keys of a drill"
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Target = str
"""`active`, `passive`, `etcd-leader`, `first` (whom the first fault hit) or a site; looked up when the fault comes."""
PROCESSES: Final = ("etcd", "kafka", "inference", "processor", "gateway", "replicator", "controller")
"""Of a region; a witness has etcd alone."""
WORDS_OF_TARGETS: Final = ("active", "passive", "etcd-leader", "first")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a drill file."""


class Topology(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The deployment that is started for the drill."""

    regions: Annotated[list[str], msgspec.Meta(min_length=2)] = msgspec.field(default_factory=lambda: ["east", "west"])
    witness: str = "north"
    """Empty: none, which needs three regions."""
    network: Literal["loopback", "namespaces"] = "loopback"
    pace: Literal["near", "far"] = "near"
    """In memory. near: regions are set as they are by default, a lease of 2 s; far: as over a wide-area network, with
    a lease of 9 s, so that minutes cost little. On processes their own settings count."""
    base_port: Annotated[int, msgspec.Meta(ge=1, le=65_000)] = 28_080
    up_seconds_max: Positive = 300.0


class Load(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An open loop: the schedule is fixed beforehand, whatever the regions do."""

    source: Literal["synthetic", "replay"] = "synthetic"
    """synthetic: made from the seed, said by the library and by bare clients; replay: a shop's log, said by one app
    with the library, which asks for a ranking before each click and is judged by the click that followed."""
    data: str = "shop"
    """Of a replay: a folder, a file, or `shop[:SEED]`."""
    bulk_searches: Annotated[int, msgspec.Meta(ge=0)] = 30_000
    """Of a replay: so many searches, with what followed, are only published before the load begins."""
    ranked_searches: Count = 3_000
    """Of a replay: at least so many are ranked, `searches_per_second`; the first fault comes half way."""
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

    warm_up_seconds: Positive = 15.0
    """Not judged: a region that was just started needs about 12 s under this load until all is compiled."""
    begin_seconds_max: Positive = 90.0
    """Until a region serves and the catalogue is found."""
    steady_seconds: Positive = 8.0
    fault_seconds: Positive = 10.0
    """From the last fault (or, longer, until the takeover, or until heals with a time of their own) to the heal."""
    takeover_seconds_max: Positive = 30.0
    heal_seconds_max: Positive = 180.0
    after_seconds: Positive = 5.0
    """Load goes on for so long after the heal is complete."""
    settle_seconds_max: Positive = 90.0
    """Without load: until all regions stand at one frontier."""


class _Fault(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all faults have in common."""

    target: Target = "active"
    at_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """After the phase of faults began."""
    after_recovery: bool = False
    """at_seconds counts from when all faults before it in the file were healed and all regions were back."""
    for_seconds: Positive | None = None
    """Healed so long after it was injected; none: when the drill heals everything."""


class Kill(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="kill", tag_field="kind"):
    """SIGKILL; healed by starting the site again (single processes are started by their supervisor)."""

    processes: list[str] = []
    """Names of single processes; empty: all of the site, its supervisor included."""
    also_etcd_leader: bool = False
    """Kill the etcd member that leads at the same moment, wherever it is."""
    times: Count = 1
    """More than once: a crash loop; needs `processes`."""
    every_seconds: Positive = 3.0


class Wipe(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="wipe", tag_field="kind"):
    """SIGKILL to all of a site, and its directory is deleted."""


class Cut(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="cut", tag_field="kind"):
    """The broker is killed and comes back without its newest records, as after a power loss.

    Its supervisor starts it; with `whole_site`, all of the site is killed and started again by the heal.
    """

    whole_site: bool = False
    records: Count = 10
    """Taken from each partition, at least: whole batches. Fewer than the load writes until somebody notices."""
    partitions: Count = 2
    """How many lose something: those that hold most."""
    peers_behind_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    """So long before, the other regions' replicators are stopped: what was said meanwhile is held by nobody else."""


class TopicLoss(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="topic-loss", tag_field="kind"):
    """The broker is killed and comes back with partitions of its own events log empty: files were deleted."""

    partitions: Count = 1


class Pause(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="pause", tag_field="kind"):
    """SIGSTOP to all of a site, or to single processes; healed by SIGCONT."""

    processes: list[str] = []


class Restart(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="restart", tag_field="kind"):
    """An operator ends a whole site in order, as for an upgrade; healed by starting it again."""


class Partition(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="partition", tag_field="kind"):
    """The network drops packets between a site and the others; clients reach every side."""

    shape: Literal["full", "outgoing", "incoming", "peer", "etcd", "data"] = "full"
    """full: from and to all other sites; outgoing, incoming: one direction; peer: the other region only; etcd: only
    what etcd and its clients say between sites; data: only what is not etcd."""
    how: Literal["drop", "disconnect"] = "drop"
    """disconnect: on compose, and `full`, the site loses its interface, and everybody is told."""


class Link(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="link", tag_field="kind"):
    """What a site and the others say to each other is late, or some of it is lost."""

    delay_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    jitter_ms: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    loss_share: Share = 0.0


class DiskFull(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="disk-full", tag_field="kind"):
    """Nothing more can be written to a site's directory."""


class Model(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="model", tag_field="kind"):
    """A site's ranking model becomes another file while its inference worker is killed, which then loads it."""

    how: Literal["corrupt", "wrong"] = "corrupt"
    """corrupt: no model any more; wrong: a model that loads, with the same signature, and predicts something else."""


class Poison(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="poison", tag_field="kind"):
    """Records that are no frames are written into a site's own events log, past its gateway. No heal."""

    records: Count = 20


class Herd(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="herd", tag_field="kind"):
    """Clients that all ask a site at once, as when everybody comes back to it. No heal."""

    clients: Count = 200
    searches_each: Count = 3


class ClockFault(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="clock", tag_field="kind"):
    """A site's wall clock is set, and from then on all its clocks run at another rate; healed by the rate 1."""

    step_seconds: float = 0.0
    rate: Annotated[float, msgspec.Meta(gt=0, le=2)] = 1.0


class StoreFault(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="store", tag_field="kind"):
    """Something that etcd does to its clients. `target` is the site whose clients meet it."""

    how: Literal["lost-replies", "silent-watches", "compaction", "new-leader", "stale-revocation"] = "lost-replies"
    """lost-replies: writes happen and their answers do not come; silent-watches: they end and cannot be begun;
    compaction: watchers fell behind what is remembered; new-leader: every lease begins anew; stale-revocation: the bug
    of etcd before 3.5.13, by which a renewed lease is ended by a leader of before."""


class OperatorPause(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="hold", tag_field="kind"):
    """An operator says that nothing may move by itself. Healed by `resume`."""


class Switchover(_Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="switchover", tag_field="kind"):
    """An operator moves the activity to another region. No heal."""

    to: str = ""
    """Empty: the first other region."""


Fault = (
    Kill
    | Wipe
    | Cut
    | TopicLoss
    | Pause
    | Restart
    | Partition
    | Link
    | DiskFull
    | Model
    | Poison
    | Herd
    | ClockFault
    | StoreFault
    | OperatorPause
    | Switchover
)


class Marks(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What passes. None: measured, not judged."""

    rto_seconds_max: float | None = None
    gap_seconds_max: float | None = None
    last_contact_seconds_max: float | None = None
    heal_seconds_max: float | None = None
    failovers_min: Annotated[int, msgspec.Meta(ge=0)] = 0
    failovers_max: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Changes of the active region from the first fault to the end; 0 for what must not move the activity."""
    dead_letters_min: Annotated[int, msgspec.Meta(ge=0)] = 0
    lost_max: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Acknowledged events that some region does not hold in the end, listed in a receipt or not."""


class Steady(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The steady-state hypothesis: holds before the first fault, or nothing was tested; and again after the heal."""

    answered_share_min: Share = 0.99
    """Of the searches of the library, that were answered."""
    latency_p99_ms_max: Positive | None = None


class Drill(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One drill, complete."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,60}$")]
    summary: str
    faults: Annotated[list[Fault], msgspec.Meta(min_length=1)]
    steady: Steady = Steady()
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
        raise BadDrill(f"{path} cannot be read: {error}. It has to be a file of TOML; {KEYS}") from error
    for change in changes:
        replace(table, change)
    try:
        drill = msgspec.convert(table, Drill)
    except msgspec.ValidationError as error:
        raise BadDrill(f"drill {name!r}: {error}; {KEYS}") from error
    return sound(drill)


def sound(drill: Drill) -> Drill:
    """Return the drill if it does not contradict itself. Raises BadDrill."""
    problem = _contradiction(drill)
    if problem is not None:
        raise BadDrill(f"drill {drill.name}: {problem}")
    return drill


def _contradiction(drill: Drill) -> str | None:
    topology = drill.topology
    sites = [*topology.regions, *([topology.witness] if topology.witness else [])]
    if len(set(sites)) < len(sites):
        return f"two sites have one name: {', '.join(sites)}"
    if not topology.witness and len(topology.regions) < 3:
        return "two regions need a witness: without one, nobody has a majority when a region is lost"
    return next((why for fault in drill.faults if (why := _fault_problem(fault, drill, sites)) is not None), None)


def _fault_problem(fault: Fault, drill: Drill, sites: Sequence[str]) -> str | None:
    topology = drill.topology
    if isinstance(fault, Partition | Link) and topology.network != "namespaces":
        return f'a {kind_of(fault)} fault needs topology.network = "namespaces": on loopback there is no network to cut'
    if fault.target not in (*WORDS_OF_TARGETS, *sites):
        return f"faults.target {fault.target!r} is none of {', '.join([*WORDS_OF_TARGETS, *sites])}"
    if fault.target == "first" and (
        fault is drill.faults[0] or (fault.at_seconds < drill.faults[0].at_seconds and not fault.after_recovery)
    ):
        return "the target `first` is whom the first fault of the file hit: that one must come before it"
    if fault.after_recovery and (lasting := _lasting_before(fault, drill)) is not None:
        return f"what comes after a recovery needs a for_seconds of the {kind_of(lasting)} before it, which never heals"
    if isinstance(fault, Cut | TopicLoss | Poison | Model) and fault.target in ("etcd-leader", topology.witness):
        return f"faults.target {fault.target!r} has neither a log nor a model"
    return _field_problem(fault, drill)


def _lasting_before(fault: Fault, drill: Drill) -> Fault | None:
    """A fault that stands until the drill heals everything, before this one; None when there is none."""
    before = drill.faults[: next(place for place, other in enumerate(drill.faults) if other is fault)]
    heals_nothing = (Switchover, Herd, Poison)
    return next((one for one in before if one.for_seconds is None and not isinstance(one, heals_nothing)), None)


def _field_problem(fault: Fault, drill: Drill) -> str | None:
    if isinstance(fault, Switchover) and fault.to and fault.to not in drill.topology.regions:
        return f"faults.to {fault.to!r} is no region; there are: {', '.join(drill.topology.regions)}"
    if isinstance(fault, Kill | Pause) and (unknown := [name for name in fault.processes if name not in PROCESSES]):
        return f"faults.processes {unknown[0]!r} is none of {', '.join(PROCESSES)}"
    if isinstance(fault, Kill) and fault.times > 1 and not fault.processes:
        return "a crash loop (times) needs the processes that crash"
    if isinstance(fault, Partition) and fault.how == "disconnect" and fault.shape != "full":
        return f'faults.how "disconnect" takes the cable away; shape "{fault.shape}" needs "drop"'
    return None


def kind_of(fault: Fault) -> str:
    """The word that a drill file says for this kind of fault."""
    return str(fault.__struct_config__.tag)
