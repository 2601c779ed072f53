"""Snapshots: whole or not there, only what changed is written, and what is damaged is never taken."""

import random
from pathlib import Path

import msgspec
import pytest

from streams import snapshot
from streams.digest import audit, digest
from streams.fold import Fold
from streams.frame import EventRow
from streams.snapshot import freeze, load, save, stored, write
from streams.state import Parameters, PartitionPoint, State
from tests.support.streams_of_events import LOG, Shape, events, fold_all, splits

HOUR_MS = 3_600_000
PARAMETERS = Parameters(bucket_ms=HOUR_MS, horizon_buckets=20, clock_events=30, history_max=4)
SHAPE = Shape(events=600, users=9, items=12, span_ms=12 * HOUR_MS)


def frames(seed: int = 1) -> list[list[EventRow]]:
    """Frames of one stream, in order of time."""
    return splits(sorted(events(seed, SHAPE), key=lambda e: e.time_ms), random.Random(seed))


@pytest.fixture
def state() -> State:
    """Some state."""
    return fold_all(frames(), PARAMETERS).state


def test_what_was_saved_is_what_is_loaded(state: State, tmp_path: Path) -> None:
    """State, frontier, catalogue and counts come back, and the next events find the same state."""
    save(state, tmp_path)
    again = load(tmp_path, PARAMETERS)
    assert again is not None
    assert digest(again) == digest(state) and audit(again) is None
    assert (again.points, again.catalogue, again.tally) == (state.points, state.catalogue, state.tally)
    more = splits(events(2, SHAPE), random.Random(2))
    assert digest(fold_all(more, PARAMETERS, Fold(again)).state) == digest(
        fold_all(more, PARAMETERS, Fold(state)).state
    )


@pytest.mark.parametrize("seed", range(4))
def test_live_equals_snapshot_and_suffix(seed: int, tmp_path: Path) -> None:
    """Stopping at any frame, loading and going on gives the digest of never having stopped."""
    stream = frames(seed)
    cut = random.Random(seed).randrange(len(stream))
    live = fold_all(stream, PARAMETERS).state
    save(fold_all(stream[:cut], PARAMETERS).state, tmp_path)
    resumed = load(tmp_path, PARAMETERS)
    assert resumed is not None and resumed.frontier[LOG, 0] == cut
    fold_all(stream[cut:], PARAMETERS, Fold(resumed))
    assert digest(resumed).explain(digest(live)) is None and audit(resumed) is None
    assert resumed.tally == live.tally


def test_an_empty_state_can_be_saved(tmp_path: Path) -> None:
    """Nothing seen yet is a state like any other."""
    save(State(PARAMETERS), tmp_path)
    again = load(tmp_path, PARAMETERS)
    assert again is not None and digest(again) == digest(State(PARAMETERS))


def test_no_snapshot_is_none(tmp_path: Path) -> None:
    """A directory that is empty, or not there, holds no snapshot."""
    assert load(tmp_path, PARAMETERS) is None
    assert load(tmp_path / "nowhere", PARAMETERS) is None


def test_only_changed_buckets_are_written(state: State, tmp_path: Path) -> None:
    """A bucket that did not change keeps its file; a frozen state holds copies of changed ones only."""
    save(state, tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "units").iterdir()}
    latest = max(state.units, key=lambda b: state.units[b].events)
    fold_all([[e for e in events(7, SHAPE) if e.time_ms // HOUR_MS == latest]], PARAMETERS, Fold(state))
    frozen = freeze(state, stored(tmp_path))
    assert 0 < len(frozen.units) < len(state.units)
    write(frozen, tmp_path)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "units").iterdir()}
    assert len(after.keys() - before.keys()) == len(frozen.units)
    assert all(after[name] == before[name] for name in after.keys() & before.keys())


def test_a_frozen_state_does_not_move(state: State, tmp_path: Path) -> None:
    """Events folded between freeze and write are not in the snapshot."""
    as_it_was = digest(state)
    frozen = freeze(state)
    fold_all(frames(9), PARAMETERS, Fold(state))
    assert digest(state) != as_it_was
    write(frozen, tmp_path)
    again = load(tmp_path, PARAMETERS)
    assert again is not None and digest(again) == as_it_was


def test_the_last_two_are_kept(state: State, tmp_path: Path) -> None:
    """Older manifests go, and with them the files that only they named."""
    fold = Fold(state)
    for seed in range(20, 24):
        fold_all(frames(seed), PARAMETERS, fold)
        save(state, tmp_path)
    manifests = sorted(p.name for p in tmp_path.glob("snapshot-*.json"))
    assert manifests == ["snapshot-000000000003.json", "snapshot-000000000004.json"]
    named = {f.name for m in manifests for f in snapshot._read_manifest(tmp_path / m).files}
    assert {p.name for p in (tmp_path / "units").iterdir()} == named


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "manifest"])
def test_a_damaged_snapshot_is_passed_over(damage: str, state: State, tmp_path: Path) -> None:
    """A flipped bit, a cut or missing file, a torn manifest: the older one is taken, with a reason."""
    save(state, tmp_path)
    older, known = digest(state), set(stored(tmp_path))
    fold_all(frames(5), PARAMETERS, Fold(state))
    newest = save(state, tmp_path)
    fresh = [tmp_path / "units" / name for name in stored(tmp_path) - known if name.startswith("unit")]
    victim = max(fresh, key=lambda path: path.stat().st_size)
    raw = victim.read_bytes()
    if damage == "flip":
        identities = state.units[int(victim.name.split("-")[1])].identities
        place = raw.index(identities[identities != 0][0].tobytes())
        victim.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
    elif damage == "cut":
        victim.write_bytes(raw[:-8])
    elif damage == "gone":
        victim.unlink()
    else:
        newest.write_bytes(newest.read_bytes()[:-40])
    reasons: list[str] = []
    again = load(tmp_path, PARAMETERS, reasons.append)
    assert again is not None and digest(again) == older
    assert len(reasons) == 1 and newest.name in reasons[0]
    save(state, tmp_path)
    healed = load(tmp_path, PARAMETERS, reasons.append)
    assert healed is not None and digest(healed) == digest(state) and len(reasons) == 1


def test_a_write_cut_short_leaves_the_older_one(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash before the manifest is in place changes nothing; its leavings are swept up by the next write."""
    save(state, tmp_path)
    older = digest(state)
    fold_all(frames(5), PARAMETERS, Fold(state))
    real = snapshot._write_file

    def crash(path: Path, raw: bytes) -> None:
        if path.suffix == ".json":
            path.with_name(f".{path.name}.tmp").write_bytes(raw[:50])
            raise OSError("no space left on device")
        real(path, raw)

    monkeypatch.setattr(snapshot, "_write_file", crash)
    with pytest.raises(OSError, match="no space"):
        save(state, tmp_path)
    monkeypatch.undo()
    again = load(tmp_path, PARAMETERS)
    assert again is not None and digest(again) == older
    save(state, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.name.endswith(".tmp")]


def test_other_parameters_or_fold_are_refused(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot that could never equal anybody's state is refused, and the reason names both sides."""
    save(state, tmp_path)
    reasons: list[str] = []
    assert load(tmp_path, msgspec.structs.replace(PARAMETERS, history_max=5), reasons.append) is None
    assert "history_max=5" in reasons[0] and "history_max=4" in reasons[0]
    monkeypatch.setattr(snapshot, "FOLD_VERSION", 2)
    assert load(tmp_path, PARAMETERS, reasons.append) is None
    assert "fold version 1" in reasons[1]


def test_a_state_that_is_not_what_its_digest_says_is_refused(state: State, tmp_path: Path) -> None:
    """Files that are whole, but are not those of the digest, are no snapshot."""
    frozen = freeze(state)
    write(msgspec.structs.replace(frozen, digest="0" * 32), tmp_path)
    reasons: list[str] = []
    assert load(tmp_path, PARAMETERS, reasons.append) is None
    assert "digest" in reasons[0]


def test_off_site_copy_brings_a_region_back(state: State, tmp_path: Path) -> None:
    """What was copied off-site, twice, and fetched into an empty directory is the same state."""
    here, there, new = tmp_path / "here", tmp_path / "there", tmp_path / "new"
    for seed in (5, 6, 7):
        fold_all(frames(seed), PARAMETERS, Fold(state))
        save(state, here, copy_to=there.as_uri())
    assert len(list(there.glob("snapshot-*.json"))) == 2
    snapshot.fetch(there.as_uri(), new)
    again = load(new, PARAMETERS)
    assert again is not None and digest(again) == digest(state)


def test_points_keep_what_a_cut_log_is_told_from(tmp_path: Path) -> None:
    """Checksum and leader epoch of each partition's last record come back."""
    state = State(PARAMETERS)
    state.points["east-1.events", 3] = PartitionPoint(17, (1 << 64) - 1, 4)
    save(state, tmp_path)
    again = load(tmp_path, PARAMETERS)
    assert again is not None and again.points == state.points
