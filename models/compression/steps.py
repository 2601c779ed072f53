"""What each step makes of a model: candidates, the boldest first; the first that the gate lets pass is taken."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.cases import Cases
from models.compression.graphs import CALIBRATION_ROWS, halved, in_eight_bits
from models.errors import SourceUnreadable

STEPS: Final = ("student", "prune", "int8", "fp16")
"""The first two make weights that later steps go on from; the last two make graphs that nothing is made from."""
SHARES_KEPT: Final = (0.25, 0.5, 0.75)
"""Of the hidden units, when pruning."""
EIGHT_BIT_WAYS: Final = ("dynamic", "calibrated", "tables")
_WEIGHTS_FILE: Final = "weights.npz"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A graph that may become a version."""

    way: str
    graph: bytes
    weights: bytes = b""
    """Of QHRank, for whoever goes on from it; empty when the graph has none of its own."""


def candidates(
    step: str, graph: bytes, weights: bytes, learned: Cases, seed: int, on_step: Callable[[int, int], None]
) -> Iterator[Candidate]:
    """Every way of a step, made when it is asked for. Raises SourceUnreadable, ExportWrong."""
    if step in ("student", "prune"):
        if not weights:
            raise SourceUnreadable(
                f"the step {step} needs {_WEIGHTS_FILE} beside the graph, and the version has none: only a version of "
                "QHRank can be taught from or pruned; name int8 or fp16 alone"
            )
        yield from _smaller(step, weights, learned, seed, on_step)
    elif step == "int8":
        sample = learned.take(np.linspace(0, len(learned) - 1, CALIBRATION_ROWS).astype(np.int64))
        for way in EIGHT_BIT_WAYS:
            yield Candidate(way, in_eight_bits(graph, way, sample))
    else:
        yield Candidate("whole graph", halved(graph, tables_only=False))
        yield Candidate("tables", halved(graph, tables_only=True))


def _smaller(
    step: str, weights: bytes, learned: Cases, seed: int, on_step: Callable[[int, int], None]
) -> Iterator[Candidate]:
    from models.compression.pruning import pruned
    from models.compression.student import StudentSettings, taught
    from models.qhrank.exporting import check_graph, graph_bytes, read_weights, weights_bytes
    from models.qhrank.training import network_of

    known, sizes = read_weights(weights)

    def candidate(way: str, made: tuple[Any, Any]) -> Candidate:
        model = network_of(*made)
        graph = graph_bytes(model, learned.tensors(np.arange(2) % len(learned)))
        check_graph(graph, model, learned)
        return Candidate(way, graph, weights_bytes(*made))

    if step == "student":
        settings = StudentSettings(seed=seed)
        way = f"{settings.dim} wide, {settings.layers} deep"
        yield candidate(way, taught(network_of(known, sizes), learned, settings, on_step))
        return
    for share in SHARES_KEPT:
        yield candidate(f"{share:.0%} of the units", pruned(known, sizes, share))
