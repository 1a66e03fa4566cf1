"""`medseg bundle export`: patches of real scans for the check, and the export itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.utils import fall_back_tuple

from medseg.bundle.export import Exported, choose_formats, export_bundle, silent
from medseg.bundle.export_engine import refuse_instances
from medseg.bundle.load import load_bundle
from medseg.errors import UsageError
from medseg.inferers.precision import most_contrast
from medseg.inferers.sliding import padded
from medseg.inferers.stream import gather
from medseg.inferers.windows import window_grid
from medseg.readers.cases import find_cases, load_case
from medseg.readers.options import ReadOptions
from medseg.workflows import demo
from medseg.workflows.compute import computing
from medseg.workflows.sampling import walker
from medseg.workflows.segment import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from os import PathLike

    from torch import Tensor

    from medseg.bundle.load import Bundle
    from medseg.volume import Volume

#: Scans that are looked at, and windows of each: those with most contrast.
CASES, PATCHES = 2, 3


@dataclass(frozen=True)
class ExportReport:
    """What was exported.

    Args:
        root: the bundle's folder.
        exported: one row a network and format.
        left_out: formats that a missing package kept from being written.
        trusted: the bundle was trusted before, and new files withdraw that.
    """

    root: Path
    exported: tuple[Exported, ...]
    left_out: tuple[str, ...] = ()
    trusted: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        rows = [row.to_json() for row in self.exported]
        return {"bundle": str(self.root), "exported": rows, "left_out": list(self.left_out)}


def export(
    bundle: str | PathLike[str],
    *,
    data: str | PathLike[str] | None = None,
    formats: str | None = None,
    members: bool = False,
    threads: int | None = None,
    hear: Callable[[str], None] = silent,
) -> ExportReport:
    """Export a bundle and check the files on patches of real scans.

    Args:
        bundle: a folder or a shipped name.
        data: a scan or a folder of scans of the kind that the bundle segments; None: the demo's, for its bundle.
        formats: such as 'onnx' or 'pt2,onnx'; None: all that can be written here.
        members: the other networks of its ensemble too.
        threads: CPU threads.
        hear: told what is being done.

    Raises:
        UsageError: MS-U315 an unknown format; MS-U316 there is nothing to check on.
        MissingExtraError, BundleError, OutputError: see `medseg.bundle.export.export_bundle`.
        InputError: `data` cannot be read.
    """
    chosen, left_out = choose_formats(formats)
    loaded = load_bundle(os.fspath(bundle), device="cpu")
    refuse_instances(loaded)
    settings = walker(loaded)
    with computing(threads=threads):
        patches = [patch for volume in _volumes(loaded, data) for patch in _patches(volume, loaded)]
        found = export_bundle(
            loaded,
            patches,
            chosen,
            regions=settings.regions,
            any_size=any(n <= 0 for n in fall_back_tuple(settings.roi_size, (0, 0, 0))),
            members=members,
            hear=hear,
        )
    return ExportReport(loaded.root, tuple(found), left_out, loaded.trusted)


def _volumes(bundle: Bundle, data: str | PathLike[str] | None) -> Iterator[Volume]:
    """A few scans, read one by one."""
    if data is not None:
        for case in find_cases(Path(data), channels=bundle.channels, options=ReadOptions())[:CASES]:
            yield load_case(case, bundle.channels)
        return
    if bundle.name != demo.BUNDLE:
        raise UsageError(
            "MS-U316",
            f"an export is checked on real scans, and none comes with {bundle.name}",
            mend=f"type: medseg bundle export {bundle.root} --data SCAN   with a scan of the kind that it segments",
        )
    template = demo.load_template()
    for centre in demo.CENTRES.values():
        yield demo.crop_mm(template, centre, demo.SIZE_MM)


def _patches(volume: Volume, bundle: Bundle) -> list[Tensor]:
    """Windows (C, *roi) of a scan as the bundle's inferer cuts them, those with most contrast."""
    image = prepare(volume, bundle)["image"].as_tensor()[None].float()
    settings = walker(bundle)
    grid = window_grid(image.shape[2:], settings.roi_size, settings.overlap)
    part = padded(image, grid)
    positions = list(grid.positions())

    def cut(index: int) -> Tensor:
        return gather(part, [(0, positions[index])], grid.roi, part.device, part.dtype)[0]

    return [cut(index) for index in most_contrast(cut, len(positions), PATCHES)]
