"""Fitting QHRank: a softmax over each list's candidates, with a text tower that must also stand alone.

Every list is seen as it was when it was asked, counters included; in a part of them the counters are taken out, so
that the same weights rank with and without them. A second loss on the text tower's scores alone keeps it learning
where the counters already know the answer, which is nearly everywhere.

All chance of an epoch comes from the seed and the epoch's number, and a checkpoint is written between epochs: a run
that was killed and resumed gives the weights of one that was not. The weights are those of the epoch that did best on
the held-out cases.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch.nn import functional

from models.cases import Cases
from models.encode import FEATURE
from models.errors import CheckpointUnfit, SourceUnreadable
from models.qhrank.batches import Changes, batch_count, training_batches
from models.qhrank.judging import Judged, judge
from models.qhrank.network import QHRank, Sizes

Weights = Mapping[str, npt.NDArray[Any]]
_GRADIENT_MAX: Final = 1.0
_SPREAD_MIN: Final = 0.05
"""A feature that hardly varies in one shop must not be blown up in another."""
_SAMPLE_EVERY: Final = 7
"""Of the candidates, for means and spreads of the features."""
_RANDOM_SHARE: Final = 1 / 3


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the weights, beside the data and the number of threads."""

    seed: int = 7
    sizes: Sizes = Sizes()
    epochs: int = 12
    batch: int = 256
    list_length: int = 96
    """Candidates of each case that are learned from: the strongest and, a third of them, any others."""
    learning_rate: float = 2e-3
    """The highest; it rises for the first `warm_up_share` of the steps and falls to nothing at the end."""
    warm_up_share: float = 0.15
    weight_decay: float = 0.01
    dropout: float = 0.2
    text_loss: float = 0.5
    """Weight of the text tower's own loss."""
    changes: Changes = Changes()
    patience: int = 4
    """Epochs without a better one after which training ends."""
    threads: int = 2


class Progress(msgspec.Struct, frozen=True):
    """Where training is: after every step, and with figures after every epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    """Mean over the epoch's steps so far."""
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights of the best epoch, and how they came about."""

    weights: Weights
    sizes: Sizes
    judged: Judged
    """On the held-out cases."""
    epoch: int
    """Which was the best, from 1; 0 when the weights that training started from were."""
    epochs: int
    """That were run."""


@dataclass(slots=True)
class _Run:
    """Everything that changes while training goes on."""

    model: QHRank
    optimizer: Any
    schedule: Any
    best: Trained
    done: int = 0
    stale: int = field(default=0)


def fit(
    train: Cases,
    held_out: Cases,
    settings: TrainingSettings,
    *,
    resume: Path | None = None,
    base: Weights | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Fit to `train` and keep the weights that were best on `held_out`. The same arguments give the same weights.

    `resume` names a checkpoint: it is gone on from when it is there, and written after every epoch. `base` are weights
    of the same sizes to go on from (fine-tuning). Raises CheckpointUnfit when the checkpoint is of another training,
    SourceUnreadable when there is nothing to learn from or to judge by.
    """
    _check(train, held_out)
    torch.set_num_threads(settings.threads)
    train = shortened_lists(train.take(train.clicked >= 0), settings.list_length, settings.seed)
    steps = batch_count(len(train), settings.batch)
    run = _start(train, held_out, settings, base, steps * settings.epochs)
    mark = _mark(train, held_out, settings, base)
    if resume is not None and resume.exists():
        _read_checkpoint(resume, run, mark)
    while run.done < settings.epochs and run.stale < settings.patience:
        loss = _epoch(run, train, settings, steps, on_progress)
        run.done += 1
        judged = judge(run.model, held_out)
        better = judged.merit > run.best.judged.merit
        run.stale = 0 if better else run.stale + 1
        if better:
            run.best = Trained(_weights_of(run.model), settings.sizes, judged, run.done, run.done)
        if resume is not None:
            _write_checkpoint(resume, run, mark)
        on_progress(Progress(run.done, settings.epochs, steps, steps, loss, judged))
    return Trained(run.best.weights, settings.sizes, run.best.judged, run.best.epoch, run.done)


def network_of(weights: Weights, sizes: Sizes) -> QHRank:
    """The network with these weights, for scoring. Raises CheckpointUnfit when they are of another shape."""
    model = QHRank(sizes)
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    except RuntimeError as error:
        raise CheckpointUnfit(f"the weights do not fit a network of {sizes}: {error}; name their own sizes") from error
    model.eval()
    return model


def shortened_lists(cases: Cases, length: int, seed: int) -> Cases:
    """Each case with `length` of its candidates: the clicked one, those that the counters put first, some others."""
    if cases.width <= length:
        return cases
    rng = np.random.Generator(np.random.PCG64((seed, 1)))
    order_by = cases.candidate_feats[:, :, FEATURE["blend"]] + (cases.candidate_items != 0).astype(np.float32)
    order_by[np.arange(len(cases)), np.maximum(cases.clicked, 0)] += 2.0 * (cases.clicked >= 0)
    order = np.argsort(-order_by, axis=1, kind="stable")
    strong = length - int(length * _RANDOM_SHARE)
    others = rng.permuted(order[:, strong:], axis=1)[:, : length - strong]
    return cases.with_candidates(np.concatenate([order[:, :strong], others], axis=1))


def _check(train: Cases, held_out: Cases) -> None:
    for name, cases in (("to learn from", train), ("held out", held_out)):
        if not (cases.clicked >= 0).any():
            raise SourceUnreadable(
                f"of {len(cases)} searches {name} none has a click on a candidate; use a longer log, or a catalogue "
                "that holds the clicked items"
            )


def _start(train: Cases, held_out: Cases, settings: TrainingSettings, base: Weights | None, steps: int) -> _Run:
    torch.manual_seed(settings.seed)
    model = QHRank(settings.sizes, settings.dropout)
    if base is not None:
        model.load_state_dict(network_of(base, settings.sizes).state_dict())
    else:
        sample = train.candidate_feats[train.candidate_items != 0][::_SAMPLE_EVERY].astype(np.float32)
        model.standardise(sample.mean(axis=0), sample.std(axis=0) + np.float32(_SPREAD_MIN))
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=settings.warm_up_share
    )
    best = Trained(_weights_of(model), settings.sizes, judge(model, held_out), 0, 0)
    return _Run(model, optimizer, schedule, best)


def _epoch(
    run: _Run, train: Cases, settings: TrainingSettings, steps: int, on_progress: Callable[[Progress], None]
) -> float:
    """One pass over the cases; returns the mean loss."""
    chance = np.random.SeedSequence((settings.seed, 2, run.done))
    torch.manual_seed(int(chance.generate_state(1)[0]))
    rng = np.random.Generator(np.random.PCG64(chance))
    run.model.train()
    total = 0.0
    batches = training_batches(train, settings.batch, settings.changes, rng)
    for step, (inputs, clicked) in enumerate(batches, start=1):
        text = run.model.text_scores(inputs)
        both = run.model.joined(text, inputs["candidate_feats"], inputs["candidate_items"])
        loss = functional.cross_entropy(both, clicked) + settings.text_loss * functional.cross_entropy(text, clicked)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), _GRADIENT_MAX)
        run.optimizer.step()
        run.schedule.step()
        total += loss.item()
        on_progress(Progress(run.done + 1, settings.epochs, step, steps, total / step))
    return total / max(steps, 1)


def _weights_of(model: QHRank) -> dict[str, npt.NDArray[Any]]:
    return {name: tensor.detach().numpy().copy() for name, tensor in model.state_dict().items()}


def _mark(train: Cases, held_out: Cases, settings: TrainingSettings, base: Weights | None) -> str:
    """Names a training by all that decides its outcome."""
    digest = xxhash.xxh3_128(msgspec.json.encode(settings))
    for cases in (train, held_out):
        for array in (cases.candidate_items, cases.candidate_feats, cases.clicked, cases.query_tokens):
            digest.update(np.ascontiguousarray(array).data)
    for name, array in sorted((base or {}).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write_checkpoint(path: Path, run: _Run, mark: str) -> None:
    """Whole or not at all: a kill at any moment leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    best = {name: torch.from_numpy(array) for name, array in run.best.weights.items()}
    with half.open("wb") as sink:
        torch.save(
            {
                "mark": mark,
                "done": run.done,
                "stale": run.stale,
                "model": run.model.state_dict(),
                "optimizer": run.optimizer.state_dict(),
                "schedule": run.schedule.state_dict(),
                "best": best,
                "best_epoch": run.best.epoch,
                "best_judged": msgspec.json.encode(run.best.judged).decode(),
            },
            sink,
        )
        sink.flush()
        os.fsync(sink.fileno())
    half.replace(path)


def _read_checkpoint(path: Path, run: _Run, mark: str) -> None:
    try:
        held = torch.load(path, weights_only=True)
    except Exception as error:  # torch raises pickle's, zipfile's and its own errors alike
        raise CheckpointUnfit(f"{path} is no checkpoint ({error}); remove it to train from the start") from error
    if held["mark"] != mark:
        raise CheckpointUnfit(
            f"{path} is of a training with other data or settings; name another file, or remove it to start anew"
        )
    run.done, run.stale = held["done"], held["stale"]
    run.model.load_state_dict(held["model"])
    run.optimizer.load_state_dict(held["optimizer"])
    run.schedule.load_state_dict(held["schedule"])
    weights = {name: tensor.numpy().copy() for name, tensor in held["best"].items()}
    judged = msgspec.json.decode(held["best_judged"], type=Judged)
    run.best = Trained(weights, run.best.sizes, judged, held["best_epoch"], run.done)
