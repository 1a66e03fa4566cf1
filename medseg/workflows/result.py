"""`medseg.predict`: one case in Python, without files unless asked for.

Example:
    >>> result = medseg.predict("scan/", "hippocampus_mri_segmentation")  # doctest: +SKIP
    >>> result.segmentation.array.shape, result.table()  # doctest: +SKIP
    >>> result.save("out/case1")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.bundle.export_engine import on_engine
from medseg.bundle.load import Bundle, load_bundle
from medseg.errors import InputError, UsageError
from medseg.readers.cases import find_cases, load_case
from medseg.readers.options import ReadOptions
from medseg.volume import Volume
from medseg.workflows.case_run import CaseResult, run_case
from medseg.workflows.compute import computing
from medseg.workflows.engine import engine_device
from medseg.workflows.identity.cases import identify
from medseg.workflows.identity.guard import guarded
from medseg.workflows.identity.teller import plain
from medseg.workflows.instance_samples import check_instance_method
from medseg.workflows.layout import CaseFiles
from medseg.workflows.lock import output_lock
from medseg.workflows.method import parse_method
from medseg.workflows.resume import open_folder
from medseg.workflows.sampling import check_method
from medseg.workflows.settings import Settings
from medseg.workflows.stage import stage
from medseg.workflows.view import open_result, what_to_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from medseg.workflows.identity.teller import Teller
    from medseg.workflows.measure import Measurement


class Result:
    """A segmented case.

    Attributes:
        segmentation: label map (I, J, K) on the image's own grid, with `labels` saying what its values mean.
        instances: map of ids on that grid, of a bundle that finds instances; else None.
        measurements: voxels, mL and flags of every structure.
        record: versions, hashes, parameters, decisions and timings.
        uncertainty: 'entropy' and 'mutual_information' -> volumes in [0, 1] on the image's grid; {} without.
        outside_domain: what lies outside the bundle's training data, in words; () when nothing does.
        warnings: what deserves a second look.
    """

    def __init__(self, case: CaseResult) -> None:
        self._case = case
        self.name: str = case.name
        self.image: Volume = case.image
        self.segmentation: Volume = case.segmentation
        self.instances: Volume | None = None if case.instances is None else case.instances.ids
        self.measurements: tuple[Measurement, ...] = case.measurements
        self.record: Mapping[str, Any] = case.record
        self.outside_domain: tuple[str, ...] = tuple(violation.message for violation in case.outside_domain)
        self.warnings: tuple[str, ...] = case.notes
        maps = {} if case.uncertain is None else case.uncertain.maps
        affine = case.segmentation.affine
        self.uncertainty: Mapping[str, Volume] = {key: Volume(array, affine) for key, array in maps.items()}

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the case's files into `folder`, as `medseg predict` does; returns it.

        Raises:
            OutputError: MS-O301 the folder is in use, MS-O303 it is not empty and `overwrite` is off.
        """
        place = Path(folder).absolute()
        with output_lock(place) as work:
            open_folder(place, {}, resume=False, overwrite=overwrite)
            self.record = stage(self._case, work)
            CaseFiles(place.parent, place.name).publish(work)
        return place

    def view(self, folder: str | PathLike[str] | None = None) -> Path:
        """Open the case in 3D Slicer, or in the browser where there is no Slicer; returns the folder of its files.

        Args:
            folder: where they are saved; None: a new temporary folder, which stays.

        Raises:
            OutputError: see `save`.
            UsageError: MS-U345 neither program can be started.
        """
        place = self.save(Path(tempfile.mkdtemp(prefix="medseg-"), self.name) if folder is None else folder)
        open_result(what_to_view(place))
        return place

    def table(self) -> list[dict[str, object]]:
        """The measurements as rows, for `pandas.DataFrame(result.table())`."""
        return [m.row(outside_domain=self._case.mark) for m in self.measurements]

    def found(self) -> list[dict[str, object]]:
        """The instances by falling score, as in instances.json; [] of a bundle that finds none."""
        return [] if self._case.instances is None else [row.to_json() for row in self._case.instances.rows]

    def __repr__(self) -> str:
        found = ", ".join(f"{m.structure} {m.volume_ml:.2f} mL" for m in self.measurements)
        return f"Result({self.name!r}: {found}{' | OUTSIDE TRAINING DOMAIN' if self.outside_domain else ''})"


def predict(
    source: str | PathLike[str] | np.ndarray | Volume,
    bundle: str | PathLike[str] | Bundle,
    *,
    affine: np.ndarray | None = None,
    device: str = "auto",
    threads: int | None = None,
    outside_domain: bool = False,
    deterministic: bool = False,
    uncertainty: str | None = None,
    seed: int = 0,
    engine: str = "torch",
    progress: Callable[[int, int], None] | None = None,
    name: str | None = None,
    case_id: str = "auto",
    case_key: str | PathLike[str] | None = None,
    **options: Any,
) -> Result:
    """Segment one case.

    Args:
        source: a file or folder that holds exactly one case, a volume, or an array (I, J, K) or (C, I, J, K).
        bundle: a folder, a shipped name, or one that is loaded.
        affine: (4, 4) voxel index -> RAS mm; needed with an array, and only with an array.
        device: 'auto', 'cpu', 'cuda', 'cuda:1', 'mps'.
        threads: CPU threads, None for torch's own choice.
        outside_domain: segment a scan unlike the training data too, and mark the result.
        deterministic: only algorithms that give the same bits again.
        uncertainty: 'mc', 'mc:20', 'tta', 'ensemble' or 'ensemble+tta'; None: none.
        seed: of Monte Carlo dropout.
        engine: 'torch', or 'onnx' or 'openvino' for what `medseg bundle export` wrote.
        progress: called with (windows done, windows in all).
        name: of the case; by default its file name, or as `case_id` says.
        case_id: 'pseudonym' or 'name' of file and folder; 'auto': a pseudonym for a case from DICOM, by the key that
            lies beside it, and just 'case' where there is none: nothing is written here.
        case_key: the file with that key.
        options: fields of `medseg.readers.options.ReadOptions`, such as `series="3"`.

    Raises:
        UsageError: MS-U304 an array without an affine, or an affine without an array; MS-U311 to MS-U313 the engine is
            unknown or cannot do that; MS-U400 and MS-U401 `case_id` or the key.
        MissingExtraError: MS-U310 the engine is not installed.
        InputError: the source cannot be read; MS-O307 it holds several cases.
        DomainError: it lies outside what the bundle was trained on.
        BundleError: the bundle is refused, has no weights, or does not give a label map.
        MemoryLimitError: it does not fit into memory.
    """
    if isinstance(source, np.ndarray) != (affine is not None):
        raise UsageError(
            "MS-U304",
            "an array has no place in space without an affine" if affine is None else "only an array takes an affine",
            mend="pass affine=, a 4x4 matrix from voxel index to RAS mm, with an array and with nothing else",
        )
    method = None if uncertainty is None else parse_method(uncertainty, seed=seed)
    settings = Settings(
        engine_device(engine, device),
        threads,
        deterministic,
        outside_domain,
        options=ReadOptions(**options),
        method=method,
        engine=engine,
    )
    if not isinstance(bundle, Bundle):
        bundle = load_bundle(os.fspath(bundle), device=settings.device)
    bundle = on_engine(bundle, engine, threads=threads)
    if method is not None:
        (check_instance_method if bundle.finds_instances else check_method)(method, bundle)
    start = time.perf_counter()
    if isinstance(source, Volume):
        volume, teller = source, plain(())
    elif isinstance(source, np.ndarray):
        assert affine is not None
        volume, teller = Volume(source, np.asarray(affine, np.float64)), plain(())
    else:
        volume, teller = _read(
            Path(source), bundle, settings.options, case_id, None if case_key is None else Path(case_key)
        )
    seconds = time.perf_counter() - start
    named = name or (teller.case if teller.key is None or teller.key.file is not None else "") or "case"
    with computing(threads=threads, deterministic=deterministic), guarded(lambda: teller):
        return Result(
            run_case(
                named,
                volume,
                bundle,
                settings,
                roots=teller.roots,
                read_seconds=seconds,
                progress=progress,
                teller=replace(teller, case=named),
            )
        )


def _read(
    source: Path, bundle: Bundle, options: ReadOptions, case_id: str, key_file: Path | None
) -> tuple[Volume, Teller]:
    """The one case that `source` is, and how its files are told."""
    cases, identity = identify(
        lambda: find_cases(source, channels=bundle.channels, options=options),
        source,
        Path(os.devnull),
        mode=case_id,
        key_file=key_file,
        write=False,
    )
    if len(cases) != 1:
        names = ", ".join(case.name for case in cases[:5]) + (", ..." if len(cases) > 5 else "")
        raise InputError(
            "MS-O307",
            f"there are {len(cases)} cases here ({names}), medseg.predict takes one",
            mend="pass one of them, or use `medseg predict` for a folder of cases",
        )
    teller = identity.of(cases[0])
    with guarded(lambda: teller):
        return load_case(cases[0], bundle.channels), teller
