"""Who this processor is: which life of which region it folds, and under which key its users are hashed."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.region_settings import RegionSettings
from services.common.settings import SettingsError
from services.coordination.base import KeyValueStore
from services.coordination.region_record import KeyMismatch, current_incarnation, key_fingerprint
from streams.pseudonym import Pseudonyms


@dataclass(frozen=True, slots=True)
class Identity:
    """Read once at the start."""

    region: str
    incarnation: str
    key_fingerprint: str


async def read_identity(region: RegionSettings, store: KeyValueStore) -> Identity:
    """Read the region's record. Raises SettingsError when it has none yet, KeyMismatch for another key's file."""
    incarnation = region.incarnation or await current_incarnation(store, region.name)
    if not incarnation:
        raise SettingsError(
            f"{region.coordination_file} knows no incarnation of {region.name}. `meridian up` allocates one; to run a "
            "processor alone, set MERIDIAN_REGION_INCARNATION."
        )
    recorded = await key_fingerprint(store)
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
