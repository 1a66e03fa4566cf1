"""The image of a case: its channels read, checked and stacked on the grid of the first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medseg.errors import GeometryError, InputError
from medseg.geometry import same_space
from medseg.readers.cases.grouping import wrong_channels
from medseg.readers.cases.space import centre_distance_mm, overlap, turn_onto
from medseg.readers.dicom import read_one
from medseg.readers.open import read
from medseg.volume import Decision, Source, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.readers.options import ReadOptions

#: A channel that covers less of the reference than this is worth a look.
_LITTLE = 0.9


def load_case(case: Case, channels: Sequence[str] = ()) -> Volume:
    """Read the image of a case.

    Args:
        case: from `find_cases`.
        channels: the names of the channels that the bundle wants; () takes one of any name.

    Returns:
        (C, I, J, K) on the grid of the first channel, in its axis order.

    Raises:
        InputError: `case.error`, MS-C105 another number of files, MS-C107 another number of channels in a file, and
            what the readers raise.
        GeometryError: MS-G101 a channel lies elsewhere.
    """
    if case.error is not None:
        raise case.error
    names = tuple(channels) or ("image",)
    volumes = [_read(path, case.options) for path in case.images]
    if len(volumes) == 1:
        return _one_file(volumes[0], names, case.images[0])
    if len(volumes) != len(names):
        raise wrong_channels(case.images, names)
    volumes = [_one_channel(v, path) for v, path in zip(volumes, case.images, strict=True)]
    placed = [
        volumes[0],
        *(_onto(v, volumes[0], name, names[0]) for v, name in zip(volumes[1:], names[1:], strict=True)),
    ]
    array = np.stack([v.array for v in placed])
    return Volume(array, volumes[0].affine, _joined([v.source for v in placed], names))


def _read(path: Path, options: ReadOptions) -> Volume:
    # A study's folder may hold its label map as well.
    if path.is_dir():
        try:
            return read_one(path, options)
        except InputError as error:
            if error.code != "MS-D102":  # there is DICOM in it
                raise
    return read(path, options)


def _one_file(volume: Volume, names: tuple[str, ...], path: Path) -> Volume:
    array = volume.array if volume.array.ndim == 4 else volume.array[None]
    require_channels(len(array), names, path)
    return replace(volume, array=array, source=replace(volume.source, channels=names))


def _one_channel(volume: Volume, path: Path) -> Volume:
    if volume.array.ndim == 3:
        return volume
    require_one_channel(len(volume.array), path)
    return replace(volume, array=volume.array[0])


def require_channels(count: int, names: tuple[str, ...], path: Path) -> None:
    """Refuse one file with `count` channels where the bundle wants those of `names` from it.

    Raises:
        InputError: MS-C107.
    """
    if count != len(names):
        raise InputError(
            "MS-C107",
            f"the bundle wants {len(names)} channel{'s' if len(names) > 1 else ''}: {', '.join(names)}; "
            f"this file holds {count}",
            file=path,
            mend="give one image file for each channel, or a file that holds exactly these"
            if count == 1
            else "split the file, and name the wanted volume or volumes",
        )


def require_one_channel(count: int, path: Path) -> None:
    """Refuse one of several files, a channel each, that holds `count` of them.

    Raises:
        InputError: MS-C107.
    """
    if count != 1:
        raise InputError(
            "MS-C107",
            f"one channel is wanted from this file, it holds {count}",
            file=path,
            mend="split it into one file a channel",
        )


def _onto(volume: Volume, reference: Volume, name: str, first: str) -> Volume:
    """One channel on the grid of the first one: as it is, turned by right angles, or resampled and recorded."""
    notes = _frame_note(volume, reference, name, first)
    if same_space(volume.grid, reference.grid):
        return volume.with_decisions(*notes)
    turn = turn_onto(volume.grid, reference.grid)
    if turn is not None and same_space(turn.apply_grid(volume.grid), reference.grid):
        note = Decision(
            "MS-G206", f"channel {name}: axes turned from {volume.grid.axcodes} to those of {first}", warning=False
        )
        return replace(volume, array=turn.apply(volume.array), affine=reference.affine).with_decisions(*notes, note)
    share = overlap(reference.grid, volume.grid)
    apart = centre_distance_mm(volume.grid, reference.grid)
    if share == 0:
        raise GeometryError(
            "MS-G101",
            f"channel {name} does not overlap channel {first}: their centres are {apart:.1f} mm apart",
            file=volume.source.path,
            mend="give channels of one examination in one space, or register them first",
        )
    if share < _LITTLE:
        text = (
            f"channel {name} covers {100 * share:.0f} % of {first} (centres {apart:.1f} mm apart); the rest was filled"
        )
        notes = (*notes, Decision("MS-G203", text))
    from medseg.resample import resample_image  # numba takes a second, and most channels lie on one grid

    fill = float(volume.array.min())
    array = resample_image(volume.array, volume.grid, reference.grid, fill=fill)
    return replace(volume, array=array, affine=reference.affine).with_decisions(
        *notes, _resampled_note(volume, reference, name, first)
    )


def _frame_note(volume: Volume, reference: Volume, name: str, first: str) -> tuple[Decision, ...]:
    a, b = volume.source.frame_of_reference, reference.source.frame_of_reference
    if not a or not b or a == b:
        return ()
    share = 100 * overlap(reference.grid, volume.grid)
    apart = centre_distance_mm(volume.grid, reference.grid)
    text = (
        f"channels {first} and {name} lie in different frames of reference (centres {apart:.1f} mm apart, "
        f"{share:.0f} % overlap): the patient may have moved between them"
    )
    return (Decision("MS-G202", text),)


def _resampled_note(volume: Volume, reference: Volume, name: str, first: str) -> Decision:
    def grid(v: Volume) -> str:
        return f"{' x '.join(map(str, v.grid.shape))} voxels of {' x '.join(f'{s:.3g}' for s in v.spacing_mm)} mm"

    return Decision(
        "MS-G201", f"channel {name} resampled from {grid(volume)} to the grid of {first}, {grid(reference)}"
    )


def _joined(sources: list[Source], names: tuple[str, ...]) -> Source:
    decisions = tuple(
        replace(d, message=d.message if d.message.startswith("channel") else f"channel {name}: {d.message}")
        for source, name in zip(sources, names, strict=True)
        for d in source.decisions
    )
    return replace(
        sources[0],
        files=tuple(f for source in sources for f in source.files),
        channels=names,
        decisions=decisions,
        details={**sources[0].details, "channels": {n: dict(s.details) for n, s in zip(names, sources, strict=True)}},
    )
