"""What random transforms chose, noted as plain data, so that an augmented case can be made again.

A transform with a `record_key` appends a row to the list `data[record_key]`: the choice's name, the keys it was
applied to, and its values. `json.dumps` takes the list; `medseg.transforms.replay` applies it to the case as it was
before, and gives the same voxels.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable


def note(data: dict[Hashable, Any], record_key: str | None, choice: Any, **where: Any) -> None:
    """Append a row to the record in a data dictionary, whose list is replaced, not changed.

    Args:
        data: the dictionary.
        record_key: of the record; None: nothing is noted.
        choice: a frozen dataclass; with a method `to_json`, or of plain values.
        where: to what it was applied: `keys`, and what else `replay` needs.
    """
    if record_key is None:
        return
    values = choice.to_json() if hasattr(choice, "to_json") else asdict(choice)  # type: ignore[union-attr,arg-type]
    data[record_key] = [*data.get(record_key, []), {"choice": type(choice).__name__, **where, "values": values}]
