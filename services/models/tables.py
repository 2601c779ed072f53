"""What the verbs of `meridian models` print for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from models.registry import Manifest
from services.models.backing import Outcome
from services.models.comparing import Difference
from services.models.listing import RegionState, VersionDetails, VersionLine
from services.models.pointing import Moved


def listing(lines: list[VersionLine]) -> str:
    """One line a version, and one for each region that has something to say of it."""
    shown: list[str] = []
    for line in lines:
        aliases = f"  ({', '.join(line.aliases)})" if line.aliases else ""
        notes = [
            f"{line.size_bytes / 1e6:.1f} MB",
            "" if line.registered else "not registered",
            "" if line.here else "not in this region's repository",
            "" if line.sha256 else "its manifest cannot be read",
        ]
        facts = ", ".join(note for note in notes if note)
        shown.append(f"{line.model}/{line.version}{aliases}  {line.sha256[:12]}  {facts}")
        shown += [f"    {_state(state)}" for state in line.regions]
    return "\n".join(shown)


def details(found: VersionDetails) -> str:
    """Everything that is known of a version."""
    line, manifest = found.line, found.manifest
    shown = [
        f"{line.model}/{line.version}" + (f"  ({', '.join(line.aliases)})" if line.aliases else ""),
        f"  content       {line.sha256}",
        f"  folder        {found.folder}",
        f"  signed by     {found.signed_by or 'nobody'}",
        "  registered    " + (f"by {found.record.by} at {_when(found.record.at_ms)}" if found.record else "no"),
        f"  trained on    {manifest.trained_on or found.metrics.get('trained_on') or 'not said'}",
        f"  frontier      {_flat(manifest.frontier) or 'not said'}",
        f"  seed          {manifest.seed if manifest.seed is not None else found.metrics.get('seed', 'not said')}",
        f"  code          {manifest.code_version or 'not said'}",
        "  files         " + ", ".join(f"{name} {size}" for name, size in found.files.items()),
        "  serves",
        *(f"    {_state(state)}" for state in line.regions),
    ]
    for name, record in found.aliases.items():
        history = ", ".join(
            f"{change.version} by {change.by} at {_when(change.at_ms)}{' (rollback)' if change.rollback else ''}"
            for change in record.history
        )
        shown.append(f"  {name:<13} now {record.version}; history, newest first: {history}")
    shown.append("  metrics")
    shown += [f"    {name} {value}" for name, value in _leaves({**found.metrics, **manifest.metrics})]
    return "\n".join(shown)


def moved(found: Moved) -> str:
    """Where an alias points now, and what each region says."""
    before = f", before {found.before}" if found.before else ""
    shown = [f"{found.alias} is {found.model}/{found.version} ({found.sha256[:12]}) now{before}"]
    shown += [
        f"  {said.region}: {'serves' if said.serves else 'does not serve it'}: {said.says}" for said in found.regions
    ]
    return "\n".join(shown)


def difference(found: Difference) -> str:
    """Two versions beside each other."""
    one, other = found.versions
    shown = [f"{found.model}/{one} and {found.model}/{other}"]
    for place, version in enumerate(found.versions):
        manifest = found.made_from[place]
        sizes = ", ".join(f"{name} {size}" for name, size in found.size_bytes[place].items())
        shown += [
            f"  {version}: {found.sha256[place][:12]}, {sizes}",
            "     " + _made_from(manifest),
        ]
    if found.agreement is None:
        shown.append(f"  rankings not compared: {found.not_compared}")
    else:
        same = found.agreement
        shown.append(
            f"  rankings on {same.rows} golden rows of {other}: Kendall's tau {same.kendall_tau:.4f}, top-10 overlap "
            f"{same.top10_overlap:.4f}, same best {same.same_best:.4f}"
        )
    width = max((len(figure.name) for figure in found.figures), default=0)
    for figure in found.figures:
        change = "" if figure.one is None or figure.other is None else f"  {figure.other - figure.one:+.5g}"
        shown.append(f"  {figure.name:<{width}}  {_number(figure.one):>10}  {_number(figure.other):>10}{change}")
    return "\n".join(shown)


def outcome(found: Outcome) -> str:
    """What became of each version and alias."""
    shown = [f"{found.model}/{number}: {said}" for number, said in found.versions.items()]
    shown += [f"{name}: {said}" for name, said in found.aliases.items()]
    return "\n".join(shown) or f"{found.model}: nothing is registered, nothing was copied"


def _made_from(manifest: Manifest) -> str:
    seed = "not said" if manifest.seed is None else manifest.seed
    frontier, code = _flat(manifest.frontier) or "not said", manifest.code_version or "not said"
    return f"trained on {manifest.trained_on or 'not said'}, frontier {frontier}, seed {seed}, code {code}"


def _when(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def _state(state: RegionState) -> str:
    return f"{state.region}: {state.state or 'unknown'}  {state.reason}".rstrip()


def _flat(value: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {found}" for name, found in value.items())


def _leaves(report: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in report.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            found.append((f"{prefix}{name}", value))
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
