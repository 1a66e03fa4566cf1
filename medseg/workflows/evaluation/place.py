"""Both label maps of a case, read, the prediction on the reference's grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from medseg.errors import GeometryError
from medseg.readers.cases.label_load import load_label_map
from medseg.readers.cases.pairing import on_grid_of
from medseg.readers.cases.space import centre_distance_mm
from medseg.resample import resample_labels
from medseg.volume import Decision, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.geometry import Grid
    from medseg.readers.options import ReadOptions
    from medseg.workflows.evaluation.pairs import Pair


class Load(Protocol):
    """Reads both maps of a case, as `load_pair`."""

    def __call__(self, pair: Pair, options: ReadOptions, *, resample: bool) -> tuple[Volume | None, Volume]:
        """(prediction, reference) on one grid."""
        ...


def load_pair(pair: Pair, options: ReadOptions, *, resample: bool = False) -> tuple[Volume | None, Volume]:
    """Read the prediction (None where there is none) and the reference of a case.

    The same space in another axis order is turned, the same lattice with another extent pasted; both are recorded.

    Args:
        pair: the case.
        options: the readers' options.
        resample: put a prediction that lies on another grid onto the reference's, and record it.

    Raises:
        GeometryError: MS-E102 it lies elsewhere, with the distance in mm.
        InputError: from the readers.
    """
    ref = load_label_map(pair.ref, None, options)
    if pair.pred is None:
        return None, ref
    pred = load_label_map(pair.pred, ref, options)
    file = pair.pred.files[0]
    try:
        return on_grid_of(ref.grid, pred, file), ref
    except GeometryError as error:
        if not resample:
            raise _elsewhere(pred.grid, ref.grid, error, file) from error
    placed = resample_labels(pred.array, pred.grid, ref.grid)
    text = f"the prediction was resampled onto the reference's grid ({_words(pred.grid)} -> {_words(ref.grid)})"
    return replace(pred, array=placed, affine=ref.affine).with_decisions(Decision("MS-E201", text)), ref


def _elsewhere(pred: Grid, ref: Grid, error: GeometryError, file: Path) -> GeometryError:
    return GeometryError(
        "MS-E102",
        f"the prediction does not lie in the reference's space: their middles are {centre_distance_mm(pred, ref):.4g} mm "
        f"apart ({_words(pred)} against {_words(ref)}); {error.what}",
        file=file,
        mend="evaluate on the grid of the reference, or add --resample to put the prediction onto it (recorded)",
    )


def _words(grid: Grid) -> str:
    return f"{' x '.join(map(str, grid.shape))} voxels of {' x '.join(f'{s:.4g}' for s in grid.spacing_mm)} mm"
