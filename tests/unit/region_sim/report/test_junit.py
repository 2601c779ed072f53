"""`junit.xml` has the shape that every reader of it expects, and says the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from region_sim.report import write_report
from tests.support.drilled_run import write_run

SUITE = {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"}
SHAPE: dict[str, tuple[set[str], list[str]]] = {
    "testsuites": (SUITE - {"timestamp"}, ["testsuite"]),
    "testsuite": (SUITE, ["properties", "testcase"]),
    "properties": (set(), ["property"]),
    "property": ({"name", "value"}, []),
    "testcase": ({"classname", "name", "time"}, ["skipped", "failure", "system-out"]),
    "failure": ({"message", "type"}, []),
    "skipped": ({"message"}, []),
    "system-out": (set(), []),
}
"""By element: its attributes, and its children in their order, as the common schema (of Ant and Jenkins) has them."""


def checked(element: ET.Element) -> ET.Element:
    """Hold an element and all below it against the shape."""
    attributes, children = SHAPE[element.tag]
    assert set(element.attrib) == attributes, element.tag
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places), f"children of {element.tag} are out of order"
    for child in element:
        checked(child)
    return element


def suite(directory: Path, **changes: Any) -> ET.Element:
    """The one suite of a run's file."""
    path = write_report(write_run(directory, **changes)).with_name("junit.xml")
    return checked(ET.parse(path).getroot())[0]


CHECKS = [
    {"check": "a", "verdict": "valid", "sentence": "fine"},
    {"check": "b", "verdict": "invalid", "sentence": "two are lost", "examples": ["e1", "e2"], "first_index": 77},
    {"check": "c", "verdict": "unknown", "sentence": "nobody said"},
]


def test_each_checker_is_a_test_case(tmp_path: Path) -> None:
    """Invalid is a failure with its examples, unknown is skipped and says so, and the numbers add up."""
    found = suite(tmp_path, checks=CHECKS, verdict="invalid")
    assert {name: found.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
    }
    good, bad, unsure = found.findall("testcase")
    assert good.findtext("system-out") == "fine"
    assert bad[0].tag == "failure"
    assert bad[0].get("message") == "two are lost"
    assert bad[0].text == "two are lost\ne1\ne2\nfirst violation: entry 77 of the history"
    assert unsure[0].tag == "skipped"
    assert unsure[0].get("message") == "unknown: nobody said"


def test_figures_are_properties(tmp_path: Path) -> None:
    """What was not measured is said in words."""
    found = suite(tmp_path, rto_seconds=None)
    said = {one.get("name"): one.get("value") for one in found.iter("property")}
    assert said["verdict"] == "valid"
    assert said["seed"] == "7"
    assert said["gap_seconds"] == "4.02"
    assert said["rto_seconds"] == "not known"
    assert said["digests_equal"] == "true"
    assert found.get("timestamp") == "2027-01-15T08:00:00"


@pytest.mark.parametrize("hostile", ["\x00\x08\x1b", "]]>&<", "\ufffe\udcff"])
def test_what_xml_cannot_carry_does_not_break_it(tmp_path: Path, hostile: str) -> None:
    """An id may hold any character; a reader must not refuse the file for it."""
    if "\udcff" in hostile:
        hostile = hostile.replace("\udcff", "")  # JSON of the verdict cannot carry it either
    check = {"check": hostile, "verdict": "invalid", "sentence": hostile, "examples": [hostile]}
    found = suite(tmp_path, checks=[check], sentence=hostile, verdict="invalid", drill=hostile, replay=hostile)
    assert len(found.findall("testcase")) == 1


def test_a_verdict_without_checks_is_one_test_case(tmp_path: Path) -> None:
    """No checks is no empty success."""
    found = suite(tmp_path, checks=[], verdict="unknown", sentence="nothing was checked")
    assert [case.get("name") for case in found.findall("testcase")] == ["verdict"]
    assert found.get("skipped") == "1"
