"""Repeated sentences of client libraries are thinned, others pass."""

import logging

from services.processor.quiet import OnceInAWhile


def record(sentence: str, *values: object) -> logging.LogRecord:
    """As a library logs it."""
    return logging.LogRecord("aiokafka", logging.ERROR, "", 0, sentence, values, None)


def test_a_sentence_passes_once_in_the_interval_whatever_its_values() -> None:
    """Another sentence, and the same one later, pass."""
    now = [0.0]
    once = OnceInAWhile(10.0, lambda: now[0])
    assert once.filter(record("Unable to connect to %s", 1))
    assert not once.filter(record("Unable to connect to %s", 2))
    assert once.filter(record("Something else"))
    now[0] = 10.0
    assert once.filter(record("Unable to connect to %s", 3))


def test_what_it_remembers_is_bounded() -> None:
    """A library that formats its own sentences cannot fill the memory."""
    once = OnceInAWhile(10.0, lambda: 0.0)
    assert all(once.filter(record(f"sentence {n}")) for n in range(3_000))
    assert len(once._last) <= 1_000
