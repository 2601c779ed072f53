"""How fast the fold takes events, alone, on one core, beside a peer made of dicts; what it holds, and what reads cost.

    python -m bench.fold [--events 2000000] [--frame 250]

Prints where the time goes, and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import psutil  # type: ignore[import-untyped]

from bench.dict_fold import DictFold
from bench.shop_frames import DAY_MS, ITEMS, START_MS, USER_NUMBERS, Shop, zipf
from streams.digest import audit, digest
from streams.fold import Fold
from streams.frame import Columns, decode_frame, frame_headers
from streams.hashing import item_hash, query_hash
from streams.index import ReadIndex
from streams.kernels.rows import open_frame
from streams.position import Verdict
from streams.snapshot import freeze, load, write
from streams.state import Parameters, State
from streams.views import View

LOG = "bench-1.events"
COALESCED_EVENTS = 8_192
DAYS = 20.0
AT_MS = START_MS + int(DAYS * DAY_MS)


def timed(work: Callable[..., object], *arguments: object) -> float:
    """Processor seconds of this thread: what other processes take does not count."""
    start = time.thread_time()
    work(*arguments)
    return time.thread_time() - start


def fold_each(fold: Fold, frames: Sequence[Columns]) -> None:
    """As live records are taken: one by one."""
    for columns in frames:
        applied = fold.apply(columns, LOG, 0, fold.next_offset(LOG, 0), 0, 0)
        assert applied.verdict is Verdict.ACCEPTED


def fold_together(fold: Fold, frames: Sequence[Columns]) -> None:
    """As a replay takes them: many in one go."""
    for columns in frames:
        fold.take(columns, LOG, 0, fold.next_offset(LOG, 0), 0, 0)
        if fold.pending_events >= COALESCED_EVENTS:
            fold.flush()
    fold.flush()


def decode_all(values: Sequence[bytes], frame_events: int, into: list[Columns]) -> None:
    """Open every frame of this many events (the last one may hold fewer: its header is left out)."""
    headers = frame_headers(frame_events, "0" * 16)
    into.extend(decode_frame(value, headers[:1] if value is values[-1] else headers) for value in values)


def prepare_all(frames: Sequence[Columns]) -> None:
    """Only the first kernel: strings hashed, times in buckets."""
    rows = np.empty((max(f.count for f in frames), 11), np.uint64)
    items, span = np.empty((len(rows), 3), np.uint64), np.zeros(3, np.int64)
    for f in frames:
        q, i = f.query, f.item
        open_frame(
            f.ids, f.time_ms, f.user, f.session, f.kind, q.offsets, q.raw, q.index, i.offsets, i.raw, i.index,
            f.ranking, f.position, 21_600_000, 20, rows, 0, items, span,
        )  # fmt: skip


def rates(options: argparse.Namespace, values: list[bytes]) -> dict[str, float]:
    """Events a second, in interleaved slices so that a busy moment hits everyone alike."""
    parameters = Parameters()
    state, together, followed = State(parameters), State(parameters), State(parameters)
    folds = Fold(state), Fold(together), Fold(followed, ReadIndex(followed))
    peer = DictFold(parameters.bucket_ms, parameters.history_max)
    seconds: dict[str, float] = dict.fromkeys(("decode", "prepare", "each", "together", "index", "dict"), 0.0)
    done = peer_done = 0
    slice_frames = max(1, len(values) // 8)
    for start in range(0, len(values), slice_frames):
        part = values[start : start + slice_frames]
        frames: list[Columns] = []
        seconds["decode"] += timed(decode_all, part, options.frame, frames)
        seconds["prepare"] += timed(prepare_all, frames)
        seconds["each"] += timed(fold_each, folds[0], frames)
        seconds["together"] += timed(fold_together, folds[1], frames)
        seconds["index"] += timed(fold_each, folds[2], frames)
        done += sum(f.count for f in frames)
        tenth = part[: max(1, len(part) // 10)]
        seconds["dict"] += timed(peer.fold_all, tenth)
        peer_done += sum(f.count for f in frames[: len(tenth)])
    assert digest(state) == digest(together) == digest(followed)
    per_event = {name: 1e6 * s / (peer_done if name == "dict" else done) for name, s in seconds.items()}
    live = per_event["decode"] + per_event["each"]
    return {
        "events": done,
        "decode_us": per_event["decode"],
        "prepare_us": per_event["prepare"],
        "fold_us": per_event["each"] - per_event["prepare"],
        "index_us": per_event["index"] - per_event["each"],
        "fold_events_per_second": 1e6 / live,
        "fold_coalesced_events_per_second": 1e6 / (per_event["decode"] + per_event["together"]),
        "fold_with_index_events_per_second": 1e6 / (per_event["decode"] + per_event["index"]),
        "dict_peer_events_per_second": 1e6 / per_event["dict"],
        "times_the_peer": per_event["dict"] / live,
    }


def peer_memory(values: list[bytes], frame_events: int) -> float:
    """Bytes an event that the dicts hold, by what the process grew."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    peer = DictFold(Parameters().bucket_ms, Parameters().history_max)
    peer.fold_all(values)
    return float(process.memory_info().rss - before) / (len(values) * frame_events)


class Asked:
    """What rankings of 200 candidates ask for: the numbers are made beforehand, as a catalogue has them."""

    def __init__(self, count: int) -> None:
        g = np.random.default_rng(5)
        known = np.array([item_hash(str(name)) for name in ITEMS[:5000]], np.uint64)
        self.items = [known[g.integers(0, len(known), 200)] for _ in range(count)]
        self.queries = [query_hash(f"query number {g.integers(0, 500)} x") for _ in range(count)]
        self.users = USER_NUMBERS[zipf(g, len(USER_NUMBERS), count)].tolist()

    def ask(self, view: View, n: int) -> None:
        """Everything that one ranking reads."""
        items = self.items[n]
        history = view.history(self.users[n])
        view.query_items(self.queries[n], 100)
        view.query_item_counts(self.queries[n], items)
        view.item_counts(items)
        view.co_counts(history.item[:5], items)
        view.popular(100)


def state_costs(values: list[bytes], frame_events: int) -> dict[str, float]:
    """Memory, digest, snapshot, index and reads of the state after all frames."""
    state = State()
    frames: list[Columns] = []
    decode_all(values, frame_events, frames)
    fold_together(Fold(state), frames)
    found: dict[str, float] = {"retained_events": state.retained_events(), "buckets": len(state.units)}
    found["state_mb_per_million"] = state.nbytes() / state.retained_events()
    found["digest_ms"] = 1e3 * timed(lambda: digest(state).hex())
    found["audit_ms"] = 1e3 * timed(audit, state)
    index = ReadIndex(state)
    found["index_rebuild_ms"] = 1e3 * timed(index.rebuild, AT_MS)
    found["index_mb_per_million"] = index.nbytes() / state.retained_events()
    with tempfile.TemporaryDirectory() as folder:
        found["freeze_all_ms"] = 1e3 * timed(freeze, state)
        found["snapshot_write_ms"] = 1e3 * timed(write, freeze(state), folder)
        found["snapshot_load_ms"] = 1e3 * timed(load, folder, state.parameters)
    asked = Asked(300)
    took = [1e3 * timed(asked.ask, index.read(AT_MS), n) for n in range(300)]
    found["reads_200_candidates_ms_p50"] = statistics.median(took)
    found["reads_200_candidates_ms_p99"] = statistics.quantiles(took, n=100)[98]
    found.update(read_parts(index.read(AT_MS), asked))
    return found


def read_parts(view: View, asked: Asked) -> dict[str, float]:
    """Each read by itself, the median of many."""
    items, queries, users = asked.items, asked.queries, asked.users
    parts: dict[str, Callable[[int], object]] = {
        "query_items": lambda n: view.query_items(queries[n], 100),
        "query_item_counts": lambda n: view.query_item_counts(queries[n], items[n]),
        "item_counts": lambda n: view.item_counts(items[n]),
        "co_counts_20_anchors": lambda n: view.co_counts(items[n][:20], items[n]),
        "co_items": lambda n: view.co_items(int(items[n][0]), 100),
        "popular": lambda _: view.popular(100),
        "history": lambda n: view.history(users[n]),
    }
    return {
        f"read_{name}_us": 1e6 * statistics.median(timed(work, n) for n in range(200)) for name, work in parts.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--frame", type=int, default=250, help="events a frame")
    options = parser.parse_args()
    values = list(Shop(options.events, days=DAYS).frames(options.frame))
    found = {**rates(options, values), **state_costs(values, options.frame)}
    small = list(Shop(100_000, days=DAYS).frames(25))
    found["dict_peer_mb_per_million"] = peer_memory(values[: 200_000 // options.frame], options.frame)
    found["frames_of_25_events_per_second"] = rates(argparse.Namespace(frame=25), small)["fold_events_per_second"]
    for name, value in found.items():
        print(f"{name:40} {value:>14,.2f}")
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))


if __name__ == "__main__":
    main()
