"""Options that several commands share, each written once: what a run works on, where, and how scans are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
Out = Annotated[Path, typer.Option("-o", "--out", metavar="OUT", show_default=False, help="Folder for the results.")]


def _bundle(words: str) -> Any:
    return typer.Option("-b", "--bundle", metavar="BUNDLE", show_default=False, help=words)


_WHICH = "A shipped name (medseg bundles lists them) or a bundle's folder"
Bundle = Annotated[str, _bundle(f"{_WHICH}.")]
BundleOrRun = Annotated[str, _bundle(f"{_WHICH}, such as the run of medseg train.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="Where the network runs.")]
Threads = Annotated[int | None, typer.Option(metavar="N", help="CPU threads; all of them without it.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of Monte Carlo dropout.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do all again in a folder that holds results.")]
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
CaseId = Annotated[
    str, typer.Option("--case-id", metavar="pseudonym|name", help="What cases from DICOM are called: by pseudonyms.")
]
CaseKey = Annotated[
    Path | None,
    typer.Option("--case-key", metavar="FILE", help="The key of pseudonyms; medseg-key.json by the scans without it."),
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
