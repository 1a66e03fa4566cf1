"""Real DICOM: each of the 109 cases of the oracle has a reviewed verdict in verdicts_dev.json, and keeps it.

exact      corners within 1e-3 mm of the oracle and the very same values
exact 4D   the same for every volume the series splits into
unpacked   mosaics: compared with dcm2niix below (the oracle saw one large slice)
resampled  the native corners agree; the volume itself lies on a recorded upright grid
label      a SEG or RTSTRUCT, for the readers of label objects
refused    with a code
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import GeometryError
from medseg.geometry import Grid, corner_distance_mm, flip_ras_lps
from medseg.readers.dicom import read_dicom
from medseg.readers.dicom.load import load_series
from medseg.readers.dicom.series import scan
from medseg.readers.options import ReadOptions
from medseg.volume import Volume

VERDICTS = json.loads(Path(__file__).with_name("verdicts_dev.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def oracle(data):
    return json.loads((data("dicom") / "oracle_dev.json").read_text(encoding="utf-8"))


def found(root: Path, key: str):
    """The series, objects and damaged files that one key of the oracle speaks of."""
    folder, _, tag = key.partition("#")
    suffix, _, file = tag.partition("/")
    path = root / folder / file if file else root / folder
    contents = scan(path, ReadOptions())
    series = [s for s in contents.series if s.uid.endswith(suffix)]
    objects = [o for o in contents.objects if (o[0].get("series_uid") or "").endswith(suffix)]
    return path, series, objects, contents.damaged


def corner_error_mm(affine_ras, entry) -> float:
    """Largest distance of a corner from the oracle's, whose keys are (slice, column, row) ends."""
    slices, rows, cols = entry["n_positions"], *entry["shape_slices_rows_cols"][1:]
    lps = flip_ras_lps(affine_ras)
    errors = []
    for ends, expected in entry["corner_centres_lps"].items():
        k, i, j = (int(e) * (n - 1) for e, n in zip(ends, (slices, cols, rows), strict=True))
        errors.append(np.abs((lps @ [i, j, k, 1])[:3] - expected).max())
    return max(errors)


def check_values(volumes: list[Volume], entry) -> None:
    values = np.concatenate([v.array.transpose(2, 1, 0) for v in volumes]).astype(np.float32)
    assert list(values.shape) == entry["shape_slices_rows_cols"]
    assert values.min() == entry["vmin"]
    assert values.max() == pytest.approx(entry["vmax"], rel=1e-7)
    assert values.mean(dtype=np.float64) == pytest.approx(entry["vmean"], rel=1e-5, abs=1e-5)
    if len(volumes) == 1:
        assert hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16] == entry["sha256_f32"]


@pytest.mark.parametrize("key", VERDICTS)
def test_verdict(data, oracle, key):
    expected, entry = VERDICTS[key], oracle[key]
    path, series, objects, damaged = found(data("dicom"), key)
    verdict = expected["verdict"]
    if verdict in ("refused", "label"):
        codes = {s.error.code for s in series if s.error} | {e.code for _, _, e in objects} | {e.code for e in damaged}
        kinds = {kind for _, kind, _ in objects}
        assert not [s for s in series if s.error is None]
        assert (
            (codes == {expected["code"]})
            if verdict == "refused"
            else kinds <= {"dicom-seg", "dicom-rtstruct"} and kinds
        )
        return
    assert not objects
    assert not damaged
    volumes = [load_series(s, path) for s in series]
    assert len(volumes) == expected.get("volumes", 1)
    assert sorted({d.code for v in volumes for d in v.source.decisions}) == expected["decisions"]
    if verdict == "unpacked":
        assert all(v.source.details["container"] == "mosaic" for v in volumes)
        return
    for volume in volumes:
        native = volume.source.details.get("native_affine_ras", volume.affine)
        assert corner_error_mm(np.array(native), entry) < 1e-3
    if verdict == "resampled":
        assert volumes[0].grid.shear_deg < 1e-6
        assert entry["stack_vs_normal_deg"] == pytest.approx(Grid((2, 2, 2), np.array(native)).shear_deg, abs=0.01)
    else:
        check_values(volumes, entry)


def test_every_case_has_a_verdict_and_the_table_can_be_read(oracle):
    assert set(VERDICTS) == set(oracle)
    counts: dict[str, int] = {}
    for key, row in VERDICTS.items():
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
        print(f"{row['verdict']:10} {row.get('code', ','.join(row.get('decisions', []))):32} {key}")  # noqa: T201
    assert counts == {"exact": 25, "exact 4D": 2, "unpacked": 4, "resampled": 1, "label": 18, "refused": 59}


@pytest.mark.parametrize(
    "case",
    [
        "mr_12bit_mosaic_unsigned_signed",
        "mr_enhanced_multiframe_siemens_xa10",
        "mr_epi_4d_ge_4",
        "mr_mosaic_AxAsc36mb2a",
        "mr_mosaic_corint36",
        "mr_mosaic_siemens_AP_3",
    ],
)
def test_voxels_and_places_equal_dcm2niix(data, case):
    folder = data("dicom") / "dev" / case
    references = []
    for file in sorted((folder / "ref_dcm2niix").glob("*.nii")):
        image = nib.nifti1.load(file)
        array = np.asanyarray(image.dataobj)
        array = array[..., None] if array.ndim == 3 else array
        references += [Volume(array[..., t], image.affine) for t in range(array.shape[3])]
    volumes = sorted(read_dicom(folder), key=lambda v: (v.source.series_number, v.source.details.get("index", 0)))
    assert len(volumes) == len(references)
    for volume, reference in zip(volumes, references, strict=True):
        ours, theirs = volume.reoriented("RAS"), reference.reoriented("RAS")
        assert np.array_equal(ours.array, theirs.array)
        assert corner_distance_mm(ours.grid, theirs.grid) < 1e-3


def test_nibabels_own_quirks(data, codes):
    folder = data("nifti_quirks") / "nibabel_dicom"
    # Its pixels were cut to 256 x 256 to save space: 48 tiles of the 7 x 7 it speaks of do not fit in there.
    with pytest.raises(GeometryError, match="7 x 7 tiles"):
        read_dicom(folder / "0.dcm")
    (rescaled,) = read_dicom(folder / "decimal_rescale.dcm")
    stored = (rescaled.array + 4096) / 2
    assert rescaled.array.dtype == np.float32
    assert np.array_equal(stored, np.round(stored))
    assert "MS-D209" in codes(rescaled)
