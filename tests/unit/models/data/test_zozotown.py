"""Impressions with propensities: read as they are, refused where something cannot be true."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.data.zozotown import open_impressions
from models.errors import SourceUnreadable
from models.sources import open_source

HEADER = "timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3"
REAL = Path(__file__).parents[5] / "shared/data/zozotown"


def folder_of(tmp_path: Path, *rows: str, header: str = HEADER) -> Path:
    """Two items, and impressions of the uniform policy."""
    (tmp_path / "item_context_men.csv").write_text("item_id,item_feature_0\n0,0.5\n1,0.7\n")
    (tmp_path / "random_men.csv").write_text("\n".join((header, *rows)) + "\n")
    return tmp_path


def test_impressions_are_read_in_order_of_time(tmp_path: Path) -> None:
    """Times in ms, propensities as they stand, users as groups only."""
    later = "2019-11-24 00:00:02+00:00,1,3,1,0.25,a,b,c,d"
    first = "2019-11-24 00:00:01.5+00:00,0,1,0,0.5,a,b,c,e"
    found = open_impressions(folder_of(tmp_path, later, first), "random", "men")
    assert np.diff(found.time_ms).tolist() == [500]
    assert (found.item.tolist(), found.position.tolist(), found.clicked.tolist()) == ([0, 1], [1, 3], [False, True])
    assert (found.propensity.tolist(), found.items, len(found)) == ([0.5, 0.25], 2, 2)
    assert found.group[0] != found.group[1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("2019-11-24,2,1,0,0.5,a,b,c,d", "line 2: item 2 is not one of the campaign's 2"),
        ("2019-11-24,0,4,0,0.5,a,b,c,d", "position 4 is not 1 to 3"),
        ("2019-11-24,0,1,2,0.5,a,b,c,d", "click 2 is not 0 or 1"),
        ("2019-11-24,0,1,0,0,a,b,c,d", r"propensity 0.0 is not in \(0, 1\]"),
        ("2019-11-24,0,1,0,nan,a,b,c,d", "propensity nan"),
        ("yesterday,0,1,0,0.5,a,b,c,d", "line 2: "),
        ("2019-11-24,,1,0,0.5,a,b,c,d", "line 2: "),
    ],
)
def test_what_cannot_be_true_is_refused(tmp_path: Path, row: str, said: str) -> None:
    """By file and line: a wrong propensity would make every estimate wrong without a word."""
    with pytest.raises(SourceUnreadable, match=said):
        open_impressions(folder_of(tmp_path, row), "random", "men")


def test_missing_files_columns_and_rows_are_refused(tmp_path: Path) -> None:
    """Each by name."""
    with pytest.raises(SourceUnreadable, match=r"random_men.csv has no rows"):
        open_impressions(folder_of(tmp_path), "random", "men")
    with pytest.raises(SourceUnreadable, match=r"bts_men.csv is missing"):
        open_impressions(tmp_path, "bts", "men")
    with pytest.raises(SourceUnreadable, match="no column propensity_score"):
        open_impressions(folder_of(tmp_path, header=HEADER.replace("propensity_score", "p")), "random", "men")


def test_the_folder_is_no_log_of_searches(tmp_path: Path) -> None:
    """Opening it as one says what it is good for instead."""
    with pytest.raises(SourceUnreadable, match=r"propensities, not searches.*open_impressions"):
        open_source(folder_of(tmp_path, "2019-11-24,0,1,0,0.5,a,b,c,d"))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there: the real impressions are not checked")
def test_the_real_files_are_read_whole() -> None:
    """10,000 of each policy; the uniform one shows each of 34 items with the same probability."""
    uniform = open_impressions(REAL, "random", "men")
    assert (len(uniform), uniform.items) == (10_000, 34)
    assert np.allclose(uniform.propensity, 1 / 34)
    assert 0 < open_impressions(REAL, "bts", "women").clicked.sum() < 200
