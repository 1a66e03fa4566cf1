"""Where the results of a case stand, and how they get there all at once.

Every file is made in the run's work folder on the same disk; when all are complete the record goes to its place
first, with the hash of every other file, and the others follow by rename. So a segmentation never stands without
a record that knows its hash, and one whose hash differs was changed by somebody else.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medseg.errors import MedsegError
from medseg.readers.nifti import read_nifti
from medseg.readers.options import ReadOptions
from medseg.reports.case_view import MAPS, map_file
from medseg.workflows.record import read_record
from medseg.writers.atomic import move, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medseg.workflows.settings import Settings

SEGMENTATION = "segmentation.nii.gz"
#: Of a bundle that finds instances: the map of their ids, and what was found.
INSTANCE_MAP, INSTANCE_LIST = "instances.nii.gz", "instances.json"
RECORD = "record.json"

#: What every case has, and what a run may add. All but the label map lie side by side, also with --flat.
ALWAYS = (SEGMENTATION, "measurements.csv", "measurements.json", "preview.png")
VIEWS = ("image.nii.gz", "segmentation.seg.nrrd", "scene.mrml", "report.html")
UNCERTAINTY = (*(map_file(key) for key in MAPS), "uncertainty.ctbl")
DICOM = ("dicom/seg.dcm", "dicom/uncertainty.dcm", "dicom/uncertainty_mutual_information.dcm", "dicom/measurements.dcm")
ON_REQUEST = ("scene.mrb", "samples.seq.nrrd", *DICOM)
FILES = (*ALWAYS, INSTANCE_MAP, INSTANCE_LIST, *VIEWS, *UNCERTAINTY, *ON_REQUEST)
SUMMARY, FAILURES, INDEX = "summary.csv", "failures.csv", "index.html"


@dataclass(frozen=True)
class CaseFiles:
    """The places of one case's files.

    Args:
        out: the output folder of the run.
        name: the case.
        flat: OUT/case.nii.gz with the rest under OUT/details/case, instead of one folder a case.
    """

    out: Path
    name: str
    flat: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the case's details."""
        return self.out / "details" / self.name if self.flat else self.out / self.name

    def path(self, file: str) -> Path:
        """Where `file`, one of `FILES` or `RECORD`, stands."""
        return self.out / f"{self.name}.nii.gz" if self.flat and file == SEGMENTATION else self.folder / file

    @property
    def segmentation(self) -> Path:
        """The label map."""
        return self.path(SEGMENTATION)

    @property
    def record(self) -> Path:
        """The record."""
        return self.path(RECORD)

    def altered(self, hashes: Mapping[str, str]) -> list[str]:
        """Files that exist although `hashes` (file -> sha256) does not know them as they are."""
        return [f for f in FILES if self.path(f).is_file() and sha256(self.path(f)) != hashes.get(f)]

    def missing(self, hashes: Mapping[str, str]) -> list[str]:
        """Files of `hashes` that do not exist."""
        return [f for f in hashes if not self.path(f).is_file()]

    def publish(self, work: Path) -> list[Path]:
        """Move a case, complete in the `work` folder, to its place; returns where foreign files were set aside.

        What medseg itself wrote there before goes first, so that no old file ever stands beside the new record.
        """
        old = read_record(self.record)
        altered = self.altered({} if old is None else old.get("outputs", {}))
        aside = [self.set_aside(file) for file in altered if file != SEGMENTATION or is_readable(self.segmentation)]
        for file in FILES:
            self.path(file).unlink(missing_ok=True)
        self._clear_other_layout()
        for file in (RECORD, *made(work)):
            move(work / file, self.path(file))
        return aside

    def _clear_other_layout(self) -> None:
        """Remove what a run with --flat, or one without it, made of this case, where nobody changed it since."""
        other = CaseFiles(self.out, self.name, not self.flat)
        old = read_record(other.record)
        if old is None or old.get("case") != self.name:
            return
        hashes = old.get("outputs", {})
        for file in FILES:
            path = other.path(file)
            if file in hashes and path.is_file() and sha256(path) == hashes[file]:
                path.unlink()
        other.record.unlink()
        for folder in (other.folder / "dicom", other.folder):
            with suppress(OSError):  # it holds something of somebody's, or is not there
                folder.rmdir()

    def set_aside(self, file: str) -> Path:
        """Rename `file`, which somebody else made or changed, so that a new one can take its name."""
        path = self.path(file)
        stem, dot, suffix = path.name.partition(".")
        number = 1
        while (kept := path.with_name(f"{stem}.kept-{number}{dot}{suffix}")).exists():
            number += 1
        move(path, kept)
        return kept


def expected(settings: Settings, *, instances: bool = False) -> list[str]:
    """The files of a case that a run will make, DICOM objects apart (they depend on the case).

    Args:
        settings: of the run.
        instances: whether its bundle finds instances.
    """
    maps = settings.method is not None
    wanted = [*ALWAYS, *([INSTANCE_MAP, INSTANCE_LIST] if instances else []), *(VIEWS if settings.views else ())]
    of = [map_file("entropy"), UNCERTAINTY[-1]] if instances else UNCERTAINTY
    wanted += [file for file in of if maps and (settings.views or file.endswith(".nii.gz"))]
    wanted += ["scene.mrb"] * settings.mrb
    return wanted + ["samples.seq.nrrd"] * (settings.method is not None and settings.method.keep)


def made(work: Path) -> list[str]:
    """The files of a case that were made in a work folder."""
    return [file for file in FILES if (work / file).is_file()]


def is_readable(path: Path) -> bool:
    """Whether a NIfTI file can be read to its last byte."""
    try:
        read_nifti(path, ReadOptions())
    except MedsegError:
        return False
    return True
