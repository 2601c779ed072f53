"""Impressions of a real shop's recommendations with the probability under which each was shown: the `zozotown` files.

Two policies showed items at three places, `random` (uniform) and `bts` (Bernoulli Thompson sampling). Because each
row carries the true propensity, what another policy would have earned can be estimated from it without showing
anything: that, and checking the estimators of A/B tests, is what this data is for.

It is not a `Source` and cannot be trained on as one: nothing was searched for, nobody is named (user features are
hashed groups, shared by strangers, so there is no history to recommend from), and in 10,000 impressions some fifty
clicks are all there is to learn. `models.sources.open_source` says so when it is given the folder.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import xxhash

from models.errors import SourceUnreadable
from models.sources import parse_time_ms

Policy = Literal["random", "bts"]
Campaign = Literal["men", "women"]
POSITIONS: Final = 3
GROUP_COLUMNS: Final = tuple(f"user_feature_{number}" for number in range(4))
_COLUMNS: Final = ("timestamp", "item_id", "position", "click", "propensity_score", *GROUP_COLUMNS)
NO_SOURCE: Final = (
    "{folder} holds impressions with propensities, not searches: nothing was asked for and nobody is named, so there "
    "is nothing to rank and no history to recommend from. Next: read it with models.data.zozotown.open_impressions, "
    "for off-policy estimates"
)


@dataclass(frozen=True, slots=True)
class Impressions:
    """n items that were shown, one a row, in order of time."""

    policy: Policy
    campaign: Campaign
    time_ms: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    """Shape (n,): 0 to items - 1."""
    position: npt.NDArray[np.int8]
    """Shape (n,): 1 to 3."""
    clicked: npt.NDArray[np.bool_]
    propensity: npt.NDArray[np.float64]
    """Shape (n,): probability under which the policy showed this item at this position, in (0, 1]."""
    group: npt.NDArray[np.uint64]
    """Shape (n,): number of the user's group of features; no person."""
    items: int
    """How many items the campaign has."""

    def __len__(self) -> int:
        return len(self.item)


def is_zozotown(folder: Path) -> bool:
    """Whether a folder holds such files."""
    names = (f"{policy}_{campaign}.csv" for policy in get_args(Policy) for campaign in _campaigns())
    return any((folder / name).is_file() for name in names)


def open_impressions(folder: Path, policy: Policy, campaign: Campaign) -> Impressions:
    """Read one policy's impressions. Raises SourceUnreadable."""
    if policy not in get_args(Policy) or campaign not in _campaigns():
        raise SourceUnreadable(
            f"there are no impressions of {policy!r} for {campaign!r}; policies are {', '.join(get_args(Policy))}, "
            f"campaigns {', '.join(_campaigns())}"
        )
    items = len(_rows(folder / f"item_context_{campaign}.csv", ("item_id",)))
    path = folder / f"{policy}_{campaign}.csv"
    read = [_impression(path, line, row, items) for line, row in enumerate(_rows(path, _COLUMNS), start=2)]
    read.sort(key=lambda row: row[0])
    time_ms, item, position, clicked, propensity, group = zip(*read, strict=True)
    return Impressions(
        policy=policy,
        campaign=campaign,
        time_ms=np.array(time_ms, np.int64),
        item=np.array(item, np.int32),
        position=np.array(position, np.int8),
        clicked=np.array(clicked, np.bool_),
        propensity=np.array(propensity, np.float64),
        group=np.array(group, np.uint64),
        items=items,
    )


def _campaigns() -> tuple[str, ...]:
    return get_args(Campaign)


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise SourceUnreadable(f"{path} is missing; the zozotown format is a folder with POLICY_CAMPAIGN.csv files")
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise SourceUnreadable(f"{path} has no column {', '.join(missing)}; is it of the Open Bandit Dataset?")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceUnreadable(f"{path} cannot be read as CSV: {error}; copy it again") from error
    if not rows:
        raise SourceUnreadable(f"{path} has no rows; copy it again")
    return rows


def _impression(path: Path, line: int, row: dict[str, Any], items: int) -> tuple[int, int, int, bool, float, int]:
    try:
        time_ms, item, position = parse_time_ms(row["timestamp"]), int(row["item_id"]), int(row["position"])
        clicked, propensity = int(row["click"]), float(row["propensity_score"])
    except (TypeError, ValueError) as error:
        raise SourceUnreadable(f"{path}, line {line}: {error}; mend or remove it") from error
    checks = {
        f"item {item} is not one of the campaign's {items}": 0 <= item < items,
        f"position {position} is not 1 to {POSITIONS}": 1 <= position <= POSITIONS,
        f"click {clicked} is not 0 or 1": clicked in (0, 1),
        f"propensity {propensity} is not in (0, 1]": 0 < propensity <= 1,
    }
    wrong = "; ".join(said for said, holds in checks.items() if not holds)
    if wrong:
        raise SourceUnreadable(f"{path}, line {line}: {wrong}; mend or remove it")
    group = xxhash.xxh3_64_intdigest("/".join(str(row[name]) for name in GROUP_COLUMNS).encode())
    return time_ms, item, position, bool(clicked), propensity, group
