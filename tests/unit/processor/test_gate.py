"""The gate: closed says why, a passed deadline closes it, an epoch never goes back."""

import pytest

from services.processor.gate import Gate


def test_an_open_gate_lets_effects_out_under_its_epoch() -> None:
    """A region that is alone is open under (0, 1), for as long as the asker wants."""
    gate = Gate((0, 1))
    assert gate.is_open
    assert gate.blocker(10**15) is None
    assert gate.epoch == (0, 1)
    assert gate.valid_until_ms(123) == 123


def test_a_shut_gate_names_the_reason() -> None:
    """Operators see the reason word for word."""
    gate = Gate((0, 1))
    gate.shut("the process is stopping")
    assert not gate.is_open
    assert gate.blocker(0) == "the process is stopping"


def test_a_deadline_shuts_it_by_itself() -> None:
    """Nothing has to happen for a term to end: asking is enough. The last millisecond is out already."""
    gate = Gate((1, 7))
    gate.open((1, 8), valid_until_ms=1_000)
    assert gate.blocker(999) is None
    assert gate.blocker(1_000) is not None
    assert gate.valid_until_ms(5_000) == 1_000


def test_an_epoch_never_goes_back() -> None:
    """A holder that meets a larger epoch than its own does not serve."""
    gate = Gate((1, 8))
    with pytest.raises(ValueError, match="cannot go back"):
        gate.open((1, 7), None)
