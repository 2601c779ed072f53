"""Who this processor is: which life of which region it folds, and under which key its users are hashed."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.logging import get_logger
from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError
from services.coordination.base import KeyValueStore, StoreUnavailable
from services.coordination.region_record import KeyMismatch, current_incarnation, key_fingerprint
from streams.pseudonym import Pseudonyms

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """Read once at the start."""

    region: str
    incarnation: str
    key_fingerprint: str


async def read_identity(region: RegionSettings, store: KeyValueStore) -> Identity:
    """Read the region's record.

    Raises SettingsError when it has none yet, KeyMismatch for another key's file, and StoreUnavailable when only the
    store could say which life this is; a region of a deployment that was told its life starts without the store.
    """
    try:
        incarnation = region.incarnation or await current_incarnation(store, region.name)
        recorded = await key_fingerprint(store)
    except StoreUnavailable as away:
        if region.is_alone or not region.incarnation:
            raise
        log.warning("the coordination store does not answer; going on as told", reason=str(away))
        incarnation, recorded = region.incarnation, None
    if not incarnation:
        raise SettingsError(
            f"the coordination store knows no incarnation of {region.name}. `meridian up` allocates one; to run a "
            "processor alone, set MERIDIAN_REGION_INCARNATION."
        )
    found = _fingerprint_of_file(region)
    if recorded is not None and found is not None and recorded != found:
        raise KeyMismatch(
            f"{region.pseudonym_key_file} has the fingerprint {found}, the region's record says {recorded}. Put back "
            "the key under which its logs were written."
        )
    return Identity(region.name, incarnation, recorded or found or "")


def _fingerprint_of_file(region: RegionSettings) -> str | None:
    """The fingerprint of the key file; None where there is none: folding needs no key, only the same one."""
    try:
        return Pseudonyms(bytes.fromhex(region.pseudonym_key_file.read_text().strip())).fingerprint
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{region.pseudonym_key_file} is not a pseudonym key: {error}. Put it back.") from None
