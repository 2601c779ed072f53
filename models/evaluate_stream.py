"""Ranking quality on a whole log, in one process: `python -m models.evaluate_stream LOG --model FOLDER`.

Every search is ranked before its click is told, by the model, by the two lower rungs, and by the baselines that keep
their own counts of the same stream. Nothing is left out: a clicked item that is not in the catalogue, or no candidate,
counts 0 for everybody who did not rank it.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.baselines import baselines
from models.encode import Tensors, counters_score, popularity_score
from models.export import OUTPUT
from models.quality import Quality
from models.records import OutcomeRecord, SearchRecord, Source
from models.registry import compare_golden, load_version
from models.sources import open_source
from models.train import rank_in
from models.walk import Walk, steps

Scorer = Callable[[Tensors], npt.NDArray[np.float32]]
MODEL: Final = "model"


def onnx_scorer(folder: Path) -> Scorer:
    """A shipped version on ONNX Runtime, after its manifest and its golden set were checked."""
    import onnxruntime

    version = load_version(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(version.model_path), options, providers=["CPUExecutionProvider"])
    compare_golden(version.golden, session.run([OUTPUT], version.golden.inputs)[0])

    def score(tensors: Tensors) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[Any] = session.run([OUTPUT], tensors)[0][0]
        return scores

    return score


def evaluate(
    source: Source,
    scorers: dict[str, Scorer],
    *,
    end: int | None = None,
    ranked_from: int = 0,
    on_search: Callable[[int], None] = lambda _: None,
) -> dict[str, Quality]:
    """Rank the searches `ranked_from` to `end` of a source; the earlier ones are only learned from."""
    rivals = baselines()
    tallies = {name: Quality() for name in (*scorers, *(rival.name for rival in rivals))}
    walk = Walk()
    for step in steps(source, end):
        if isinstance(step, SearchRecord) and step.index >= ranked_from:
            moment = walk.ask(step)
            for name, scorer in scorers.items():
                tallies[name].add_rank(rank_in(moment, scorer(moment.tensors)))
            for rival in rivals:
                tallies[rival.name].add(rival.rank(step.query), step.clicked)
            on_search(step.index)
        elif isinstance(step, OutcomeRecord) and step.kind == "click":
            for rival in rivals:
                rival.update(step.search.query, step.search.clicked)
        walk.tell(step)
    return tallies


def table(tallies: dict[str, Quality], parts: int = 4) -> str:
    """The figures as text: whole, by part, and the first ranker's lead with its 95 % interval."""
    names = list(tallies)
    lines = [f"{'':14}{'MRR@5':>8}{'NDCG@10':>9}{'first':>8}{'in 10':>8}   MRR@5 by part"]
    for name in names:
        whole = tallies[name].figures()
        by_part = "  ".join(f"{part.mrr_at_5:.4f}" for part in tallies[name].parts(parts))
        lines.append(
            f"{name:14}{whole.mrr_at_5:8.4f}{whole.ndcg_at_10:9.4f}{whole.first_place:8.4f}"
            f"{whole.recall_at_10:8.4f}   {by_part}"
        )
    for name in names[1:]:
        gap = tallies[names[0]].compare(tallies[name])
        lines.append(
            f"{names[0]} - {name}: {gap.difference:+.4f} MRR@5, 95 % interval {gap.low:+.4f} to {gap.high:+.4f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate_stream", description="Ranking quality on a log.")
    parser.add_argument("log", type=Path, help="a folder or file that models.sources reads")
    parser.add_argument("--model", type=Path, default=Path("models/repository/ranker/1"), help="a version's folder")
    parser.add_argument("--from", type=int, default=0, dest="first", help="first search that is ranked")
    parser.add_argument("--to", type=int, default=None, dest="end", help="the search to end before")
    given = parser.parse_args(arguments)
    scorers: dict[str, Scorer] = {
        MODEL: onnx_scorer(given.model),
        "counters": counters_score,
        "popular_now": popularity_score,
    }
    tallies = evaluate(open_source(given.log), scorers, end=given.end, ranked_from=given.first)
    print(f"{len(tallies[MODEL])} searches ranked, each before its click was told")
    print(table(tallies))


if __name__ == "__main__":
    main()
