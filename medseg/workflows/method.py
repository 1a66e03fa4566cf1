"""`--uncertainty METHOD`: what the words of the command ask for, read before torch loads."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medseg.bundle.uncertainty import METHODS
from medseg.errors import UsageError


@dataclass(frozen=True)
class Method:
    """How uncertainty is found.

    Args:
        name: one of `METHODS`.
        samples: of Monte Carlo dropout; None: as many as the bundle says.
        seed: of Monte Carlo dropout.
        keep: keep the labels of every sample.
    """

    name: str
    samples: int | None = None
    seed: int = 0
    keep: bool = False

    @property
    def words(self) -> str:
        """As on the command line."""
        return self.name if self.samples is None else f"{self.name}:{self.samples}"


def parse_method(text: str, *, seed: int = 0, keep: bool = False) -> Method:
    """'mc', 'mc:20', 'tta', 'ensemble' or 'ensemble+tta'.

    Raises:
        UsageError: MS-U307 anything else.
    """
    found = re.fullmatch(r"(mc)(?::(\d{1,6}))?|(tta|ensemble|ensemble\+tta)", text.strip().lower())
    if found is None:
        raise UsageError(
            "MS-U307", f"--uncertainty {text!r} is not known", mend=f"use one of {', '.join(METHODS)}, or mc:20"
        )
    return Method(found[1] or found[3], int(found[2]) if found[2] else None, seed, keep)
