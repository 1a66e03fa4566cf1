"""The whole of a case, from `medseg.read` on, on real scans of every kind of container."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime

import numpy as np
import pydicom
import pytest

import medseg
from medseg.errors import OutputError
from medseg.geometry import Grid
from medseg.labels import LabelTable
from medseg.readers.dicom import read_one
from medseg.readers.options import ReadOptions
from medseg.volume import Volume
from medseg.writers.dicom import MAP_FILES, sources_of, write_dicom

BUNDLE = {"bundle_name": "toy_bundle", "bundle_version": "0.3.1"}


def case(image: Volume) -> tuple[Volume, dict[str, np.ndarray], list[dict[str, object]]]:
    """Labels, two maps and measurements of an image: thresholds of its values."""
    array = np.searchsorted(np.percentile(image.array, [70, 90]), image.array).astype(np.uint8)
    labels = Volume(array, image.affine, labels=LabelTable.from_names(["some", "more"]))
    entropy = np.random.default_rng(0).random(array.shape, np.float32)
    rows = [
        {"structure": x.name, "value": x.value, "volume_ml": float(np.sum(array == x.value)), "flags": ""}
        for x in labels.labels
    ]
    return labels, {"entropy": entropy, "mutual_information": entropy / 2}, rows


def test_all_files_of_a_case(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2)))
    labels, maps, rows = case(image)
    when = datetime(2026, 5, 4, 3, 2, 1)
    made = write_dicom(
        tmp_path / "dicom", labels, sources_of(image), maps=maps, rows=rows, warning="UNLIKE", when=when, **BUNDLE
    )
    names = ["seg.dcm", "uncertainty.dcm", "uncertainty_mutual_information.dcm", "measurements.dcm"]
    assert [path.name for path in made] == names
    assert sorted(p.name for p in (tmp_path / "dicom").iterdir()) == sorted(names)
    read = [pydicom.dcmread(path) for path in made]
    assert [int(d.SeriesNumber) for d in read] == [391, 392, 393, 394]
    assert [d.Modality for d in read] == ["SEG", "OT", "OT", "SR"]
    assert len({d.SeriesInstanceUID for d in read}) == len({d.SOPInstanceUID for d in read}) == 4
    assert {(d.ContentDate, d.ContentTime, d.InstanceCreationDate) for d in read} == {
        ("20260504", "030201", "20260504")
    }
    assert all("UNLIKE" in str(d.get("ContentDescription") or d.SeriesDescription) for d in read)
    assert [lab.errors(path) for path in made] == [[], [], [], []]


def test_two_runs_give_the_same_bytes(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2)))
    labels, maps, rows = case(image)
    for name in ("a", "b"):
        write_dicom(tmp_path / name, labels, sources_of(image), maps=maps, rows=rows, **BUNDLE)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_without_uncertainty_and_measurements_there_is_the_seg_alone(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(), SeriesNumber=None))
    labels, _, _ = case(image)
    (path,) = write_dicom(tmp_path / "dicom", labels, sources_of(image), kind="labelmap", **BUNDLE)
    seg = pydicom.dcmread(path)
    assert (seg.SegmentationType, int(seg.SeriesNumber)) == ("LABELMAP", 9991)


@pytest.mark.parametrize(
    ("name", "per_frame"),
    [
        ("mr_oblique_siemens", True),
        ("mr_epi_4d_ge_4", True),
        ("mr_enhanced_multiframe_siemens_xa10", True),
        ("mr_mosaic_siemens_AP_3", False),
        ("ct_tilt_pos16_philips_sub", False),
    ],
)
def test_real_series_from_reading_on(tmp_path, lab, data, name, per_frame):
    found = [v for v in medseg.read_all(data("dicom") / "dev" / name) if v.source.format == "dicom"]
    image = found[-1]
    labels, maps, rows = case(image)
    sources = sources_of(image)
    made = write_dicom(tmp_path / "dicom", labels, sources, maps=maps, rows=rows, **BUNDLE)
    assert [lab.errors(path) for path in made] == [[], [], [], []]
    back = medseg.read(made[0])
    np.testing.assert_array_equal(back.array, labels.array)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-3)
    told = pydicom.dcmread(made[0])
    named = {i.ReferencedSOPInstanceUID for s in told.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence}
    assert named == {pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in image.source.files}
    shown = [len(g.DerivationImageSequence) for g in told.PerFrameFunctionalGroupsSequence]
    assert set(shown) == ({1} if per_frame else {0})
    seen = lab.parametric_map(made[1], tmp_path / "out")
    index = np.stack(np.meshgrid(*map(np.arange, seen.array.shape), indexing="ij"), axis=-1)
    at = np.round(image.grid.to_index(Grid(seen.array.shape, seen.affine).to_world(index))).astype(int)
    i, j, k = np.moveaxis(at, -1, 0)
    np.testing.assert_array_equal(seen.array, maps["entropy"][i, j, k])


def test_frames_of_one_instant_are_named_and_no_other(tmp_path, data):
    place = data("dicom") / "dev" / "mr_enhanced_multiframe_siemens_xa10"
    image = next(v for v in medseg.read_all(place) if v.source.format == "dicom")
    labels, _, _ = case(image)
    (path,) = write_dicom(tmp_path / "dicom", labels, sources_of(image), **BUNDLE)
    source = pydicom.dcmread(image.source.files[0])
    frames = source.PerFrameFunctionalGroupsSequence
    for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        number = int(item.ReferencedFrameNumber)
        assert number in image.source.details["frames"][0]
        np.testing.assert_allclose(
            [float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient],
            [float(x) for x in frames[number - 1].PlanePositionSequence[0].ImagePositionPatient],
            atol=1e-3,
        )


def test_a_filled_gap_names_no_source_and_its_neighbours_do(tmp_path, lab):
    folder = lab.series(tmp_path / "in", lab.affine_lps(2))
    (folder / "IM003").unlink()
    image = read_one(folder, ReadOptions(allow_gaps=True))
    labels = Volume(np.ones(image.array.shape, np.uint8), image.affine, labels=LabelTable.from_names(["all"]))
    (path,) = write_dicom(tmp_path / "dicom", labels, sources_of(image), **BUNDLE)
    groups = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    assert sorted(len(g.DerivationImageSequence) for g in groups) == [0, 1, 1, 1, 1, 1, 1]


def test_all_are_written_or_none(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    labels, maps, rows = case(image)
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "measurements.dcm").mkdir()  # a folder stands where the last file should
    with pytest.raises(OutputError, match="MS-O10"):
        write_dicom(tmp_path / "dicom", labels, sources_of(image), maps=maps, rows=rows, **BUNDLE)
    assert [p.name for p in (tmp_path / "dicom").iterdir()] == ["measurements.dcm"]


def test_map_files_bear_no_word_that_3d_slicer_takes_for_a_label_map():
    assert not any(word in name for name in MAP_FILES.values() for word in ("label", "seg"))


def test_loading_the_room_loads_neither_torch_nor_monai():
    code = "import sys, medseg.writers.dicom; print([m for m in ('torch', 'monai', 'SimpleITK') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
