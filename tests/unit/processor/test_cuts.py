"""Where the genuine part of a cut log ends, from leader epochs alone."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from services.coordination.lives import LogCut
from services.processor.cut_mark import leave_mark, read_mark
from services.processor.cuts import cut_of, first_after, with_epoch
from streams.truncation import Mark

PLACE = ("east-1.events", 3)


@given(genuine=st.integers(0, 40), after=st.integers(0, 40), epoch=st.integers(0, 5))
def test_the_first_record_of_a_later_epoch_is_found(genuine: int, after: int, epoch: int) -> None:
    """Whatever was written before and after the cut."""
    epochs = [min(n // 7, epoch) for n in range(genuine)] + [epoch + 1 + n // 9 for n in range(after)]
    assert first_after(epoch, len(epochs), lambda offset: epochs[offset]) == genuine


def test_a_log_that_shows_everything_was_not_cut() -> None:
    """Its epoch may have moved: the broker was restarted."""
    assert cut_of(PLACE, Mark(10, 1, 2), 12, 11, lambda _: 3, shows=True) is None


def test_a_log_that_is_shorter_than_what_was_read() -> None:
    """Nothing was written since: all that is there is genuine."""
    found = cut_of(PLACE, Mark(10, 1, 2), 6, 11, lambda _: 2, shows=False)
    assert found == LogCut(*PLACE, 6, 11)


def test_a_log_that_was_written_again() -> None:
    """More than was cut: its end says nothing, the epochs do."""
    epochs = [2] * 6 + [3] * 20
    found = cut_of(PLACE, Mark(10, 1, 2), len(epochs), 12, lambda offset: epochs[offset], shows=False)
    assert found == LogCut(*PLACE, 6, 12)


def test_what_was_acknowledged_and_never_read_counts_too() -> None:
    """The log shows all that this reader took, and ends before what was acknowledged."""
    assert cut_of(PLACE, Mark(10, 1, 2), 10, 15, lambda _: 2, shows=True) == LogCut(*PLACE, 10, 15)


def test_without_an_epoch_nothing_counts_as_genuine() -> None:
    """Peers hold what they hold."""
    assert cut_of(PLACE, Mark(10, 1, -1), 30, 15, lambda _: 3, shows=False) == LogCut(*PLACE, 0, 15)


def test_it_is_said_under_which_epoch_the_log_was_written_on() -> None:
    """By the first record behind the cut; without one, whatever comes has the epoch of now."""
    epochs, mark = [2] * 6 + [3] * 2 + [4] * 3, Mark(10, 1, 2)
    cut = LogCut(*PLACE, 6, 12)
    assert with_epoch(cut, mark, len(epochs), 4, lambda offset: epochs[offset]).leader_epoch == 3
    assert with_epoch(cut, mark, 6, 4, lambda offset: epochs[offset]).leader_epoch == 4
    assert with_epoch(cut, Mark(10, 1, -1), 6, 4, lambda offset: epochs[offset]) == cut


def test_a_mark_keeps_what_the_reader_knew(tmp_path: Path) -> None:
    """A later start can still tell."""
    marks = {PLACE: Mark(10, 2**63 + 5, 2)}
    leave_mark(tmp_path, "cut", 1, marks)
    mark = read_mark(tmp_path)
    assert mark is not None
    assert mark.known == marks
