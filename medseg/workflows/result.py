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
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.bundle.load import Bundle, load_bundle
from medseg.errors import InputError, UsageError
from medseg.readers.cases import find_cases, load_case
from medseg.readers.options import ReadOptions
from medseg.volume import Volume
from medseg.workflows.case_run import CaseResult, run_case
from medseg.workflows.compute import computing
from medseg.workflows.engine import engine_device, with_engine
from medseg.workflows.instance_samples import check_instance_method
from medseg.workflows.layout import CaseFiles
from medseg.workflows.lock import output_lock
from medseg.workflows.resume import open_folder
from medseg.workflows.sampling import check_method, parse_method
from medseg.workflows.settings import Settings
from medseg.workflows.stage import stage
from medseg.workflows.view import open_result, what_to_view

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

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
        name: of the case; its file or folder name by default.
        options: fields of `medseg.readers.options.ReadOptions`, such as `series="3"`.

    Raises:
        UsageError: MS-U304 an array without an affine, or an affine without an array; MS-U311 to MS-U313 the engine is
            unknown or cannot do that.
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
    bundle = with_engine(bundle, engine, method, threads=threads)
    if method is not None:
        (check_instance_method if bundle.finds_instances else check_method)(method, bundle)
    start = time.perf_counter()
    found, volume, roots = _one(source, affine, bundle, settings.options)
    seconds = time.perf_counter() - start
    with computing(threads=threads, deterministic=deterministic):
        return Result(
            run_case(name or found, volume, bundle, settings, roots=roots, read_seconds=seconds, progress=progress)
        )


def _one(
    source: str | PathLike[str] | np.ndarray | Volume, affine: np.ndarray | None, bundle: Bundle, options: ReadOptions
) -> tuple[str, Volume, tuple[Path, ...]]:
    """Name, volume and files of the one case that `source` is."""
    if isinstance(source, Volume):
        return "case", source, ()
    if isinstance(source, np.ndarray):
        assert affine is not None
        return "case", Volume(source, np.asarray(affine, np.float64)), ()
    cases = find_cases(Path(source), channels=bundle.channels, options=options)
    if len(cases) != 1:
        names = ", ".join(case.name for case in cases[:5]) + (", ..." if len(cases) > 5 else "")
        raise InputError(
            "MS-O307",
            f"there are {len(cases)} cases here ({names}), medseg.predict takes one",
            file=str(source),
            mend="pass one of them, or use `medseg predict` for a folder of cases",
        )
    return cases[0].name, load_case(cases[0], bundle.channels), tuple(cases[0].images)
