"""The cases that went worst, read again for the report's pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import MedsegError
from medseg.geometry import same_space
from medseg.metrics.table import Row, by_metric, direction
from medseg.readers.cases.find import find_cases
from medseg.readers.cases.names import collision_key
from medseg.readers.open import read
from medseg.reports.evaluation import Picture
from medseg.workflows.evaluation.naming import in_common
from medseg.workflows.evaluation.place import load_pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions
    from medseg.volume import Volume
    from medseg.workflows.evaluation.naming import Structure
    from medseg.workflows.evaluation.pairs import Pair
    from medseg.workflows.evaluation.place import Load
    from medseg.workflows.evaluation.result import Evaluation
    from medseg.workflows.identity.matched import Matched

_SHOWN = 6


def pictures(
    found: Evaluation,
    structures: Mapping[str, Sequence[Structure]],
    options: ReadOptions,
    *,
    resample: bool,
    scans: Mapping[str, Path],
    load: Load = load_pair,
) -> list[Picture]:
    """Pictures of the worst cases of each structure, worst first.

    Args:
        found: the evaluation; the first metric of its protocol's headline that has a better and a worse decides.
        structures: case -> its structures.
        options: the readers' options.
        resample: as the evaluation was made.
        scans: from `scans_in`; of other cases the copy that `medseg predict` put beside its results.
        load: reads both maps of a case in values that mean structures.
    """
    by_name = {pair.name: pair for pair in found.pairs.pairs}
    out = []
    for row in _worst(found.rows, found.protocol.headline):
        pair = by_name[row.case]
        try:
            pred, ref = load(pair, options, resample=resample)
        except MedsegError:  # it was read a moment ago: a picture less, the numbers stand
            continue
        array = np.zeros_like(ref.array) if pred is None else pred.array
        common = in_common(array, ref.array, structures[row.case])
        if row.structure not in common.labels:
            continue
        path = scans.get(collision_key(pair.name)) or _beside(pair)
        out.append(
            Picture(
                row.case, row.structure, _caption(row, found.rows), common.pred, common.ref, ref.affine,
                common.labels[row.structure], None if path is None else _image(path, ref, options),
            )
        )  # fmt: skip
    return out


def scans_in(images: Path, calls: Matched) -> dict[str, Path]:
    """`collision_key` of what the evaluation calls a case -> its scan in a folder; errors as for `find_cases`."""
    found = {name: c.images[0] for c in find_cases(images) if c.images for name in (c.name, calls.name(c.name))}
    return {collision_key(name): path for name, path in found.items()}


def _worst(rows: Sequence[Row], headline: Sequence[str]) -> list[Row]:
    """The worst rows, the structures in turn; of one case and structure once, and only where something went wrong."""
    tables = by_metric(row for row in rows if row.status != "both_empty")
    structures = list(dict.fromkeys(structure for structure, _ in tables))
    ranked = []
    for structure in structures:
        metric = next((m for m in (*headline, "dice") if (structure, m) in tables and direction(m)), None)
        if metric is not None:
            found = sorted(tables[structure, metric], key=lambda row: row.value * direction(row.metric))
            ranked.append(found)
    turns = [row for turn in zip(*(_padded(r) for r in ranked), strict=True) for row in turn if row is not None]
    return turns[:_SHOWN]


def _padded(rows: Sequence[Row]) -> list[Row | None]:
    return [*rows[:_SHOWN], *[None] * (_SHOWN - len(rows))]


def _caption(row: Row, rows: Sequence[Row]) -> str:
    """'Dice 0.61, HD95 4.2 mm' of a case."""
    words = []
    for other in rows:
        if (other.case, other.structure) != (row.case, row.structure):
            continue
        if other.metric == "dice":
            words.append(f"Dice {other.value:.3f}")
        elif other.metric == "hd95_mm":
            words.append(f"HD95 {other.value:.1f} mm" if np.isfinite(other.value) else "HD95 infinite")
    if row.metric not in ("dice", "hd95_mm"):
        words.insert(0, f"{row.metric} {row.value:.3g}")
    return ", ".join(words) + ("; no prediction" if row.status == "pred_missing" else "")


def _beside(pair: Pair) -> Path | None:
    """The copy of the scan that `medseg predict` made for its views."""
    folder = None if pair.pred is None else pair.pred.folder
    path = None if folder is None else folder / "image.nii.gz"
    return path if path is not None and path.is_file() else None


def _image(path: Path, ref: Volume, options: ReadOptions) -> np.ndarray | None:
    """Grey values on the reference's grid, None where the scan cannot be read or lies elsewhere."""
    try:
        volume = read(path, options)
    except MedsegError:
        return None
    array = volume.array[0] if volume.array.ndim == 4 else volume.array
    return array if same_space(volume.grid, ref.grid, 0.05) else None
