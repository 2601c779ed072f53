"""`junit.xml`: each checker as a test case, for the machines that read nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree as ET

from region_sim.report import words
from region_sim.report.gather import Observed
from region_sim.report.judged import Check, Judged

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot carry, even escaped; an id may hold them."""


def junit(judged: Judged, observed: Observed) -> bytes:
    """The file. An invalid check is a failure; an unknown one is skipped, which is no success: it says why."""
    name = _clean(f"region-sim.{judged.drill or 'drill'}")
    checks = judged.checks or [Check(check="verdict", verdict=judged.verdict, sentence=judged.sentence)]
    counts = {
        "tests": len(checks),
        "failures": sum(one.verdict == "invalid" for one in checks),
        "errors": 0,
        "skipped": sum(one.verdict not in ("valid", "invalid") for one in checks),
    }
    numbers = {key: str(value) for key, value in counts.items()} | {"time": f"{observed.end:.3f}"}
    root = ET.Element("testsuites", {"name": "region-sim", **numbers})
    about = {"name": name, "timestamp": _timestamp(observed.began_unix_ms)}
    suite = ET.SubElement(root, "testsuite", about | numbers)
    _properties(suite, judged)
    for check in checks:
        _case(suite, name, check)
    ET.indent(root)
    made: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return made + b"\n"


def _properties(suite: ET.Element, judged: Judged) -> None:
    said: dict[str, str] = {
        "verdict": judged.verdict,
        "sentence": judged.sentence,
        "backend": judged.backend,
        "seed": words.NOT_KNOWN if judged.seed is None else str(judged.seed),
        "replay": judged.replay,
    }
    said |= {name: _figure(value) for name, value in judged.figures.items()}
    listed = ET.SubElement(suite, "properties")
    for name, value in said.items():
        ET.SubElement(listed, "property", name=_clean(name), value=_clean(value))


def _figure(value: words.Figure) -> str:
    if value is None:
        return words.NOT_KNOWN
    return str(value).lower() if isinstance(value, bool) else f"{value}"


def _case(suite: ET.Element, name: str, check: Check) -> None:
    case = ET.SubElement(suite, "testcase", classname=name, name=_clean(check.check), time="0")
    sentence = _clean(check.sentence)
    if check.verdict == "valid":
        ET.SubElement(case, "system-out").text = sentence
        return
    if check.verdict == "invalid":
        failed = ET.SubElement(case, "failure", message=sentence, type="invalid")
        lines = [check.sentence, *check.examples]
        if check.first_index is not None:
            lines.append(f"first violation: entry {check.first_index} of the history")
        failed.text = _clean("\n".join(lines))
        return
    ET.SubElement(case, "skipped", message=f"unknown: {sentence}")


def _clean(said: str) -> str:
    return _NOT_XML.sub("\ufffd", said)


def _timestamp(unix_ms: int) -> str:
    return datetime.fromtimestamp(max(unix_ms, 0) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
