"""What a site's noisy updates have cost so far: one line for each, over all jobs, since they tell of the same patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.federated.privacy.allow_list import OutgoingError
from medseg.federated.privacy.manifest import read_rows

if TYPE_CHECKING:
    from pathlib import Path

#: Its name, in the top folder of a site's kit.
LEDGER = "privacy_spent.jsonl"


def multipliers_of(path: Path) -> list[float]:
    """The noise multiplier of every release in a ledger, in order; [] where there is none yet.

    Raises:
        OutgoingError: MS-J122 a line cannot be read, so that nobody knows what was spent.
    """
    if not path.exists():
        return []
    try:
        rows, broken = read_rows(path)
        found = [float(row["multiplier"]) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise unreadable(path, f"the ledger cannot be read ({type(error).__name__})") from error
    if broken:
        raise unreadable(path, f"{broken} lines of the ledger cannot be read")
    return found


def unreadable(path: Path | None, what: str) -> OutgoingError:
    """The error MS-J122."""
    mend = "restore it from a backup; without it nobody knows what was spent"
    return OutgoingError("MS-J122", f"{what}; nothing was sent", file=path, mend=mend)
