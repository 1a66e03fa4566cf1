"""One case of the pool: how much of it is in doubt, what the network sees in it, and a picture.

Everything is measured where the network computes; only the labels go back to the image's own grid, for the picture.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.data.utils import list_data_collate

from medseg.geometry import Grid
from medseg.reports.preview import preview_png
from medseg.resample import resample_labels
from medseg.volume import Source, Volume
from medseg.workflows import record as records
from medseg.workflows.case_run import guard
from medseg.workflows.identity.teller import plain
from medseg.workflows.measure import MARKS, Measurement, measure
from medseg.workflows.memory import memory_guard
from medseg.workflows.ranking.features import case_features
from medseg.workflows.ranking.measures import Measures, measures
from medseg.workflows.sampling import walker
from medseg.workflows.segment import prepare
from medseg.workflows.stage import WARNINGS
from medseg.workflows.uncertainty import sample
from medseg.writers.atomic import sha256, write_bytes, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from medseg.bundle.load import Bundle
    from medseg.inferers.moments import Uncertainty
    from medseg.readers.cases import Case
    from medseg.workflows.identity.cases import Identity
    from medseg.workflows.identity.teller import Teller
    from medseg.workflows.method import Method

PREVIEW, RECORD = "preview.png", "record.json"


@dataclass(frozen=True, eq=False)
class How:
    """How every case of a run is looked at.

    Args:
        bundle: its networks on `device`.
        method: how doubt is sampled.
        fixed: what must be the same for a resumed run to take a case over.
        device: where the network runs.
        outside_domain: go on where a scan lies outside the training data, and mark it.
        identity: how cases are called and their files told; None: by names.
    """

    bundle: Bundle
    method: Method
    fixed: Mapping[str, Any]
    device: str = "cpu"
    outside_domain: bool = False
    identity: Identity | None = None

    def teller(self, case: Case) -> Teller:
        """How the files of a case are told."""
        return plain(case.images) if self.identity is None else self.identity.of(case)


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of a case.

    Args:
        name: of the case.
        measures: how much is in doubt.
        features: (F,) float64, see features.py.
        images: where the scan lies, from the pool on; a pseudonym where cases have one.
        mark: one of `MARKS`, how it stands to the training data.
        structures: what the mean of the samples finds; () where it was read from a record.
        outside: how it lies outside the training data, in words.
        notes: what the user should look at.
    """

    name: str
    measures: Measures
    features: np.ndarray
    images: tuple[str, ...]
    mark: str = MARKS[0]
    structures: tuple[Measurement, ...] = ()
    outside: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def look_at(
    case: Case, volume: Volume, how: How, folder: Path, *, progress: Callable[[int, int], None] | None = None
) -> Look:
    """Look at one case and write its folder: preview.png, then record.json, by which a resumed run knows it.

    Args:
        case: what was read.
        volume: as read, (I, J, K) or (C, I, J, K).
        how: see `How`.
        folder: of the case.
        progress: called with (windows x samples done, in all).

    Raises:
        DomainError: the scan lies outside what the bundle was trained on, and `outside_domain` is off.
        BundleError: MS-O322 its preprocessing fails.
        MemoryLimitError: MS-M101, MS-M310 it does not fit.
        OutputError: the disk is full or fails.
    """
    bundle, file = how.bundle, case.images[0] if case.images else None
    volume = how.teller(case).volume(volume)
    outside = guard(volume, bundle, file=file, allowed=how.outside_domain)
    with torch.no_grad(), memory_guard("look at this volume"):
        batch: Any = list_data_collate([prepare(volume, bundle)])
        image = batch["image"].to(how.device)
        found, _, events = sample(image, bundle, how.method, progress=progress)
        grid = _grid(image)
        told = measures(found, grid.voxel_ml)
        features = case_features(image.as_tensor(), bundle.network, walker(bundle))
        labels = _labels(found, grid, volume, bundle)
    mark = MARKS[2] if bundle.domain is None else MARKS[bool(outside)]
    structures = measure(labels, bundle.labels)
    unlike = tuple(violation.message for violation in outside)
    notes = (
        *(decision.message for decision in volume.source.decisions if decision.warning),
        *(event.message for event in events if event.code.startswith("MS-M20")),  # out-of-memory fallbacks
    )
    look = Look(case.name, told, features, _places(case, how), mark, structures, unlike, notes)
    (folder / RECORD).unlink(missing_ok=True)  # a record always belongs to the picture beside it
    legend = [f"{m.structure}  {m.volume_ml:.2f} mL" for m in structures[: len(bundle.labels)]]
    warning = WARNINGS.get(mark, "")
    picture = preview_png(volume, labels, bundle.labels, title=case.name, warning=warning, legend=legend)
    write_bytes(folder / PREVIEW, picture)
    write_json(
        folder / RECORD,
        {
            **_record(look, how, found.samples),
            "input": records.describe_input(volume, case.images, how.teller(case)),
            "outputs": {PREVIEW: sha256(folder / PREVIEW)},
        },
    )
    return look


def read_look(case: Case, folder: Path, how: How) -> Look | None:
    """What an earlier run wrote of a case, None where it is not there, not whole, or about something else."""
    record = records.read_record(folder / RECORD)
    picture = folder / PREVIEW
    if record is None or record.get("settings") != how.fixed:
        return None
    try:
        if not picture.is_file() or sha256(picture) != record["outputs"][PREVIEW]:
            return None
        if records.changed_input(case.images, record["input"]["files"], how.teller(case)) is not None:
            return None
        features = np.asarray(record["features"], np.float64)
        told = Measures(**record["measures"])
        return Look(case.name, told, features, _places(case, how), record["outside_domain"])
    except (KeyError, TypeError, ValueError):
        return None


def _record(look: Look, how: How, samples: int) -> dict[str, Any]:
    method = how.method
    return {
        "schema": records.SCHEMA,
        "notice": records.RESEARCH,
        "case": look.name,
        "status": "done",
        "created": records.now(),
        "versions": records.versions(),
        "settings": how.fixed,
        "inference": {**records.describe_machine(how.device), **records.describe_inferer(walker(how.bundle))},
        "uncertainty": {
            "method": method.name,
            "samples": samples,
            "seed": method.seed if method.name == "mc" else None,
        },
        "outside_domain": look.mark,
        "measures": asdict(look.measures),
        "features": look.features.tolist(),
        "structures": [m.row(outside_domain=look.mark) for m in look.structures],
        "warnings": [*look.outside, *look.notes],
    }


def _places(case: Case, how: How) -> tuple[str, ...]:
    teller = how.teller(case)
    return tuple(teller.root(path) for path in case.images)


def _grid(image: Any) -> Grid:
    """Where a preprocessed (1, C, *space) image lies."""
    affine = image.affine[0] if image.affine.ndim == 3 else image.affine
    i, j, k = (int(n) for n in image.shape[2:])
    return Grid((i, j, k), affine.cpu().numpy())


def _labels(found: Uncertainty, grid: Grid, volume: Volume, bundle: Bundle) -> Volume:
    """The labels of the mean of the samples on the image's own grid."""
    back = resample_labels(found.labels.cpu().numpy(), grid, volume.grid, threads=torch.get_num_threads())
    return Volume(back, volume.affine, Source(format="array"), bundle.labels)
