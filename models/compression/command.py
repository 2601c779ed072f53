"""Compressing a version from end to end: walk the log, make each step's candidates, judge, prove, write.

The searches that the gate judges by come after those that the steps learn from, and never from the last tenth of the
log, which is for the final evaluation. A parent that learned from them knows their answers by heart, and a fall would
not show: that is refused too, unless it is asked for.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.cases import Cases, collect_cases
from models.code_version import code_version
from models.compression.gate import Limits, Scored, Verdict, judge
from models.compression.graphs import Pace, opened, paces, scored
from models.compression.steps import STEPS, Candidate, candidates
from models.errors import GoldenMismatch, ModelError, SourceUnreadable
from models.export import OUTPUT, triton_config
from models.frontier import rows_frontier
from models.records import Source
from models.registry import (
    GOLDEN_FILE,
    METRICS_FILE,
    MODEL_FILE,
    SCORE_TOLERANCE,
    TOP,
    About,
    Golden,
    ModelVersion,
    golden_bytes,
    load_version,
    top_places,
    versions,
    write_version,
)

HELD_OUT: Final = (0.8, 0.9)
"""Which part of the rows, in time, the gate judges by."""
LEARNED_MAX: Final = 40_000
"""Searches that the steps learn from, the newest."""
WEIGHTS_FILE: Final = "weights.npz"
_GOLDEN_ROWS_MIN: Final = 40
_TIE: Final = 4 * SCORE_TOLERANCE
_OUT_OF_REACH: Final = -6e4
"""No candidate scores as low; padding does, in fp16 too."""


class CompressionRun(msgspec.Struct, frozen=True, kw_only=True):
    """What to compress, how, and where to."""

    folder: Path
    """Of the version that the chain begins with."""
    repository: Path
    steps: tuple[str, ...] = STEPS
    held_out: tuple[float, float] = HELD_OUT
    limits: Limits = Limits()
    seed: int = 7
    keep_refused: Path | None = None
    """A repository for what the gate refuses."""
    seen_rows: bool = False
    """Judge even by rows that the version learned from."""
    cases: Path | None = None
    """File of the walked log: read when it is there, written when it is not."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of a step, or the version that it all began with."""

    step: str
    way: str
    parent: str
    version: str
    """Its label; empty when nothing was written into the repository."""
    folder: str
    bytes: int
    paces: list[Pace]
    verdict: Verdict
    refused: str
    """By the gate, or by the proof that a worker asks for; empty: it may serve."""


class Compressed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    first: str
    sha256: str
    trained_on: str
    learned_rows: tuple[int, int]
    held_out_rows: tuple[int, int]
    held_out_seen: bool
    """Whether the version learned from rows that it is judged by."""
    lines: list[Line]
    refused_steps: list[str]
    """Steps of which no candidate passed."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is asked of the process that this runs in."""

    prove: Callable[[Path], None]
    """Everything that a worker checks before a version serves; raises a ModelError."""
    thread_seconds: Callable[[], float]
    """CPU time of this thread."""
    walked: Callable[[int, int], None] = lambda *_: None
    taught: Callable[[int, int], None] = lambda *_: None
    said: Callable[[str], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class _Model:
    """A version, or a candidate that was let pass, with what the next step needs of it."""

    label: str
    sha256: str
    graph: bytes
    weights: bytes
    session: Any
    scored: Scored


def compress(source: Source, run: CompressionRun, around: Surroundings) -> Compressed:
    """Run the steps in order. Raises SourceUnreadable, VersionDamaged, ExportWrong; a refusal is a result."""
    version = load_version(run.folder)
    seen, edges = _edges(source, version, run)
    cases = _cases(source, run, edges[1], around)
    learned = cases.between(max(edges[0] - LEARNED_MAX, 0), edges[0])
    held_out = cases.between(*edges)
    held_out = held_out.take(held_out.query != "")
    del cases
    if not len(learned) or not (held_out.clicked >= 0).any():
        raise SourceUnreadable(f"{source.name} is too short to learn from and to judge by; use a longer log")
    chain = _Chain(source, run, around, version, (learned, held_out), edges)
    for step in run.steps:
        chain.take(step)
    return Compressed(
        first=version.label,
        sha256=version.sha256,
        trained_on=version.manifest.trained_on,
        learned_rows=(max(edges[0] - LEARNED_MAX, 0), edges[0]),
        held_out_rows=edges,
        held_out_seen=seen,
        lines=chain.lines,
        refused_steps=chain.refused,
    )


def _edges(source: Source, version: ModelVersion, run: CompressionRun) -> tuple[bool, tuple[int, int]]:
    """Whether the version has seen the rows to judge by, and where they begin and end."""
    low, high = run.held_out
    if not 0 < low < high <= HELD_OUT[1]:
        raise SourceUnreadable(
            f"the rows to judge by, {low:g} to {high:g} of the log, must lie between 0 and {HELD_OUT[1]:g}: the rest "
            "is for the final evaluation"
        )
    count = len(source.searches)
    edges = int(low * count), int(high * count)
    manifest = version.manifest
    rows = manifest.frontier.get("rows")
    other = bool(manifest.trained_on) and manifest.trained_on != source.name
    seen = not other and (not isinstance(rows, int) or rows > edges[0])
    if seen and not run.seen_rows:
        until = f"learned from {rows} rows of it" if isinstance(rows, int) else "does not say what it learned from"
        raise SourceUnreadable(
            f"{version.label} {until}, and would be judged by rows {edges[0]} to {edges[1]}: it may know the answers "
            f"by heart. Compress one that was trained with --end {edges[0]}, or say --seen-rows"
        )
    return seen, edges


def _cases(source: Source, run: CompressionRun, end: int, around: Surroundings) -> Cases:
    if run.cases is None or not run.cases.exists():
        cases = collect_cases(source, first=max(end - 2 * LEARNED_MAX, 0), end=end, on_progress=around.walked)
        if run.cases is not None:
            cases.save(run.cases)
        return cases
    cases = Cases.load(run.cases).between(0, end)
    asked = cases.query != ""
    for place, query in zip(cases.index[asked].tolist(), cases.query[asked].tolist(), strict=True):
        if not source.searches[place].query.startswith(query):
            raise SourceUnreadable(f"{run.cases} was made of another log (row {place} differs); remove it")
    if not len(cases) or int(cases.index[-1]) != end - 1:
        raise SourceUnreadable(f"{run.cases} does not reach row {end}; remove it, it is made again")
    return cases


class _Chain:
    """The version that the next step begins with, and what was made so far."""

    def __init__(
        self,
        source: Source,
        run: CompressionRun,
        around: Surroundings,
        version: ModelVersion,
        cases: tuple[Cases, Cases],
        edges: tuple[int, int],
    ) -> None:
        self.source, self.run, self.around, self.version = source, run, around, version
        self.learned, self.held_out = cases
        self.edges = edges
        graph = version.model_path.read_bytes()
        path = version.folder / WEIGHTS_FILE
        self.current = self.first = self.model(version.label, version.sha256, Candidate("", graph, b""))
        if path.exists():
            self.current = self.first = _with_weights(self.first, path.read_bytes())
        self.lines: list[Line] = []
        self.refused: list[str] = []
        self.judge_first()

    def model(self, label: str, sha256: str, candidate: Candidate) -> _Model:
        """A graph, opened and scored."""
        session = opened(candidate.graph)
        return _Model(label, sha256, candidate.graph, candidate.weights, session, scored(session, self.held_out))

    def judge_first(self) -> None:
        """The version itself is the first line of the table."""
        first = self.first
        self.lines.append(
            Line(
                step="",
                way="as it is",
                parent="",
                version=first.label,
                folder=str(self.version.folder),
                bytes=len(first.graph),
                paces=paces(first.session, first.session, self.held_out, self.around.thread_seconds),
                verdict=judge(first.scored, first.scored, first.scored, self.held_out, self.run.limits),
                refused="",
            )
        )

    def take(self, step: str) -> None:
        """Try a step's ways until one passes; weights that pass are what the next step begins with."""
        parent = self.current
        seed, taught = self.run.seed, self.around.taught
        for candidate in candidates(step, parent.graph, parent.weights, self.learned, seed, taught):
            line, model = self.judged(step, candidate)
            self.lines.append(line)
            self.around.said(f"{step}, {candidate.way}: {line.refused or f'passed, {line.version}'}")
            if not line.refused:
                self.current = model if candidate.weights else parent
                return
        self.refused.append(step)

    def judged(self, step: str, candidate: Candidate) -> tuple[Line, _Model]:
        """Judge and prove a candidate; it is written when it passes, and else where refused ones are kept."""
        run, parent = self.run, self.current
        made = self.model("", "", candidate)
        verdict = judge(made.scored, parent.scored, self.first.scored, self.held_out, run.limits)
        took = paces(made.session, parent.session, self.held_out, self.around.thread_seconds)
        refused, repository, folder = verdict.refused, run.keep_refused, None
        try:
            files, about = self.files(step, candidate, made, verdict, took)
        except GoldenMismatch as error:
            refused, repository = refused or str(error), None
        else:
            refused = refused or self.unproven(files, about)
            repository = repository if refused else run.repository
        if repository is not None:
            folder = self.write(repository, files, about)
            written = load_version(folder)
            made = _Model(written.label, written.sha256, made.graph, made.weights, made.session, made.scored)
        line = Line(
            step=step,
            way=candidate.way,
            parent=parent.label,
            version=made.label if not refused else "",
            folder=str(folder or ""),
            bytes=len(candidate.graph),
            paces=took,
            verdict=verdict,
            refused=refused,
        )
        return line, made

    def unproven(self, files: Mapping[str, bytes], about: About) -> str:
        """Why a worker would not serve it; empty: it would."""
        with tempfile.TemporaryDirectory() as place:
            try:
                self.around.prove(self.write(Path(place), files, about))
            except ModelError as error:
                return str(error).replace(place, "")
        return ""

    def write(self, repository: Path, files: Mapping[str, bytes], about: About) -> Path:
        """As the next number there."""
        name = self.version.name
        number = max(versions(repository, name), default=self.version.version) + 1
        return write_version(repository, name, number, files, triton_config(name), about)

    def files(
        self, step: str, candidate: Candidate, made: _Model, verdict: Verdict, took: list[Pace]
    ) -> tuple[dict[str, bytes], About]:
        """Everything that a version holds but its manifest, and what goes into that."""
        facts = {
            "model": self.version.metrics.get("model", self.version.name),
            "compression": {"step": step, "way": candidate.way},
            "parent": {"version": self.current.label, "sha256": self.current.sha256},
            "first": {"version": self.version.label, "sha256": self.version.sha256},
            "judged_by": {"source": self.source.name, "rows": self.edges},
            "gate": verdict,
            "limits": self.run.limits,
            "paces": took,
            "code_version": code_version(),
            "seed": self.run.seed,
        }
        files = {
            MODEL_FILE: candidate.graph,
            GOLDEN_FILE: golden_bytes(own_golden(made.session, self.version.golden)),
            METRICS_FILE: msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n",
        }
        if candidate.weights:
            files[WEIGHTS_FILE] = candidate.weights
        return files, self.about(step, verdict)

    def about(self, step: str, verdict: Verdict) -> About:
        """What it can have learned from: what the version did, and for a student the searches it was taught by."""
        of = self.version.manifest
        trained_on, frontier = of.trained_on, of.frontier
        if step == "student" and of.trained_on != self.source.name:
            trained_on = ", then ".join(filter(None, (of.trained_on, self.source.name)))
            frontier = msgspec.to_builtins(rows_frontier(self.source, self.edges[0]))
        return About(
            trained_on=trained_on,
            frontier=frontier,
            seed=self.run.seed,
            code_version=code_version(),
            metrics={
                "gate_ndcg_at_10": verdict.ndcg_at_10,
                "gate_ndcg_at_10_change": verdict.ndcg_change.mean,
                "gate_mrr_at_5": verdict.mrr_at_5,
            },
        )


def own_golden(session: Any, golden: Golden) -> Golden:
    """The parent's golden questions with this graph's own answers; rows without a clear order are left out.

    Raises GoldenMismatch when too few are left: such a model orders nothing.
    """
    rows = len(golden.scores)
    parts = [
        session.run([OUTPUT], {name: array[at : at + 64] for name, array in golden.inputs.items()})[0]
        for at in range(0, rows, 64)
    ]
    scores: npt.NDArray[np.float32] = np.concatenate(parts)
    best = -np.sort(-scores, axis=1)[:, : TOP + 1]
    gaps = best[:, :-1] - best[:, 1:]
    clear = np.flatnonzero(((gaps > _TIE) | ((gaps == 0) & (best[:, 1:] < _OUT_OF_REACH))).all(axis=1))
    if len(clear) < min(_GOLDEN_ROWS_MIN, rows):
        raise GoldenMismatch(f"only {len(clear)} of {rows} golden rows have a clear order after compression")
    return Golden(
        {name: array[clear] for name, array in golden.inputs.items()}, scores[clear], top_places(scores[clear])
    )


def _with_weights(model: _Model, weights: bytes) -> _Model:
    return _Model(model.label, model.sha256, model.graph, weights, model.session, model.scored)


def checked_steps(words: str) -> tuple[str, ...]:
    """`student,prune,int8` as steps, each once. Raises SourceUnreadable."""
    steps = tuple(word.strip() for word in words.split(",") if word.strip())
    unknown = [step for step in steps if step not in STEPS]
    if unknown or not steps or len(set(steps)) != len(steps):
        raise SourceUnreadable(f"--steps {words!r}: name some of {', '.join(STEPS)}, each once")
    return steps
