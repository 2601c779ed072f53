"""Markup is a type: what is not made here is text, whatever it looks like."""

from __future__ import annotations

import pytest

from region_sim.report.markup import Html, join, tag, visible
from tests.support.page_reader import read


def test_text_and_attributes_are_escaped() -> None:
    """Both ways in are closed, and read back as what was said."""
    said = "\"'><b onclick=x>&amp;"
    made = tag("p", said, tag("i", said), title=said, data_note=said)
    (p,) = read(made).every("p")
    assert p.text == said * 2
    assert p.attributes == {"title": said, "data-note": said}
    assert not list(p.every("b"))


def test_only_markup_stays_markup() -> None:
    """A piece of markup goes in as it is; a string that is put together with it is a string again."""
    inner = tag("b", "x")
    assert tag("p", inner) == "<p><b>x</b></p>"
    assert tag("p", inner + "") == "<p>&lt;b&gt;x&lt;/b&gt;</p>"
    assert join([inner, "<"], ", ") == "<b>x</b>, &lt;"
    assert isinstance(join([]), Html)


def test_attributes_may_be_left_out() -> None:
    """None and False are no attribute, True is one without a value, shapes close themselves."""
    assert tag("rect", x=1.5, y=2.0, width=3, class_=None, hidden=False) == '<rect x="1.5" y="2" width="3"/>'
    assert tag("button", "Copy", hidden=True, data_copy="a") == '<button hidden data-copy="a">Copy</button>'
    assert tag("rect", tag("title", "t"), x=100.0) == '<rect x="100"><title>t</title></rect>'


@pytest.mark.parametrize(
    ("said", "shown"),
    [("a\x00b", r"a\x00b"), ("\u202eexe", r"\u202eexe"), ("\ud800", r"\ud800"), ("zwölf\n\t→ 猫", "zwölf\n\t→ 猫")],
)
def test_what_would_hide_is_spelt_out(said: str, shown: str) -> None:
    """Control characters and turned writing; letters of all languages stay."""
    assert visible(said) == shown
