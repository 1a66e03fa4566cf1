"""medseg segments medical volumes in 3D: a file or folder of scans in, label maps you can trust out.

The flow of one scan is the folder listing:

    readers      file or folder -> Volume (array, affine in RAS mm, what had to be decided), or a clear refusal
    bundle       a MONAI bundle: network, weights, labels, and the domain it was trained on
    transforms   Volume -> the network's own grid, and exactly back
    networks     the 3D U-Net
    inferers     the network over a volume of any size -> labels, streamed
    writers      label map -> file on the input's own grid, atomically, read again before it counts
    workflows    all of that for a folder of cases, with a record of what was done
    metrics      label maps against references: overlap, surfaces, instances, calibration, exact and named
    cli          all of it from the terminal: `medseg --help`

    import medseg

    volume = medseg.read("scan/")
    result = medseg.predict("scan/", "hippocampus_mri_segmentation")
    scores = medseg.evaluate("predictions/", "references/")

Importing medseg is cheap: neither torch nor MONAI is loaded until something needs them.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from medseg.errors import (
        BundleError,
        ChoiceError,
        DomainError,
        GeometryError,
        InputError,
        MedsegError,
        MemoryLimitError,
        MissingExtraError,
        OutputError,
        RecordError,
        UsageError,
    )
    from medseg.geometry import Grid
    from medseg.labels import LabelTable
    from medseg.metrics.surface import surface_metrics
    from medseg.volume import Volume
    from medseg.workflows.evaluate import evaluate
    from medseg.workflows.result import predict

__version__ = "0.1.0"

# MONAI imports MLflow wherever it is installed, and MLflow then reports to its makers. Nothing leaves this machine unasked.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__all__ = [
    "BundleError",
    "ChoiceError",
    "DomainError",
    "GeometryError",
    "Grid",
    "InputError",
    "LabelTable",
    "MedsegError",
    "MemoryLimitError",
    "MissingExtraError",
    "OutputError",
    "RecordError",
    "UsageError",
    "Volume",
    "__version__",
    "evaluate",
    "predict",
    "read",
    "read_all",
    "surface_metrics",
]

_HOME = {
    "Grid": "medseg.geometry",
    "LabelTable": "medseg.labels",
    "Volume": "medseg.volume",
    "evaluate": "medseg.workflows.evaluate",
    "predict": "medseg.workflows.result",
    "surface_metrics": "medseg.metrics.surface",
}


def read(path: str | PathLike[str], **options: Any) -> Volume:
    """Read exactly one volume from a file or a DICOM folder.

    Args:
        path: NIfTI, NRRD, MetaImage or DICOM, told apart by content.
        options: fields of `medseg.readers.options.ReadOptions`, such as `series="3"` or `allow_gaps=True`.

    Raises:
        InputError: nothing here can be read as one volume; the message lists what was found.
        ChoiceError: several volumes would fit; the message says what to pass as `series`.
        GeometryError: its place in space is missing, broken or ambiguous.
    """
    from medseg.readers.open import read as read_one
    from medseg.readers.options import ReadOptions

    return read_one(path, ReadOptions(**options))


def read_all(path: str | PathLike[str], **options: Any) -> list[Volume]:
    """Read every volume of a file or folder; arguments and errors as for `read`."""
    from medseg.readers.open import read_all as read_every
    from medseg.readers.options import ReadOptions

    return read_every(path, ReadOptions(**options))


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module 'medseg' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME.get(name, "medseg.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
