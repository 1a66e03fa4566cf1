"""Options that several commands share, each written once. They become `medseg.readers.options.ReadOptions`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medseg.readers.options import ReadOptions

Input = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="A file, a DICOM folder, a folder of cases, an MSD dataset.json, an nnU-Net imagesTr, or a CSV/JSON list.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON on standard output.")]
Series = Annotated[
    str | None,
    typer.Option("--series", metavar="N|UID", help="Which of several DICOM series: its number, UID or listed id."),
]
AssumeOrientation = Annotated[
    str | None,
    typer.Option("--assume-orientation", metavar="RAS", help="Axis codes for files that state no orientation."),
]
AllowGaps = Annotated[
    bool, typer.Option("--allow-gaps", help="Accept missing slices or uneven steps: resampled and recorded.")
]
Nonfinite = Annotated[
    str, typer.Option("--nonfinite", metavar="refuse|fill:V", help="What to do with NaN and infinite voxels.")
]
MaxVoxels = Annotated[
    int, typer.Option("--max-voxels", metavar="N", help="Refuse larger scans before any memory is taken.")
]
Segments = Annotated[
    str | None,
    typer.Option("--segments", metavar="NAME,NAME", help="Which segments of a segmentation; overlapping ones apart."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse where medseg would choose and record a warning.")]


def read_options(
    series: str | None,
    assume_orientation: str | None,
    allow_gaps: bool,
    nonfinite: str,
    strict: bool,
    max_voxels: int,
    segments: str | None = None,
) -> ReadOptions:
    """The readers' options from the command line's words.

    Raises:
        UsageError: a word that is not among those accepted.
    """
    from medseg.readers.options import ReadOptions

    return ReadOptions(
        series=series,
        assume_orientation=assume_orientation,
        allow_gaps=allow_gaps,
        nonfinite=nonfinite,
        strict=strict,
        max_voxels=max_voxels,
        segments=segments,
    )
