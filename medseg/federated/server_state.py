"""What the server keeps between rounds, whole or not at all: the last good global model, and a table of the rounds.

FOLDER/round.safetensors   the global state, moments and control variates; its header says how many rounds it has
FOLDER/rounds.jsonl        a line a round: every site's part in it
FOLDER/failure.json        why the job failed, where it did
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medseg.errors import InputError, MedsegError
from medseg.writers.atomic import atomic_write, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

STATE, ROUNDS, FAILURE = "round.safetensors", "rounds.jsonl", "failure.json"
_PARTS = ("state", "moments", "control")


@dataclass(frozen=True)
class ServerState:
    """Between two rounds.

    Args:
        rounds: that it has seen.
        state: what travels of the global state.
        moments: of the server's optimiser.
        control: SCAFFOLD's variate.
        said: of a state that the server cannot read: what has to be known to open it (`sealed_sums`).
    """

    rounds: int
    state: dict[str, Tensor]
    moments: dict[str, Tensor] = field(default_factory=dict)
    control: dict[str, Tensor] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)


def not_finite(state: ServerState) -> str:
    """Where a state holds NaN or infinity: 'PART NAME' of the first such table, '' where it is sound."""
    tables = {"state": state.state, "moments": state.moments, "control": state.control}
    broken = (
        f"{part} {name}"
        for part, table in tables.items()
        for name, value in table.items()
        if not torch.isfinite(value).all()
    )
    return next(broken, "")


def save_state(folder: Path, state: ServerState) -> None:
    """Replace the last good state; errors as for `atomic_write`."""
    tables = {"state": state.state, "moments": state.moments, "control": state.control}
    flat = {f"{part}:{name}": value.contiguous() for part, table in tables.items() for name, value in table.items()}
    meta = {"format": "pt", "rounds": str(state.rounds), "said": json.dumps(state.said)}
    atomic_write(folder / STATE, lambda path: save_file(flat, path, metadata=meta))


def load_state(folder: Path) -> ServerState | None:
    """The last good state, None where there is none.

    Raises:
        InputError: MS-J016 it is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    tables: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            rounds, said = int(header["rounds"]), json.loads(header.get("said", "{}"))
            for key in file.keys():  # noqa: SIM118  it is no table
                part, name = key.split(":", 1)
                tables[part][name] = file.get_tensor(key)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            "MS-J016", f"the last global model cannot be read ({error})", file=path,
            mend="start anew in another folder, or without --resume",
        ) from error  # fmt: skip
    return ServerState(rounds, **tables, said=said)


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """The rounds so far, oldest first; [] where there are none."""
    path = folder / ROUNDS
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def add_round(folder: Path, row: Mapping[str, Any]) -> None:
    """Add a line, in place of any of the same round or later ones; errors as for `atomic_write`."""
    kept = [one for one in read_rounds(folder) if one["round"] < row["round"]]
    text = "".join(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n" for one in [*kept, dict(row)])
    write_text(folder / ROUNDS, text)


def write_failure(folder: Path, error: BaseException) -> None:
    """Say why the job failed; errors as for `atomic_write`."""
    known = isinstance(error, MedsegError)
    said = {
        "code": error.code if known else "",
        "what": error.what if known else f"{type(error).__name__}: {error}",
        "mend": error.mend if known else "",
    }
    write_json(folder / FAILURE, said)
