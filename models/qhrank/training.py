"""Fitting QHRank in three stages: the text tower, then the head that weighs it, then the text tower again.

A text tower knows the clicks it was fitted to by heart. A head fitted to the same clicks would learn to believe it, and
be wrong on the next day's: fitted together, QHRank ranked worse than the counters alone. So the text tower is fitted to
the earlier part of the time, the head to all of it with the tower's opinion withheld wherever the tower has seen the
answer, and what the head learns is how far to trust an opinion on searches that came later, as it will when it serves.
In a part of the lists the counters are taken out as well, so that the same weights rank with and without them. Last,
the text tower is fitted anew up to the end of the time, held-out cases included, for as many epochs as were best: shops
change, and the newest clicks say the most.

All chance of an epoch comes from the seed, the stage and the epoch's number, and a checkpoint is written between
epochs: a run that was killed and resumed gives the weights of one that was not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.cases import Cases
from models.encode import FEATURE
from models.errors import CheckpointUnfit, SourceUnreadable
from models.qhrank.batches import Changes, Inputs, batch_count, training_batches
from models.qhrank.checkpoint import Checkpoint, mark_of, read_checkpoint, write_checkpoint
from models.qhrank.judging import Judged, judge, text_scores
from models.qhrank.network import QHRank, Sizes, no_opinion, opinion_of

Weights = Mapping[str, npt.NDArray[Any]]
Loss = Callable[[npt.NDArray[np.int64], Inputs, torch.Tensor], torch.Tensor]
TEXT, HEAD, AGAIN = "text tower", "head", "text tower, up to the end"
STAGES: Final = (TEXT, HEAD, AGAIN)
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
    text_epochs: int = 5
    head_epochs: int = 4
    batch: int = 256
    list_length: int = 96
    """Candidates of each case that are learned from: the strongest and, a third of them, any others."""
    text_rate: float = 2e-3
    """The highest learning rate: it rises for the first `warm_up_share` of the steps and falls to nothing after."""
    head_rate: float = 3e-3
    warm_up_share: float = 0.15
    weight_decay: float = 0.01
    dropout: float = 0.2
    text_share: float = 0.85
    """Of the cases to learn from, in time: what the text tower is fitted to before the head is."""
    up_to_end: bool = True
    """Whether the text tower is fitted again, to the held-out cases as well."""
    changes: Changes = Changes()
    patience: int = 2
    """Epochs of a stage without a better one after which it ends."""
    threads: int = 2


class Progress(msgspec.Struct, frozen=True):
    """Where training is: told after every step, and with figures after every epoch of the head."""

    stage: str
    epoch: int
    """From 1, through all stages."""
    epochs: int
    """Of all stages, if none ends early."""
    step: int
    steps: int
    loss: float
    """Mean over the epoch's steps so far."""
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """The weights, and how they came about."""

    weights: Weights
    sizes: Sizes
    judged: Judged
    """On the held-out cases, before the text tower was fitted to them as well."""
    epoch: int
    """Which epoch of the head was the best, from 1; 0 when its start was."""
    epochs: int
    """Of the head that were run."""
    text_epoch: int
    """Which epoch of the text tower was the best, and how many it was fitted for again."""


@dataclass(frozen=True, slots=True)
class _Stage:
    name: str
    cases: Cases
    parameters: list[Any]
    epochs: int
    rate: float
    loss: Loss
    judge: Callable[[], tuple[float, Judged | None]]
    """How good the network is now (the higher, the better), with figures if there are any."""


def fit(
    train: Cases,
    held_out: Cases,
    settings: TrainingSettings,
    *,
    resume: Path | None = None,
    base: Weights | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Trained:
    """Fit to `train`, choose on `held_out`. The same arguments give the same weights. Both must be in order of time.

    `resume` names a checkpoint: it is gone on from when it is there, and written after every epoch. `base` are weights
    of the same sizes to go on from (fine-tuning). Raises CheckpointUnfit when the checkpoint is of another training,
    SourceUnreadable when there is nothing to learn from or to judge by.
    """
    _check(train, held_out, settings)
    torch.set_num_threads(settings.threads)
    mark = mark_of((train, held_out), settings, base or {})
    train = shortened_lists(train.take(train.clicked >= 0), settings.list_length, settings.seed)
    fitting = _Fitting(train, held_out, settings, base, on_progress)
    if resume is None:
        return fitting.run(lambda: None)
    if resume.exists():
        fitting.state = read_checkpoint(resume, mark)
        fitting.model.load_state_dict(fitting.state.model)
    return fitting.run(lambda: write_checkpoint(resume, fitting.state, mark))


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
    hits = np.flatnonzero(cases.clicked >= 0)
    order_by[hits, cases.clicked[hits]] = np.inf
    order = np.argsort(-order_by, axis=1, kind="stable")
    strong = length - int(length * _RANDOM_SHARE)
    others = rng.permuted(order[:, strong:], axis=1)[:, : length - strong]
    return cases.with_candidates(np.concatenate([order[:, :strong], others], axis=1))


def _check(train: Cases, held_out: Cases, settings: TrainingSettings) -> None:
    """There must be something for every stage."""
    clicks = train.clicked >= 0
    enough = 2 <= int(clicks.sum() * settings.text_share) < int(clicks.sum())
    for name, fits in (("to learn from", enough), ("held out", bool((held_out.clicked >= 0).any()))):
        if not fits:
            raise SourceUnreadable(
                f"among the {len(train)} and {len(held_out)} searches there are too few {name} with a click on a "
                "candidate; use a longer log, or a catalogue that holds the clicked items"
            )


def _copied(model: QHRank) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class _Fitting:
    """One training, wherever it stands."""

    def __init__(
        self,
        train: Cases,
        held_out: Cases,
        settings: TrainingSettings,
        base: Weights | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.train = train
        self.held_out = held_out
        self.settings = settings
        self.base = base
        self.on_progress = on_progress
        self.early = int(len(train) * settings.text_share)
        self.model = self.fresh()
        self.state = Checkpoint(_copied(self.model), _copied(self.model))

    def fresh(self) -> QHRank:
        """The network as training starts from it; the same every time."""
        torch.manual_seed(self.settings.seed)
        model = QHRank(self.settings.sizes, self.settings.dropout)
        if self.base is not None:
            model.load_state_dict(network_of(self.base, self.settings.sizes).state_dict())
        else:
            sample = self.train.candidate_feats[self.train.candidate_items != 0][::_SAMPLE_EVERY].astype(np.float32)
            model.standardise(sample.mean(axis=0), sample.std(axis=0) + np.float32(_SPREAD_MIN))
        return model

    def run(self, keep: Callable[[], None]) -> Trained:
        """Go through the stages that are left; `keep` is called after every epoch."""
        state = self.state
        while state.stage < len(STAGES):
            name = STAGES[state.stage]
            self.run_stage(self.stage(name), keep)
            self.model.load_state_dict(state.best)
            if name == TEXT:
                state.text_epoch = state.best_epoch
            elif name == HEAD:
                state.head_epoch, state.head_epochs = state.best_epoch, state.done
            state.stage += 1
            state.done = state.stale = state.best_epoch = 0
            state.optimizer, state.schedule = {}, {}
        judged = msgspec.json.decode(state.judged, type=Judged)
        weights = {name: tensor.numpy() for name, tensor in state.best.items()}
        return Trained(weights, self.settings.sizes, judged, state.head_epoch, state.head_epochs, state.text_epoch)

    def stage(self, name: str) -> "_Stage":
        """What a stage fits, to what, and how it is judged."""
        settings, model = self.settings, self.model
        text = list(model.text.parameters())
        if name == TEXT:
            early, late = self.train.take(slice(0, self.early)), self.train.take(slice(self.early, None))
            return _Stage(
                name,
                early,
                text,
                settings.text_epochs,
                settings.text_rate,
                self.text_loss,
                lambda: (-judge(model, late).text_alone.loss, None),
            )
        if name == HEAD:
            head = model.head_parameters()
            return _Stage(
                name, self.train, head, settings.head_epochs, settings.head_rate, self.head_loss(), self.judge_head
            )
        if settings.up_to_end and not self.state.done:
            model.text.load_state_dict(self.fresh().text.state_dict())
        to_end = shortened_lists(self.held_out.take(self.held_out.clicked >= 0), settings.list_length, settings.seed)
        everything = Cases.concatenate([self.train, to_end])
        return _Stage(
            name,
            everything,
            text,
            self.state.text_epoch if settings.up_to_end else 0,
            settings.text_rate,
            self.text_loss,
            lambda: (float(self.state.done), None),  # there is nothing left to judge by: the last epoch is taken
        )

    def run_stage(self, stage: _Stage, keep: Callable[[], None]) -> None:
        """Fit until the last epoch, or until no better one came for a while; the state holds the best one."""
        state, settings = self.state, self.settings
        steps = batch_count(len(stage.cases), settings.batch)
        optimizer, schedule = _optimizer(stage, settings, steps)
        if state.optimizer:
            optimizer.load_state_dict(state.optimizer)
            schedule.load_state_dict(state.schedule)
        else:
            state.best = _copied(self.model)
            self.take_if_better(stage, first=True)
        while state.done < stage.epochs and state.stale < settings.patience:
            loss = self.epoch(stage, optimizer, schedule, steps)
            state.done += 1
            judged = self.take_if_better(stage)
            state.model = _copied(self.model)
            state.optimizer, state.schedule = optimizer.state_dict(), schedule.state_dict()
            keep()
            self.on_progress(self.progress(stage, state.done, steps, steps, loss, judged))

    def take_if_better(self, stage: _Stage, *, first: bool = False) -> Judged | None:
        """Judge the network as it is now, and remember it when none was better. NaN is never better."""
        state = self.state
        merit, judged = stage.judge()
        if first or merit > state.best_merit:
            state.best, state.best_merit, state.best_epoch, state.stale = _copied(self.model), merit, state.done, 0
            if judged is not None:
                state.judged = msgspec.json.encode(judged).decode()
        else:
            state.stale += 1
        return judged

    def epoch(self, stage: _Stage, optimizer: Any, schedule: Any, steps: int) -> float:
        """One pass over the stage's cases; returns the mean loss."""
        chance = np.random.SeedSequence((self.settings.seed, self.state.stage, self.state.done))
        torch.manual_seed(int(chance.generate_state(1)[0]))
        rng = np.random.Generator(np.random.PCG64(chance))
        self.model.train()
        total = 0.0
        batches = training_batches(stage.cases, self.settings.batch, self.settings.changes, rng)
        for step, (rows, inputs, clicked) in enumerate(batches, start=1):
            loss = stage.loss(rows, inputs, clicked)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(stage.parameters, _GRADIENT_MAX)
            optimizer.step()
            schedule.step()
            total += loss.item()
            self.on_progress(self.progress(stage, self.state.done + 1, step, steps, total / step))
        return total / max(steps, 1)

    def progress(
        self, stage: _Stage, epoch: int, step: int, steps: int, loss: float, judged: Judged | None = None
    ) -> Progress:
        """Where training is, epochs counted through all stages."""
        settings, before = self.settings, 0
        if stage.name != TEXT:
            before += settings.text_epochs
        if stage.name == AGAIN:
            before += settings.head_epochs
        again = self.state.text_epoch or settings.text_epochs
        epochs = settings.text_epochs + settings.head_epochs + again
        return Progress(stage.name, before + epoch, epochs, step, steps, loss, judged)

    def text_loss(self, _: npt.NDArray[np.int64], inputs: Inputs, clicked: torch.Tensor) -> torch.Tensor:
        """Of the text tower's own scores."""
        return functional.cross_entropy(self.model.text_scores(inputs), clicked)

    def head_loss(self) -> Loss:
        """Of both together, the text tower's opinion withheld where it was fitted to the answer."""
        late = torch.from_numpy(text_scores(self.model, self.train.take(slice(self.early, None))))

        def loss(rows: npt.NDArray[np.int64], inputs: Inputs, clicked: torch.Tensor) -> torch.Tensor:
            items = inputs["candidate_items"]
            unseen = torch.from_numpy(rows >= self.early)
            text = late[torch.from_numpy(np.maximum(rows - self.early, 0))]
            opinion = torch.where(unseen[:, None], opinion_of(text), no_opinion(items))
            return functional.cross_entropy(self.model.joined(opinion, inputs["candidate_feats"], items), clicked)

        return loss

    def judge_head(self) -> tuple[float, Judged | None]:
        """On the held-out cases."""
        judged = judge(self.model, self.held_out)
        return judged.merit, judged


def _optimizer(stage: _Stage, settings: TrainingSettings, steps: int) -> tuple[Any, Any]:
    decayed = [parameter for parameter in stage.parameters if parameter.ndim >= 2]
    others = [parameter for parameter in stage.parameters if parameter.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=stage.rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, stage.rate, total_steps=max(steps * stage.epochs, 1), pct_start=settings.warm_up_share
    )
    return optimizer, schedule
