from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest

import medseg
from medseg.errors import InputError, OutputError, UsageError
from medseg.geometry import Grid, lattice_offset
from medseg.labels import LabelTable
from medseg.volume import Volume
from medseg.writers.dicom import seg as module
from medseg.writers.dicom import sources_of, write_dicom_seg

#: Orders and directions of axes, one for each of the random rotations.
TURNS = ["RAS", "LPS", "SAR", "IPL", "PIR", "ASL", "LIA", "RPI", "SRP", "AIR", "LAS", "PLS", "ILA", "SLA", "PRI"]


def placed(back, whole):
    """A read segmentation on the whole grid: readers give the part between its first and last slice."""
    start = lattice_offset(whole.grid, back.grid, tolerance_mm=1e-3)
    assert start is not None
    out = np.zeros(whole.array.shape, back.array.dtype)
    out[tuple(slice(s, s + n) for s, n in zip(start, back.array.shape, strict=True))] = back.array
    return out


@pytest.mark.parametrize("seed", range(15))
def test_dcmqi_sees_every_voxel_at_its_place(tmp_path, lab, seed):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(seed)))
    labels = lab.label_map(image, seed=seed)
    turned = labels.reoriented(TURNS[seed])  # axes in any order and direction
    kind = ("binary", "labelmap")[seed % 5 == 4]
    write_dicom_seg(tmp_path / "seg.dcm", turned, sources_of(image), lab.MAKER, kind=kind)
    found = lab.segments(tmp_path / "seg.dcm", tmp_path / "out")
    assert sorted(found) == [1, 2, 3]
    for number, mask in found.items():
        meant = labels.array == number
        assert int(mask.array.sum()) == int(meant.sum()) > 0
        off = lab.centroid_mm(mask.array, mask.affine) - lab.centroid_mm(meant, image.affine)
        assert np.abs(off).max() < 1e-3
        world = Grid(mask.array.shape, mask.affine).to_world(np.argwhere(mask.array))
        index = image.grid.to_index(world)
        assert np.abs(index - np.round(index)).max() < 1e-3
        assert meant[tuple(np.round(index).astype(int).T)].all()


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("axcodes", ["LPS", "SAR", "IPL"])
def test_our_own_reader_reads_the_same_labels(tmp_path, lab, kind, axcodes):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(4)))
    labels = lab.label_map(image)
    write_dicom_seg(tmp_path / "seg.dcm", labels.reoriented(axcodes), sources_of(image), lab.MAKER, kind=kind)
    back = medseg.read(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(placed(back, labels), labels.array)
    for was, now in zip(lab.TABLE, back.labels, strict=True):
        assert (was.value, was.name, was.modifier) == (now.value, now.name, now.modifier)
        assert np.abs(np.subtract(was.colour, now.colour)).max() <= 2  # CIELab in 16 bits
        assert (was.type is None and now.type.meaning == "Tissue") or was.type == now.type
    assert back.source.details["referenced_series"] == image.source.series_uid
    assert back.source.frame_of_reference == image.source.frame_of_reference


def test_no_error_in_dciodvfy(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2)))
    write_dicom_seg(tmp_path / "seg.dcm", lab.label_map(image), sources_of(image), lab.MAKER)
    assert lab.errors(tmp_path / "seg.dcm") == []


def test_of_a_label_map_dciodvfy_says_only_that_it_does_not_know_it(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2)))
    write_dicom_seg(tmp_path / "seg.dcm", lab.label_map(image), sources_of(image), lab.MAKER, kind="labelmap")
    assert lab.errors(tmp_path / "seg.dcm") == [
        "Error - SegmentNumber not monotonically increasing from one by one - "
        "have SegmentSequence item number 1 (from one) with SegmentNumber of 0",
        "Error - Information Object Not found",
    ]


def test_patient_study_and_each_source_slice_are_named(tmp_path, lab):
    folder = lab.series(tmp_path / "in", lab.affine_lps(3))
    image = medseg.read(folder)
    labels = lab.label_map(image)
    write_dicom_seg(tmp_path / "seg.dcm", labels, sources_of(image), lab.MAKER, series_number=17)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    slices = {tuple(np.round(d.ImagePositionPatient, 6)): d for d in map(pydicom.dcmread, folder.iterdir())}
    first = next(iter(slices.values()))
    for name in ("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
        assert str(seg[name].value) == str(first[name].value), name
    assert (seg.SpecificCharacterSet, str(seg.PatientName)) == ("ISO_IR 192", "Müller^Jörg")
    assert (seg.SeriesNumber, seg.ContentDate, seg.ContentTime) == (17, "20200103", "130405")
    (listed,) = seg.ReferencedSeriesSequence
    assert {i.ReferencedSOPInstanceUID for i in listed.ReferencedInstanceSequence} == {
        d.SOPInstanceUID for d in slices.values()
    }
    for group in seg.PerFrameFunctionalGroupsSequence:
        (image_item,) = group.DerivationImageSequence[0].SourceImageSequence
        place = tuple(np.round(group.PlanePositionSequence[0].ImagePositionPatient, 6))
        assert image_item.ReferencedSOPInstanceUID == slices[place].SOPInstanceUID


def test_algorithm_tracking_and_warning(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    maker = replace(lab.MAKER, warning="OUTSIDE TRAINING DOMAIN: spacing")
    seg = write_dicom_seg(tmp_path / "seg.dcm", lab.label_map(image), sources_of(image), maker)
    assert seg.ContentDescription == "OUTSIDE TRAINING DOMAIN: spacing"
    algorithms = [s.SegmentationAlgorithmIdentificationSequence[0] for s in seg.SegmentSequence]
    assert {(a.AlgorithmName, a.AlgorithmVersion) for a in algorithms} == {("toy_bundle", "0.3.1")}
    assert [s.TrackingID for s in seg.SegmentSequence] == [f"toy_bundle: {x.name}" for x in lab.TABLE]
    assert len({s.TrackingUID for s in seg.SegmentSequence}) == 3


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_the_same_run_gives_the_same_bytes_and_another_label_another_uid(tmp_path, lab, kind):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(1)))
    labels = lab.label_map(image)
    made = [write_dicom_seg(tmp_path / f"{n}.dcm", labels, sources_of(image), lab.MAKER, kind=kind) for n in (1, 2)]
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    other = Volume(np.where(labels.array == 3, 2, labels.array), labels.affine, labels=labels.labels)
    third = write_dicom_seg(tmp_path / "3.dcm", other, sources_of(image), lab.MAKER, kind=kind)
    assert third.SOPInstanceUID != made[0].SOPInstanceUID
    assert third.SeriesInstanceUID != made[0].SeriesInstanceUID


def test_values_with_gaps_are_renumbered_as_bits_and_kept_in_a_label_map(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    table = LabelTable.from_json([{"value": 4, "name": "a"}, {"value": 300, "name": "b"}])
    array = lab.label_map(image).array.astype(np.uint16)
    array = np.select([array == 1, array == 2], [4, 300], 0).astype(np.uint16)
    labels = Volume(array, image.affine, labels=table)
    seg = write_dicom_seg(tmp_path / "bits.dcm", labels, sources_of(image), lab.MAKER)
    assert [(s.SegmentNumber, s.SegmentLabel, s.SegmentDescription) for s in seg.SegmentSequence] == [
        (1, "a", "label value 4 of the label map"),
        (2, "b", "label value 300 of the label map"),
    ]
    np.testing.assert_array_equal(
        placed(medseg.read(tmp_path / "bits.dcm"), labels), np.select([array == 4, array == 300], [1, 2])
    )
    write_dicom_seg(tmp_path / "map.dcm", labels, sources_of(image), lab.MAKER, kind="labelmap")
    np.testing.assert_array_equal(placed(medseg.read(tmp_path / "map.dcm"), labels), array)


NESTED = LabelTable.from_json(
    [{"value": 1, "name": "whole", "region": [1, 2, 3]}, {"value": 2, "name": "core", "region": [2, 3]}]
)


def test_nested_labels_become_overlapping_segments(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(6)))
    labels = lab.label_map(image, table=NESTED)
    seg = write_dicom_seg(tmp_path / "seg.dcm", labels, sources_of(image), lab.MAKER)
    assert seg.SegmentsOverlap == "YES"
    assert lab.errors(tmp_path / "seg.dcm") == []
    for name, values in (("whole", (1, 2, 3)), ("core", (2, 3))):
        back = medseg.read(tmp_path / "seg.dcm", segments=name)
        np.testing.assert_array_equal(placed(back, labels) > 0, np.isin(labels.array, values))
    with pytest.raises(UsageError, match=r"MS-D406.*whole, core contain other structures"):
        write_dicom_seg(tmp_path / "map.dcm", labels, sources_of(image), lab.MAKER, kind="labelmap")
    assert not (tmp_path / "map.dcm").exists()


def test_a_value_that_the_table_lacks_is_a_segment_too(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    labels = lab.label_map(image, table=LabelTable.from_names(["a", "b"]))
    write_dicom_seg(tmp_path / "seg.dcm", labels, sources_of(image), lab.MAKER)
    back = medseg.read(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(placed(back, labels), labels.array)
    assert [x.name for x in back.labels] == ["a", "b", "label 3"]


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("plane", [None, 0, 3, 6])
def test_one_slice_or_none_keeps_its_thickness_in_dcmqi(tmp_path, lab, kind, plane):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(5)))
    array = np.zeros(image.array.shape, np.uint8)
    if plane is not None:
        array[3:6, 4:9, plane] = 2
    labels = Volume(array, image.affine, labels=lab.TABLE)
    write_dicom_seg(tmp_path / "seg.dcm", labels, sources_of(image), lab.MAKER, kind=kind)
    back = medseg.read(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(placed(back, labels), array)
    if plane is not None:
        mask = lab.segments(tmp_path / "seg.dcm", tmp_path / "out")[2]
        assert mask.spacing_mm == pytest.approx(image.spacing_mm, abs=1e-6)
        assert np.abs(lab.centroid_mm(mask.array, mask.affine) - lab.centroid_mm(array == 2, image.affine)).max() < 1e-3


def test_on_a_resampled_grid_the_sources_are_named_and_no_frame_claims_one(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(8)))
    affine = image.affine.copy()
    affine[:3, :3] = lab.turn(9) @ affine[:3, :3]  # oblique to the image
    labels = lab.label_map(Volume(np.zeros((9, 8, 10)), affine))
    seg = write_dicom_seg(tmp_path / "seg.dcm", labels, sources_of(image), lab.MAKER)
    assert len(seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 7
    assert not any(g.DerivationImageSequence for g in seg.PerFrameFunctionalGroupsSequence)
    assert lab.errors(tmp_path / "seg.dcm") == []
    for number, mask in lab.segments(tmp_path / "seg.dcm", tmp_path / "out").items():
        off = lab.centroid_mm(mask.array, mask.affine) - lab.centroid_mm(labels.array == number, affine)
        assert np.abs(off).max() < 1e-3


def test_an_empty_map_without_structures_is_refused(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    with pytest.raises(InputError, match="MS-D407"):
        write_dicom_seg(
            tmp_path / "s.dcm", Volume(np.zeros((3, 3, 3), np.uint8), image.affine), sources_of(image), lab.MAKER
        )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda seg: setattr(seg, "PixelData", bytes(len(seg.PixelData))), "voxels of slice . differ"),
        (lambda seg: move(seg, 0.002), "lies 0.002 mm off"),
        (lambda seg: setattr(seg.SegmentSequence[0], "SegmentLabel", "liver"), "other numbers or names"),
        (lambda seg: seg.PerFrameFunctionalGroupsSequence[0].pop("FrameContentSequence"), "."),
    ],
)
def test_what_reads_back_otherwise_is_not_kept(tmp_path, lab, monkeypatch, spoil, words):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    whole = module.settle

    def spoiled(dataset, *args):
        whole(dataset, *args)
        spoil(dataset)

    monkeypatch.setattr(module, "settle", spoiled)
    with pytest.raises(OutputError, match=rf"MS-O401.*{words}"):
        write_dicom_seg(tmp_path / "out" / "seg.dcm", lab.label_map(image), sources_of(image), lab.MAKER)
    assert list((tmp_path / "out").iterdir()) == []


def move(seg, mm):
    plane = seg.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
    x, y, z = plane.ImagePositionPatient
    plane.ImagePositionPatient = [x, y, z + mm]
