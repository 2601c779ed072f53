"""A smaller text tower that learns from a larger one what it makes of whole lists, not only which item was clicked.

Hinton et al., "Distilling the knowledge in a neural network" (2015): the loss is a mean of the teacher's shares for the
list (cross entropy) and of the click. The student starts from the teacher's item and token vectors in fewer dimensions
(the largest singular ones; an item that was never seen stays at nothing), and takes the head, which weighs the text
tower against the counters and was fitted to opinions on later searches, as it is.

Nothing is chosen on the way, so the searches that the gate judges by stay unseen.
"""

from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from models.cases import Cases
from models.errors import SourceUnreadable
from models.qhrank.batches import Changes, batch_count, training_batches
from models.qhrank.network import QHRank, Sizes
from models.qhrank.training import Weights, shortened_lists

_GRADIENT_MAX: Final = 1.0
_CASES_MIN: Final = 2


class StudentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides the student, beside its teacher and the data."""

    dim: int = 32
    layers: int = 1
    inner: int = 128
    epochs: int = 4
    rate: float = 4e-3
    soft_share: float = 0.7
    """The teacher's part of the loss; the click has the rest."""
    temperature: float = 1.0
    batch: int = 256
    list_length: int = 96
    dropout: float = 0.1
    weight_decay: float = 0.01
    changes: Changes = Changes()
    seed: int = 7
    threads: int = 1


def taught(
    teacher: QHRank,
    train: Cases,
    settings: StudentSettings,
    on_step: Callable[[int, int], None] = lambda *_: None,
) -> tuple[Weights, Sizes]:
    """Teach a student on the searches with a click. The same arguments give the same weights.

    Raises SourceUnreadable when there is too little to learn from. `on_step` gets the steps done, and of how many.
    """
    train = train.take(train.clicked >= 0)
    if len(train) < _CASES_MIN:
        raise SourceUnreadable(f"{len(train)} searches with a click on a candidate are too few to teach a student by")
    torch.set_num_threads(settings.threads)
    train = shortened_lists(train, settings.list_length, settings.seed)
    student, teacher = fresh(teacher, settings), teacher.eval()
    parameters = list(student.text.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=settings.weight_decay)
    steps = batch_count(len(train), settings.batch) * settings.epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, total_steps=steps, pct_start=0.15)
    done = 0
    student.train()
    for epoch in range(settings.epochs):
        chance = np.random.SeedSequence((settings.seed, epoch))
        torch.manual_seed(int(chance.generate_state(1)[0]))
        rng = np.random.Generator(np.random.PCG64(chance))
        for _, inputs, clicked in training_batches(train, settings.batch, settings.changes, rng):
            with torch.no_grad():
                wanted = torch.softmax(teacher.text_scores(inputs) / settings.temperature, dim=-1)
            scores = student.text_scores(inputs)
            soft = functional.cross_entropy(scores / settings.temperature, wanted) * settings.temperature**2
            loss = settings.soft_share * soft + (1 - settings.soft_share) * functional.cross_entropy(scores, clicked)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, _GRADIENT_MAX)
            optimizer.step()
            schedule.step()
            done += 1
            on_step(done, steps)
    return {name: tensor.numpy() for name, tensor in student.state_dict().items()}, student.sizes


def fresh(teacher: QHRank, settings: StudentSettings) -> QHRank:
    """The student as teaching starts from it."""
    torch.manual_seed(settings.seed)
    sizes = msgspec.structs.replace(teacher.sizes, dim=settings.dim, layers=settings.layers, inner=settings.inner)
    student = QHRank(sizes, settings.dropout)
    known = teacher.state_dict()
    state = student.state_dict()
    state.update({name: tensor.clone() for name, tensor in known.items() if not name.startswith("text.")})
    for name in ("text.items.weight", "text.tokens.weight"):
        state[name] = torch.from_numpy(narrowed(known[name].numpy(), settings.dim))
    for name in ("text.item_bias.weight", "text.log_scale"):
        state[name] = known[name].clone()
    student.load_state_dict(state)
    return student


def narrowed(table: npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
    """Vectors (n, d) in `dim` <= d dimensions, along the directions in which they differ most; zeros stay zeros."""
    if dim >= table.shape[1]:
        wide = np.zeros((len(table), dim), np.float32)
        wide[:, : table.shape[1]] = table
        return wide
    _, directions = np.linalg.eigh(table.T.astype(np.float64) @ table)
    return np.asarray(table @ directions[:, ::-1][:, :dim], np.float32)
