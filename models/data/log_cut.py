"""A training set cut from the events logs of a region at a frontier, so that a model names the events it learned from.

The logs are read by the very replay that rebuilds a region, into a state of its own: what it refuses (a log that was
cut, a gap, a frame of an unknown version) is refused here, and what it folds is what is learned from. The frontier,
the checksum of the last record of each partition and the digest of the state at that frontier go into the version's
manifest. Whoever holds copies of the same logs can cut the same set again, and prove that it is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from models.data.logged import LoggedSource, source_of
from models.errors import SourceUnreadable
from models.frontier import CutFrontier, CutPoint
from streams.digest import digest
from streams.errors import StreamError
from streams.fold import Fold
from streams.frame import Columns, EventRow, Headers, decode_frame
from streams.kinds import Kind
from streams.position import Frontier
from streams.replay import Progress, ReplayResult, replay
from streams.state import Parameters, State

NAME: Final = "events logs"


def wanted_frontier(written: Mapping[str, Any]) -> Frontier:
    """A frontier from JSON: `{log: {partition: next offset}}`, or the `frontier` of a manifest.

    Raises SourceUnreadable.
    """
    logs = written.get("logs", written)
    try:
        return Frontier(
            {
                (log, int(partition)): int(point["next_offset"] if isinstance(point, Mapping) else point)
                for log, partitions in logs.items()
                for partition, point in partitions.items()
            }
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceUnreadable(
            f"that is no frontier ({type(error).__name__}: {error}); write {{log: {{partition: next offset}}}}, or "
            "give the frontier of a version's manifest.json"
        ) from error


def refuse_other(source: LoggedSource, written: Mapping[str, Any]) -> None:
    """Hold a cut against the manifest's frontier that asked for it, as far as that names more than offsets.

    Raises SourceUnreadable when the same offsets hold other records.
    """
    logs = written.get("logs", {})
    for log, points in (source.cut.logs if source.cut else {}).items():
        for partition, point in points.items():
            wanted = logs.get(log, {}).get(partition)
            checksum = wanted.get("checksum", point.checksum) if isinstance(wanted, Mapping) else point.checksum
            if checksum != point.checksum:
                raise SourceUnreadable(
                    f"{log}/{partition} shows another record before offset {point.next_offset} than the one that the "
                    "frontier names: it is not the same log. Next: name the region that holds it"
                )


def cut(
    bootstrap: str,
    logs: Sequence[str],
    until: Frontier | None = None,
    *,
    parameters: Parameters | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> LoggedSource:
    """Read these logs from their beginning up to `until`, by default to where they end now. Blocks.

    Raises SourceUnreadable when they cannot be read whole up to there: a training set that silently lacks events would
    name a frontier that it does not have.
    """
    if until is not None and (strange := sorted({log for log, _ in until} - set(logs))):
        raise SourceUnreadable(f"the frontier names {', '.join(strange)}, but {bootstrap} has only {', '.join(logs)}")
    rows: list[EventRow] = []

    def decoded(value: bytes | None, headers: Headers) -> Columns:
        columns = decode_frame(value, headers)
        rows.extend(columns.row(place) for place in range(columns.count))
        return columns

    fold = Fold(State(parameters or Parameters()))
    try:
        # Every log is read as a copy is: by what its records say of themselves. A log's own records say the same.
        result = replay(bootstrap, fold, logs, until, on_progress, is_copy=lambda _: True, decode=decoded)
    except StreamError as error:
        raise SourceUnreadable(f"the logs cannot be cut: {error}") from error
    _refuse_less(result, until)
    return cut_source(rows, fold.state)


def cut_source(rows: Sequence[EventRow], state: State) -> LoggedSource:
    """The training set of events that were folded into `state`."""
    logged = source_of(NAME, rows, state.parameters)
    logs: dict[str, dict[str, CutPoint]] = {}
    for (log, partition), point in sorted(state.points.items()):
        found = CutPoint(next_offset=point.next_offset, checksum=f"{point.last_checksum:016x}")
        logs.setdefault(log, {})[str(partition)] = found
    times = [search.time_ms for search in logged.searches] or [0]
    frontier = CutFrontier(
        logs=logs,
        rows=len(logged.searches),
        first_time_ms=times[0],
        last_time_ms=times[-1],
        events=sum(row.kind is not Kind.ITEM for row in logged.rows),
        digest=digest(state).hex(),
        fold=state.parameters,
        joined=logged.joined,
    )
    return msgspec.structs.replace(logged, cut=frontier)


def _refuse_less(result: ReplayResult, until: Frontier | None) -> None:
    missing = list(result.notices)
    for (log, partition), wanted in sorted((until or Frontier()).items()):
        if result.frontier[log, partition] < wanted:
            missing.append(f"{log}/{partition} was read to {result.frontier[log, partition]} of {wanted}")
    if missing:
        raise SourceUnreadable(
            f"the logs are not whole up to the frontier: {'; '.join(missing)}. Next: wait for the replicator, name "
            "another region's logs, or an older frontier"
        )
