"""The manifests of a site or of a whole simulation, read back for people: what left, what was refused, what was spent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.federated.privacy import manifest
from medseg.federated.privacy.ledger import LEDGER, multipliers_of

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.federated.privacy.accountant import Spent


@dataclass(frozen=True)
class Audit:
    """One site's manifest.

    Args:
        path: of it; where a site has spent epsilon and sent nothing, there is no such file.
        rows: of messages, in order; keys as the audit filter writes them.
        broken: lines that cannot be read.
        spent: what the site's noisy updates gave away; None: it adds no noise.
    """

    path: Path
    rows: tuple[dict[str, Any], ...]
    broken: int
    spent: Spent | None

    def count(self, verdict: str) -> int:
        """How many messages have this verdict."""
        return sum(row.get("verdict") == verdict for row in self.rows)

    @property
    def bytes_sent(self) -> int:
        """Bytes of all tensors that left."""
        return sum(int(row.get("bytes", 0)) for row in self.rows if row.get("verdict") == manifest.SENT)


def read_audits(place: Path, *, delta: float = 1e-5) -> list[Audit]:
    """Every manifest at or below a place.

    Args:
        place: a site's kit, the output of `simulate`, or one manifest.
        delta: at which epsilon is stated.

    Raises:
        InputError: MS-J123 there is none.
        OutgoingError: MS-J122 a ledger cannot be read.
        MissingExtraError: MS-J101 an epsilon is to be stated without dp-accounting.
    """
    found = [path for name in (manifest.FILE, LEDGER) for path in place.rglob(name) if not path.is_symlink()]
    paths = [place] if place.is_file() else sorted({path.with_name(manifest.FILE) for path in found})
    if not paths:
        raise InputError(
            "MS-J123",
            f"no manifest ({manifest.FILE}) is here",
            file=place,
            mend="give a site's kit or the folder of a simulation; it is written with the first message that leaves",
        )
    return [_read(path, delta) for path in paths]


def _read(path: Path, delta: float) -> Audit:
    from medseg.federated.privacy.accountant import spent

    rows, broken = manifest.read_rows(path) if path.exists() else ([], 0)
    used = multipliers_of(path.with_name(LEDGER))
    return Audit(path, tuple(rows), broken, spent(used, delta) if used else None)
