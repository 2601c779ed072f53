"""Which versions may stand in for a champion that cannot answer."""

from typing import Final

from models.registry import MODEL_FILE
from services.inference.repository import Repository
from services.inference.settings import NO_STANDBY

STANDBY_SHARE: Final = 0.5
"""A standby's graph has at most this share of the champion's bytes: it must be cheaper to run, not just another one."""


def standby_candidates(repository: Repository, model: str, champion: str, setting: str) -> list[str]:
    """Versions that may stand in for a champion, the best first: the one of the setting, or by the size of the graph.

    The smallest is taken because it must answer when the champion is too slow, on a core that may be busy; whoever has
    a better one (a student, an int8 version) says so by the setting.
    """
    if setting in (NO_STANDBY, champion):
        return []
    if setting:
        return [setting]
    sizes = {version: _graph_bytes(repository, model, version) for version in repository.versions(model)}
    most = STANDBY_SHARE * sizes.get(champion, 0)
    fit = [(size, version) for version, size in sizes.items() if version != champion and 0 < size <= most]
    return [version for _, version in sorted(fit, key=lambda found: (found[0], -int(found[1])))]


def _graph_bytes(repository: Repository, model: str, version: str) -> int:
    try:
        return (repository.folder(model, version) / MODEL_FILE).stat().st_size
    except OSError:
        return 0
