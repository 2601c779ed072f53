"""`traceparent` and `tracestate` are read as W3C Trace Context says: what is wrong in any way counts as nothing."""

from __future__ import annotations

import pytest

from services.common.trace_context import STATE_MEMBERS_MAX, TraceContext, parse_parent, read_parent, read_state

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_what_is_right_is_taken(text: str, *, sampled: bool) -> None:
    """Flags beside `sampled` say nothing; later versions are read as far as version 00 goes."""
    assert parse_parent(text) == TraceContext(TRACE, SPAN, sampled=sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-not-be-like",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0x",
        f"0-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
    ],
)
def test_what_is_wrong_is_no_parent(text: str) -> None:
    """Nothing is guessed from half a header."""
    assert parse_parent(text) is None


def test_two_parents_are_none() -> None:
    """Whoever sent two headers did not say which one counts."""
    assert read_parent([GOOD]) is not None
    assert read_parent([f" {GOOD}\t"]) is not None
    assert read_parent([GOOD, GOOD]) is None
    assert read_parent([]) is None


def test_what_is_passed_on_is_read_again() -> None:
    """A context survives its own header."""
    for sampled in (True, False):
        context = TraceContext(TRACE, SPAN, sampled=sampled)
        assert parse_parent(context.header()) == context


@pytest.mark.parametrize(
    ("values", "state"),
    [
        (["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (["rojo=1", "congo=2"], "rojo=1,congo=2"),
        (["rojo=1 , ,\tcongo=2"], "rojo=1,congo=2"),
        (["fw529a3039@dt=FfAAAA a"], "fw529a3039@dt=FfAAAA a"),
        ([""], ""),
        (["Rojo=1"], ""),
        (["rojo"], ""),
        (["rojo=a=b"], ""),
        (["rojo=1,rojo=2"], ""),
        (["rojo=\u00e4"], ""),
        (["rojo=" + "x" * 256], "rojo=" + "x" * 256),
        (["rojo=" + "x" * 257], ""),
        ([",".join(f"k{n}=1" for n in range(STATE_MEMBERS_MAX + 1))], ""),
        ([",".join(f"k{n}={'x' * 30}" for n in range(STATE_MEMBERS_MAX))], ""),
    ],
)
def test_states_are_one_list_or_nothing(values: list[str], state: str) -> None:
    """Several headers are one list; a list with anything wrong in it, or too long, is dropped as a whole."""
    assert read_state(values) == state
