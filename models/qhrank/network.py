"""The network: what the query and the history say about the items, added to what the counters say.

Two towers that meet late. The text tower reads hashed words and trigrams and the user's last items with a small
transformer and gives each candidate a score by its own vector; it knows only what it was trained on. The feature tower
looks at the counters, which know what happened since. It starts as the streaming counters' own order (`blend_log`) and
learns where to part from it, with the text tower's opinion as one more feature, so that it can weigh the two by how
well the query is known.

An item that was never trained on has a zero vector, not a random one, and cosine similarity is damped for short
vectors: the text tower then has no opinion about it, instead of a wrong one.
"""

import math
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from models.encode import FEATURE, FEATURE_NAMES, GAP_BUCKETS, QUERY_TOKENS, TOKEN_BUCKETS
from models.export import PADDING_SCORE
from models.retrieval import HISTORY_MAX
from streams.kinds import Kind

KINDS: Final = 16
"""Kinds of events in a history, plus one for padding, with room for more."""
_SEARCHED: Final = Kind.SEARCH + 1
_FEATURES: Final = len(FEATURE_NAMES)
_CLIP: Final = 6.0
"""Standardised features are cut here: a count out of proportion must not drown everything."""
_OPINION_MIN: Final = -12.0
"""Logarithm of the smallest share that the text tower may give an item in the feature tower's eyes."""
_OPINION_SPREAD: Final = 4.0
_DAMPING: Final = 0.3
"""Vectors much shorter than this count as none."""
_TEXT_WEIGHT: Final = 0.1
"""The text tower's say at the start of training."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How large the network is."""

    dim: int = 64
    layers: int = 2
    heads: int = 2
    inner: int = 256
    item_buckets: int = 16_381
    hidden: int = 32
    """Of the feature tower."""


class Block(nn.Module):
    """Attention and two dense layers, each normalised before and added to what came in."""

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.before_attention = nn.LayerNorm(sizes.dim)
        self.project = nn.Linear(sizes.dim, 3 * sizes.dim)
        self.merge = nn.Linear(sizes.dim, sizes.dim)
        self.before_dense = nn.LayerNorm(sizes.dim)
        self.widen = nn.Linear(sizes.dim, sizes.inner)
        self.narrow = nn.Linear(sizes.inner, sizes.dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
        """State (B, T, d); `absent` (B, 1, 1, T) is a large negative number where there is nothing."""
        tokens, dim = state.shape[1], state.shape[2]
        parts = self.project(self.before_attention(state)).view(-1, tokens, 3, self.heads, dim // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax(query @ key.transpose(-1, -2) * (dim // self.heads) ** -0.5 + absent, dim=-1)
        seen = (self.dropout(weights) @ value).transpose(1, 2).reshape(-1, tokens, dim)
        state = state + self.dropout(self.merge(seen))
        dense = self.narrow(self.dropout(functional.gelu(self.widen(self.before_dense(state)))))
        return state + self.dropout(dense)


class TextTower(nn.Module):
    """Query and history against item vectors."""

    def __init__(self, sizes: Sizes, dropout: float) -> None:
        super().__init__()
        self.sizes = sizes
        dim = sizes.dim
        self.tokens = nn.Embedding(TOKEN_BUCKETS, dim, padding_idx=0)
        self.items = nn.Embedding(sizes.item_buckets + 1, dim, padding_idx=0)
        self.item_bias = nn.Embedding(sizes.item_buckets + 1, 1, padding_idx=0)
        self.kinds = nn.Embedding(KINDS, dim)
        self.gaps = nn.Embedding(GAP_BUCKETS, dim)
        self.places = nn.Parameter(torch.zeros(1 + QUERY_TOKENS + HISTORY_MAX, dim))
        self.start = nn.Parameter(torch.zeros(dim))
        self.blocks = nn.ModuleList(Block(sizes, dropout) for _ in range(sizes.layers))
        self.last = nn.LayerNorm(dim)
        self.pool = nn.Linear(dim, 1)
        self.state = nn.Linear(dim, dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(12.0)))
        self.dropout = nn.Dropout(dropout)
        for table in (self.tokens, self.kinds, self.gaps):
            nn.init.normal_(table.weight, std=dim**-0.5)
        nn.init.normal_(self.places, std=0.02)
        nn.init.normal_(self.start, std=dim**-0.5)
        for table in (self.items, self.item_bias):
            nn.init.zeros_(table.weight)
        with torch.no_grad():
            self.tokens.weight[0].zero_()

    def bucket(self, items: torch.Tensor) -> torch.Tensor:
        """Rows of the item tables; 0 for padding."""
        return torch.where(items == 0, 0, 1 + items % self.sizes.item_buckets)

    def forward(
        self,
        tokens: torch.Tensor,
        items: torch.Tensor,
        kinds: torch.Tensor,
        gaps: torch.Tensor,
        candidates: torch.Tensor,
    ) -> torch.Tensor:
        """Scores (B, K) of the candidates, whatever the counters say.

        Tokens (B, t <= 24) and history (B, h <= 20) may be cut to what is not padding: padding is never looked at.
        """
        # A search is in the history with its query's number, which is no item's.
        history = self.items(self.bucket(torch.where(kinds == _SEARCHED, 0, items)))
        typed = self.tokens(tokens.long())
        lived = history + self.kinds(kinds.long()) + self.gaps(gaps.long())
        start = self.start.expand(tokens.shape[0], 1, -1)
        ends = 1 + tokens.shape[1], 1 + QUERY_TOKENS + items.shape[1]
        places = torch.cat([self.places[: ends[0]], self.places[1 + QUERY_TOKENS : ends[1]]])
        state = self.dropout(torch.cat([start, typed, lived], dim=1) + places)
        here = torch.cat([torch.ones_like(tokens[:, :1]), tokens, kinds], dim=1) != 0
        absent = torch.where(here, 0.0, -1e4)[:, None, None, :]
        for block in self.blocks:
            state = block(state, absent)
        return self.against(self.pooled(self.last(state), history, kinds), candidates)

    def pooled(self, state: torch.Tensor, history: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """One vector (B, d) in the items' own space: what [CLS] says, and the touched items that attention picks."""
        of_history = state[:, state.shape[1] - kinds.shape[1] :]
        weights = torch.sigmoid(self.pool(of_history)) * (kinds != 0).unsqueeze(-1)
        return self.state(state[:, 0]) + (weights * history).sum(dim=1)

    def against(self, state: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Damped cosine of the state and each candidate's vector, and the candidate's bias."""
        bucket = self.bucket(candidates)
        vectors = shortened(self.items(bucket))
        cosine = (vectors @ shortened(state).unsqueeze(-1)).squeeze(-1)
        return self.log_scale.exp() * cosine + self.item_bias(bucket).squeeze(-1)


def shortened(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors at a length just under 1; those much shorter than the damping stay near 0."""
    return vectors * torch.rsqrt((vectors * vectors).sum(dim=-1, keepdim=True) + _DAMPING**2)


def opinion_of(text: torch.Tensor) -> torch.Tensor:
    """Logarithms of the shares (B, K) that the text tower's scores give the candidates of each list."""
    return torch.log_softmax(text, dim=-1).clamp(min=_OPINION_MIN)


def no_opinion(candidates: torch.Tensor) -> torch.Tensor:
    """The opinion (B, K) of a text tower that knows nothing: all candidates alike."""
    return opinion_of(torch.zeros(candidates.shape).masked_fill(candidates == 0, PADDING_SCORE))


class QHRank(nn.Module):
    """Both towers: the tensors of `models.export.INPUTS` in, scores (B, K) out."""

    def __init__(self, sizes: Sizes, dropout: float = 0.0) -> None:
        super().__init__()
        self.sizes = sizes
        self.text = TextTower(sizes, dropout)
        self.register_buffer("mean", torch.zeros(_FEATURES))
        self.register_buffer("spread", torch.ones(_FEATURES))
        self.direct = nn.Linear(_FEATURES, 1, bias=False)
        self.text_weight = nn.Parameter(torch.tensor(_TEXT_WEIGHT))
        self.hidden = nn.Linear(2 * _FEATURES + 1, sizes.hidden)
        self.deeper = nn.Linear(sizes.hidden, sizes.hidden)
        self.outer = nn.Linear(sizes.hidden, 1, bias=False)
        nn.init.zeros_(self.outer.weight)

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything but the text tower."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("text.")]

    def standardise(self, mean: npt.NDArray[np.float32], spread: npt.NDArray[np.float32]) -> None:
        """Take the features' means and spreads (F,), and start where the counters' own order is."""
        with torch.no_grad():
            self.mean.copy_(torch.from_numpy(mean))
            self.spread.copy_(torch.from_numpy(spread))
            self.direct.weight.zero_()
            self.direct.weight[0, FEATURE["blend_log"]] = float(spread[FEATURE["blend_log"]])

    def text_scores(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Scores (B, K) of the text tower alone; what is padding scores `PADDING_SCORE`."""
        candidates = inputs["candidate_items"]
        scores: torch.Tensor = self.text(
            inputs["query_tokens"], inputs["history_items"], inputs["history_types"], inputs["history_gap"], candidates
        )
        return scores.masked_fill(candidates == 0, PADDING_SCORE)

    def joined(self, opinion: torch.Tensor, features: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
        """Scores (B, K) from the text tower's opinion (B, K; see `opinion_of`) and the features (B, K, F).

        Each feature counts as it is, and by how far it is from the best of its list: ten clicks mean one thing where
        the most clicked has eleven, and another where it has a thousand.
        """
        padding = candidates == 0
        standard = ((features - self.mean) / self.spread).clamp(-_CLIP, _CLIP)
        best = standard.masked_fill(padding.unsqueeze(-1), -_CLIP).amax(dim=1, keepdim=True)
        seen = torch.cat([standard, standard - best, opinion.unsqueeze(-1) / _OPINION_SPREAD], dim=-1)
        hidden = functional.gelu(self.hidden(seen))
        bent = self.outer(functional.gelu(self.deeper(hidden)))
        both = (self.direct(standard) + bent).squeeze(-1) + self.text_weight * opinion
        return both.masked_fill(padding, PADDING_SCORE)

    def forward(
        self,
        query_tokens: torch.Tensor,
        history_items: torch.Tensor,
        history_types: torch.Tensor,
        history_gap: torch.Tensor,
        candidate_items: torch.Tensor,
        candidate_feats: torch.Tensor,
    ) -> torch.Tensor:
        """Scores (B, K), the inputs in the order of `models.export.INPUTS`."""
        inputs: dict[str, Any] = {
            "query_tokens": query_tokens,
            "history_items": history_items,
            "history_types": history_types,
            "history_gap": history_gap,
            "candidate_items": candidate_items,
            "candidate_feats": candidate_feats,
        }
        return self.joined(opinion_of(self.text_scores(inputs)), candidate_feats, candidate_items)
