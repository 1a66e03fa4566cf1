"""Names of structures as people write them: what they have in common, and which side they say.

'Left kidney', 'kidney_left' and 'kidney left' are one name; 'label 3' is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.federated.stats.fingerprint import Structure
    from medseg.labels import Label

_UNNAMED = re.compile(r"(label|structure) \d+")
_SIDES = {"left": "left", "lt": "left", "lh": "left", "right": "right", "rt": "right", "rh": "right"}


def words(name: str) -> tuple[str, ...]:
    """Its words in small letters, in alphabetical order, sides written out."""
    found: list[str] = re.findall(r"[^\W_]+", name.casefold())
    return tuple(sorted(_SIDES.get(word, word) for word in found))


def canonical(structure: Structure | Label) -> str:
    """Equal for structures that are taken for one: by their words, or by their value where nothing names them."""
    return f"label {structure.value}" if unnamed(structure.name) else " ".join(words(structure.name))


def unnamed(name: str) -> bool:
    """Whether it is only a value."""
    return _UNNAMED.fullmatch(name) is not None


def side_of(name: str) -> str:
    """'left', 'right', or '' where it says none, or both."""
    said = {word for word in words(name) if word in ("left", "right")}
    return said.pop() if len(said) == 1 else ""
