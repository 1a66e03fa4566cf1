"""The key of a simulation whose updates travel encrypted: made on the spot, in the sites' folders and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.federated.privacy.encryption import make_keys
from medseg.federated.privacy.sealing import KEY_FILE
from medseg.writers.atomic import write_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def give_key(folders: Sequence[Path]) -> None:
    """Put one key into every site's folder; where they have one already, as after a stop, it stays.

    Raises:
        MissingExtraError: MS-J102 tenseal is not installed.
    """
    kept = next((path.read_bytes() for path in (folder / KEY_FILE for folder in folders) if path.is_file()), None)
    key = kept or make_keys().sites
    for folder in folders:
        write_bytes(folder / KEY_FILE, key, private=True)
