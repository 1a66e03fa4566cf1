"""What a run was asked to do, apart from which cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError
from medseg.readers.options import ReadOptions
from medseg.workflows.engine import check_engine

if TYPE_CHECKING:
    from medseg.workflows.method import Method

DICOM_SEG = ("binary", "labelmap")


@dataclass(frozen=True)
class Settings:
    """See the file.

    Args:
        device: where the network runs, such as 'cpu' or 'cuda:0'; 'auto' until torch has been asked.
        threads: CPU threads, None for torch's own choice.
        deterministic: only algorithms that give the same bits again.
        outside_domain: proceed where a scan lies outside the training data, and mark every output.
        flat: label maps side by side in the output folder.
        options: the readers' options.
        method: how uncertainty is found; None: not at all.
        views: write what 3D Slicer and the browser open, the image among it.
        mrb: write the scene as one file too.
        dicom: 'binary' or 'labelmap': write DICOM objects for cases from DICOM; None: no.
        deface: mask the face of a head in the report.
        engine: what computes the network.
        deidentify: DICOM objects say nothing of the patient (PS3.15, basic profile).

    Raises:
        UsageError: MS-U302 settings that contradict each other; MS-U311 to MS-U313 an engine that is unknown or cannot do
            that.
    """

    device: str = "cpu"
    threads: int | None = None
    deterministic: bool = False
    outside_domain: bool = False
    flat: bool = False
    options: ReadOptions = field(default_factory=ReadOptions)
    method: Method | None = None
    views: bool = True
    mrb: bool = False
    dicom: str | None = None
    deface: bool = False
    engine: str = "torch"
    deidentify: bool = False

    def __post_init__(self) -> None:
        check_engine(self.engine, self.device, self.method)
        if self.mrb and not self.views:
            raise UsageError("MS-U302", "--mrb is a view, and --no-views leaves them out", mend="give one of the two")
        if self.deidentify and self.dicom is None:
            what = "--deidentify is about DICOM objects, and none are made"
            raise UsageError("MS-U302", what, mend="add --dicom, or leave it out: no other result holds patient data")
        if self.dicom not in (None, *DICOM_SEG):
            mend = f"use {' or '.join(DICOM_SEG)}"
            raise UsageError("MS-U302", f"--dicom-seg {self.dicom!r} is not known", mend=mend)

    @property
    def produced(self) -> dict[str, Any]:
        """What is made of each case: a finished case is one that has it all."""
        method = self.method
        return {
            "uncertainty": None if method is None else method.words,
            "seed": None if method is None or method.name != "mc" else method.seed,  # nothing else draws
            "samples": method is not None and method.keep,
            "views": self.views,
            "mrb": self.mrb,
            "dicom": self.dicom,
            "deface": self.deface,
            **({} if self.engine == "torch" else {"engine": self.engine}),
            **({"deidentify": True} if self.deidentify else {}),
        }
