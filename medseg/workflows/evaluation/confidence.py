"""What a prediction says of its own certainty, scored: uncertainty maps and probabilities that lie beside it.

case/uncertainty_entropy.nii.gz    as `medseg predict --uncertainty` writes it; any map that is greater where
                                   the model is less certain
case/probabilities.nii.gz          (I, J, K, C), channel c the probability of label value c
case.npz                           nnU-Net's --save_probabilities, `probabilities` (C, K, J, I)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import same_space
from medseg.metrics.calibration import Calibration, calibration_by_region
from medseg.metrics.error_detection import error_detection
from medseg.metrics.missed_lesions import lesion_uncertainty
from medseg.metrics.qu_brats import qu_brats
from medseg.metrics.regions import NEAR_MM, near
from medseg.readers.cases.names import stem
from medseg.readers.open import read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from medseg.geometry import Grid
    from medseg.readers.cases.label_maps import LabelMap
    from medseg.readers.options import ReadOptions

#: What stands in the structure column of these rows.
ALL = "all structures"
#: The boundary band reaches so far to either side of a surface, mm.
_BAND_MM = 2.0
#: A missed lesion is silent where no voxel of it is more uncertain than this share of the greatest possible.
_SILENT = 0.1


@dataclass(frozen=True, eq=False)
class Confidence:
    """One case's certainty against its errors.

    Args:
        rows: (metric, definition, value); what is undefined, such as AUROC without an error, is left out.
        calibration: in the foreground, to be added over cases; None without probabilities.
        uncertainty: mean over the predicted foreground, the case's own doubt; None without a map.
    """

    rows: tuple[tuple[str, str, float], ...]
    calibration: Calibration | None = None
    uncertainty: float | None = None


def confidence(
    item: LabelMap, pred: np.ndarray, ref: np.ndarray, grid: Grid, options: ReadOptions
) -> Confidence | None:
    """Score the maps beside a prediction; None where there are none.

    Args:
        item: the prediction, as found.
        pred: (I, J, K) its labels.
        ref: (I, J, K) the reference in the same values.
        grid: of both.
        options: the readers' options.

    Raises:
        GeometryError: MS-E103 a map does not lie on the prediction's grid.
        InputError: MS-E104 probabilities that are none of this prediction, and from the readers.
    """
    entropy, probabilities = maps_beside(item)
    rows: list[tuple[str, str, float]] = []
    found, doubt = None, None
    if entropy is not None:
        uncertainty = _on_grid(entropy, grid, options)
        rows += _ranked(uncertainty, pred, ref, grid.spacing_mm)
        doubt = float(uncertainty[pred > 0].mean()) if (pred > 0).any() else float(uncertainty.max(initial=0))
    if probabilities is not None:
        channels = _channels(probabilities, grid, options)
        try:
            regions = calibration_by_region(channels, pred, ref, spacing_mm=grid.spacing_mm, band_mm=_BAND_MM)
        except (TypeError, ValueError) as error:
            raise InputError(
                "MS-E104",
                f"these probabilities do not fit their prediction: {error}",
                file=probabilities,
                mend="give softmax probabilities, channel c for label value c, or take the file away",
            ) from error
        found = regions["foreground"]
        rows += [(f"{m}_{name}", "20 bins", v) for name, c in regions.items() if c.n for m, v in c.rows()]
    if not rows:
        return None
    return Confidence(tuple(row for row in rows if np.isfinite(row[2])), found, doubt)


def _ranked(
    uncertainty: np.ndarray, pred: np.ndarray, ref: np.ndarray, spacing_mm: Sequence[float]
) -> Iterator[tuple[str, str, float]]:
    wrong = pred != ref
    where = {"whole": None, f"{NEAR_MM:g}mm": near(pred, ref, spacing_mm=spacing_mm)}
    for name, region in where.items():
        ranked = error_detection(uncertainty, wrong, region)
        yield from ((f"{m}@{name}", "", getattr(ranked, m)) for m in ("auroc", "auprc", "ause"))
    lesions = lesion_uncertainty(pred, ref, uncertainty, spacing_mm=spacing_mm)
    if lesions.n_missed:
        yield "silent_missed_share", f"max <= {_SILENT:g}", lesions.silent_share(_SILENT)
    if uncertainty.min(initial=0) >= 0 and uncertainty.max(initial=0) <= 1:
        yield "qu_brats", "", qu_brats(pred > 0, ref > 0, 100 * uncertainty).score


def maps_beside(item: LabelMap) -> tuple[Path | None, Path | None]:
    """(uncertainty, probabilities) beside a prediction."""
    file = item.files[0]
    folder = item.folder
    entropy = None if folder is None else folder / "uncertainty_entropy.nii.gz"
    stored = [file.with_name(f"{stem(file)}.npz")]
    stored += [] if folder is None else [folder / "probabilities.nii.gz"]
    return (
        entropy if entropy is not None and entropy.is_file() else None,
        next((path for path in stored if path.is_file()), None),
    )


def _on_grid(path: Path, grid: Grid, options: ReadOptions) -> np.ndarray:
    volume = read(path, options)
    if not same_space(volume.grid, grid, 0.05):
        raise GeometryError(
            "MS-E103",
            "this map does not lie on the grid of its prediction",
            file=path,
            mend="make both in one run, or take the map away",
        )
    return volume.array


def _channels(path: Path, grid: Grid, options: ReadOptions) -> np.ndarray:
    """(C, I, J, K) probabilities."""
    if path.suffix != ".npz":
        return _on_grid(path, grid, options)
    try:
        with np.load(path, allow_pickle=False) as content:
            array = content["probabilities"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            "MS-E104", f"no `probabilities` in this file ({error})", file=path, mend="take the file away"
        ) from error
    return array.transpose(0, 3, 2, 1) if array.ndim == 4 else array
