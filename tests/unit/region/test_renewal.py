"""Which log was cut, what is still to be handed on, and what happens on disk when a life ends."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.common.region_settings import RegionSettings
from services.coordination.lives import LogCut
from services.region.life import genuine_ends
from services.region.renewal import RENEW_FILE, Renewal, ask_for_renewal, begin_anew, cuts_of, describe, not_yet_held

LOG = "east-1.events"
ends = st.dictionaries(st.integers(0, 3), st.integers(0, 9), max_size=4)


def test_a_log_that_ends_before_what_a_peer_holds_was_cut() -> None:
    """The store's ends may be old: whoever knows most is believed, and named."""
    known = [("the coordination store", {LOG: {0: 5, 1: 4}}), ("west", {LOG: {0: 9, 1: 4}})]
    found = cuts_of({LOG: {0: 4, 1: 4}}, known)
    assert [(cut.partition, cut.found, cut.known_end, cut.known_by) for cut in found] == [(0, 4, 9, "west")]
    assert describe(found) == f"{LOG} partition 0 ends at 4, but west knows it up to 9"


def test_what_peers_hold_of_other_logs_is_no_cut() -> None:
    """Only this life's logs are judged."""
    assert cuts_of({LOG: {0: 4}}, [("west", {"east-2.events": {0: 7}})]) == []


@given(found=ends, one=ends, other=ends)
def test_a_log_is_whole_exactly_if_it_reaches_everything_known(
    found: dict[int, int], one: dict[int, int], other: dict[int, int]
) -> None:
    """A partition that nobody knows of is never cut, a known one is whenever it ends below."""
    cuts = cuts_of({LOG: found}, [("store", {LOG: one}), ("west", {LOG: other})])
    expected = {p for p in one.keys() | other.keys() if found.get(p, 0) < max(one.get(p, 0), other.get(p, 0))}
    assert {cut.partition for cut in cuts} == expected
    assert all(cut.found < cut.known_end for cut in cuts)


@given(genuine=ends, one=ends, other=ends)
def test_a_life_is_handed_on_exactly_when_some_peer_holds_each_part(
    genuine: dict[int, int], one: dict[int, int], other: dict[int, int]
) -> None:
    """Each partition may be with another peer; none may be with nobody."""
    missing = not_yet_held({LOG: genuine}, [{LOG: one}, {LOG: other}])
    for partition, end in genuine.items():
        left = end - max(one.get(partition, 0), other.get(partition, 0))
        assert missing.get((LOG, partition), 0) == max(0, left)


def test_without_peers_nothing_is_held() -> None:
    """Silence is no copy; but an empty log needs none."""
    assert not_yet_held({LOG: {0: 3}}, []) == {(LOG, 0): 3}
    assert not_yet_held({LOG: {0: 0}}, []) == {}


def test_what_was_written_behind_a_cut_is_not_genuine() -> None:
    """New records on lost offsets are nobody's truth; a partition that was not cut counts to its end."""
    cut = LogCut(log=LOG, partition=0, found=4, acknowledged_end=9)
    assert genuine_ends({LOG: {0: 12, 1: 7}}, [cut]) == {LOG: {0: 4, 1: 7}}
    assert genuine_ends({LOG: {0: 2}}, [cut]) == {LOG: {0: 2}}


def region_in(directory: Path) -> RegionSettings:
    """A region with a broker's directory and snapshots."""
    region = RegionSettings(data_dir=directory)
    (directory / "kafka" / "logs").mkdir(parents=True)
    (directory / "kafka" / "logs" / "meta.properties").write_text("cluster.id=old")
    region.snapshot_dir.mkdir()
    (region.snapshot_dir / "LOG_WAS_CUT.json").write_text("{}")
    (directory / "replicator").mkdir()
    return region


def test_a_new_life_keeps_the_old_log_aside_and_forgets_the_snapshots(tmp_path: Path) -> None:
    """The evidence stays; what was folded from lost records does not."""
    region = region_in(tmp_path)
    ask_for_renewal(region, Renewal("east-1", "its log was cut"))
    aside = begin_anew(region)
    assert aside == tmp_path / "kafka.east-1"
    assert (aside / "logs" / "meta.properties").read_text() == "cluster.id=old"
    assert not (tmp_path / "kafka").exists()
    assert not region.snapshot_dir.exists()
    assert not (tmp_path / "replicator").exists()
    assert begin_anew(region) is None, "done once"


def test_without_a_wish_nothing_is_touched(tmp_path: Path) -> None:
    """Every start of the broker comes by here."""
    region = region_in(tmp_path)
    assert begin_anew(region) is None
    assert (tmp_path / "kafka" / "logs" / "meta.properties").exists()
    assert region.snapshot_dir.exists()


def test_a_wish_that_cannot_be_read_is_asked_for_again(tmp_path: Path) -> None:
    """Nothing is done on a guess, and the site starts all the same."""
    region = RegionSettings(name="east", data_dir=tmp_path)
    (tmp_path / "kafka").mkdir()
    (tmp_path / RENEW_FILE).write_text("{")
    assert begin_anew(region) is None
    assert (tmp_path / "kafka").exists() and not (tmp_path / RENEW_FILE).exists()


def test_a_renewal_that_was_killed_halfway_is_finished(tmp_path: Path) -> None:
    """The log was put aside, then the power went: the next start does the rest."""
    region = region_in(tmp_path)
    ask_for_renewal(region, Renewal("east-1", "its log was cut"))
    (tmp_path / "kafka").rename(tmp_path / "kafka.east-1")
    begin_anew(region)
    assert not region.snapshot_dir.exists()
    assert not (tmp_path / RENEW_FILE).exists()
    assert (tmp_path / "kafka.east-1" / "logs" / "meta.properties").exists()
