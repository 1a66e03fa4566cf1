from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from medseg.errors import GeometryError, InputError
from medseg.geometry import Grid, corner_distance_mm, flip_ras_lps
from medseg.labels import Code
from medseg.readers.dicom import decoder, read_one
from medseg.readers.dicom.decoder import stop_decoder
from medseg.readers.dicom.seg import read_seg
from medseg.readers.options import ReadOptions


@pytest.fixture
def dev(data):
    return data("dicom") / "dev"


def itk(path):
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), Grid(image.GetSize(), flip_ras_lps(affine))


@pytest.mark.parametrize(
    ("seg", "nrrd"),
    [
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd"),
        ("liver.dcm", "liver_seg.nrrd"),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd"),
        ("sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd"),
    ],
)
def test_equals_what_dcmqi_makes_of_it(dev, seg, nrrd):
    root = dev / "dcmqi" / "segmentations"
    volume = read_seg(root / seg)
    expected, grid = itk(root / nrrd)
    # dcmqi fills a left-out frame with PixelPaddingValue 5, which is no segment of that file.
    np.testing.assert_array_equal(volume.array, np.where(expected == 5, 0, expected))
    assert corner_distance_mm(volume.grid, grid) < 1e-3
    assert [(x.value, x.name, x.type) for x in volume.labels] == [(1, "Liver", Code(*code(root / seg)))]
    assert volume.labels.by_value[1].colour == (221, 130, 101)


def code(path):
    item = pydicom.dcmread(path, force=True).SegmentSequence[-1].SegmentedPropertyTypeCodeSequence[0]
    return item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning


def test_lies_on_the_grid_of_its_image(dev):
    root = dev / "dcmqi" / "segmentations" / "24x38x3"
    image = read_one(root / "image", ReadOptions())
    seg = read_seg(root / "seg" / "label.seg")
    assert seg.array.shape == image.array.shape
    assert corner_distance_mm(seg.grid, image.grid) < 1e-3


def test_overlapping_segments_are_refused_by_name_and_read_apart(dev):
    path = dev / "dcmqi" / "segmentations" / "partial_overlaps.dcm"
    with pytest.raises(InputError, match=r"MS-D305.*'GREEN' and 'ORANGE' overlap in 3017 voxels"):
        read_seg(path)
    expected, _ = itk(path.with_name("partial_overlaps-1.nrrd"))
    some = read_seg(path, segments=["GREEN", 4, "DARK_BLUE"])
    np.testing.assert_array_equal(some.array, expected)
    assert [x.name for x in some.labels] == ["GREEN", "LIGHT_BLUE", "DARK_BLUE"]
    with pytest.raises(InputError, match=r"MS-D306.*no segment RED in it; it holds 1 'GREEN'"):
        read_seg(path, segments=["RED"])
    with pytest.raises(InputError, match="--segments GREEN and --segments ORANGE"):
        read_seg(path)
    np.testing.assert_array_equal(read_seg(path, ReadOptions(segments="GREEN,4,DARK_BLUE")).array, expected)


def test_fractional_is_cut_at_half_and_recorded(dev):
    path = dev / "highdicom_test_files" / "seg_image_ct_true_fractional.dcm"
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array >= 0.5 * dataset.MaximumFractionalValue
    volume = read_seg(path)
    assert int((volume.array == 1).sum()) == int(frames.sum())
    (decision,) = volume.source.decisions
    assert (decision.code, decision.warning) == ("MS-D310", True)
    assert "661 lie between" in decision.message


@pytest.mark.parametrize(
    ("name", "error", "match"),
    [
        ("seg_image_sm_dots_tiled_full.dcm", InputError, "MS-D302.*microscopy"),
        ("seg_image_sm_control_labelmap.dcm", InputError, "MS-D302.*microscopy"),
        ("seg_image_cr_binary.dcm", GeometryError, "MS-D303.*projection"),
        ("ct_image.dcm", InputError, "MS-D301.*no segmentation"),
        ("frame_rgb.jpeg", InputError, "MS-D301"),
    ],
)
def test_what_is_no_segmentation_of_a_volume_is_refused(dev, name, error, match):
    with pytest.raises(error, match=match):
        read_seg(dev / "highdicom_test_files" / name)


def test_big_endian_is_refused_with_a_way_out(dev):
    with pytest.raises(InputError, match=r"MS-D301.*little endian"):
        read_seg(dev / "pydicom_test_files" / "liver_expb_1frame.dcm")


def series(orientation, n=6, step=2.5, position=(-31.0, 12.0, -60.0)):
    """An oblique CT of `n` slices, 14 rows x 10 columns, LPS affine (column, row, slice)."""
    row, col = np.reshape(orientation, (2, 3))
    normal = np.cross(row, col)
    study, uid, frame = generate_uid(), generate_uid(), generate_uid()
    slices = []
    for k in range(n):
        d = pydicom.Dataset()
        d.file_meta = pydicom.dataset.FileMetaDataset()
        d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        d.SOPClassUID, d.SOPInstanceUID = pydicom.uid.CTImageStorage, generate_uid()
        d.StudyInstanceUID, d.SeriesInstanceUID, d.FrameOfReferenceUID = study, uid, frame
        d.PatientID = d.PatientName = d.PatientBirthDate = d.PatientSex = d.AccessionNumber = ""
        d.StudyID = d.StudyDate = d.StudyTime = d.ReferringPhysicianName = ""
        d.Modality, d.Rows, d.Columns, d.PixelSpacing, d.SliceThickness = "CT", 14, 10, [0.9, 0.7], step
        d.ImageOrientationPatient = [float(x) for x in orientation]
        d.ImagePositionPatient = [float(x) for x in np.array(position) + k * step * normal]
        slices.append(d)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2], affine[:3, 3] = 0.7 * row, 0.9 * col, step * normal, position
    return slices, affine


def segmentation(slices, array, kind, described, **given):
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Kidney,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
            display_color=hd.color.CIELabColor.from_rgb(*colour),
        )
        for number, name, colour in described
    ]
    return hd.seg.Segmentation(
        source_images=slices,
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
        **given,
    )


OBLIQUE = [0.954167, -0.208076, 0.215106, 0.278589, 0.880128, -0.3844]


def unit(orientation):
    row, col = np.reshape(orientation, (2, 3))
    row = row / np.linalg.norm(row)
    col = col - row * (row @ col)
    return [*row, *(col / np.linalg.norm(col))]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("orientation", [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1], unit(OBLIQUE)])
def test_round_trip_of_a_sparse_oblique_segmentation(tmp_path, kind, orientation):
    slices, affine = series(orientation)
    random = np.random.default_rng(3)
    array = random.integers(0, 3, (6, 14, 10)).astype(np.uint8)
    array[[0, 2, 5]] = 0  # frames that highdicom leaves out
    seg = segmentation(slices, array, kind, [(1, "left kidney", (200, 30, 60)), (2, "right kidney", (20, 130, 60))])
    seg.save_as(tmp_path / "seg.dcm")
    volume = read_seg(tmp_path / "seg.dcm")
    # Slices 1 to 4 come back: what is empty at the ends is no part of the file.
    np.testing.assert_array_equal(volume.array, array[1:5].transpose(2, 1, 0))
    expected = Grid((10, 14, 6), flip_ras_lps(affine)).crop((0, 0, 1), (10, 14, 5))
    assert corner_distance_mm(volume.grid, expected) < 1e-4
    assert [x.name for x in volume.labels] == ["left kidney", "right kidney"]
    for label, colour in zip(volume.labels, ((200, 30, 60), (20, 130, 60)), strict=True):
        assert np.abs(np.subtract(label.colour, colour)).max() <= 2
        assert label.type == Code("SCT", "64033007", "Kidney")
    assert volume.source.format == "dicom-seg"
    assert volume.source.frame_of_reference == slices[0].FrameOfReferenceUID
    assert volume.source.details["referenced_series"] == slices[0].SeriesInstanceUID


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("LABELMAP", RLELossless),
        ("LABELMAP", JPEGLSLossless),
        ("LABELMAP", JPEG2000Lossless),
        ("FRACTIONAL", RLELossless),
        ("BINARY", ExplicitVRLittleEndian),
    ],
)
def test_compressed_frames_are_decoded_in_the_child_alone(tmp_path, monkeypatch, kind, syntax):
    slices, _ = series([1, 0, 0, 0, 1, 0])
    random = np.random.default_rng(3)
    array = random.integers(0, 2, (6, 14, 10)).astype(np.uint8)
    shape = (6, 64, 64) if syntax == JPEG2000Lossless else array.shape
    for one in slices:
        one.Rows, one.Columns = shape[1:]
    array = np.pad(array, [(0, 0), (0, shape[1] - 14), (0, shape[2] - 10)])
    given = {} if syntax == ExplicitVRLittleEndian else {"transfer_syntax_uid": syntax}
    seg = segmentation(slices, array.copy(), kind, [(1, "left kidney", (200, 30, 60))], **given)
    seg.save_as(tmp_path / "seg.dcm")
    stop_decoder()

    def native(self, *args, given=pydicom.pixels.decoders.base.Decoder.as_array, **kwargs):
        assert not self.UID.is_compressed, "compressed bytes were given to a decoder in this process"
        return given(self, *args, **kwargs)

    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "as_array", native)
    volume = read_seg(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(volume.array, array.transpose(2, 1, 0))
    assert (decoder._child is not None) == (kind != "BINARY")


def test_left_and_right_of_one_type_are_mirrors_and_equal_names_are_told_apart(tmp_path):
    slices, _ = series([1, 0, 0, 0, 1, 0])
    array = np.ones((6, 14, 10), np.uint8)
    array[:, 7:] = 2
    seg = segmentation(slices, array, "BINARY", [(1, "kidney", (200, 30, 60)), (2, "kidney", (20, 130, 60))])
    for item, side in zip(seg.SegmentSequence, (codes.SCT.Left, codes.SCT.Right), strict=True):
        side_item = hd.sr.CodedConcept.from_code(side)
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side_item]
    seg.save_as(tmp_path / "seg.dcm")
    left, right = read_seg(tmp_path / "seg.dcm").labels
    assert (left.name, left.mirror, left.modifier.meaning) == ("kidney", "kidney (2)", "Left")
    assert (right.name, right.mirror) == ("kidney (2)", "kidney")


def test_frames_off_the_lattice_are_refused(tmp_path):
    slices, _ = series([1, 0, 0, 0, 1, 0])
    seg = segmentation(slices, np.ones((6, 14, 10), np.uint8), "BINARY", [(1, "kidney", (200, 30, 60))])
    plane = seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
    plane.ImagePositionPatient = [x + 1.1 for x in plane.ImagePositionPatient]
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(GeometryError, match=r"MS-D304.*no regular lattice"):
        read_seg(tmp_path / "seg.dcm")


def test_more_voxels_than_allowed_are_refused_before_reading(dev):
    with pytest.raises(InputError, match="MS-F113"):
        read_seg(dev / "dcmqi" / "segmentations" / "liver.dcm", ReadOptions(max_voxels=1000))


@pytest.mark.parametrize(
    ("tag", "value"),
    [("SegmentationType", "\7INARY"), ("BitsAllocated", 13064), ("PixelData", b""), ("NumberOfFrames", 2), ("Rows", 4)],
)
def test_a_damaged_segmentation_is_an_error_of_ours(dev, tmp_path, tag, value):
    seg = pydicom.dcmread(dev / "highdicom_test_files" / "seg_image_ct_binary_fractional.dcm")
    setattr(seg, tag, value)
    seg.save_as(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match=r"MS-D301.*cannot be parsed"):
        read_seg(tmp_path / "seg.dcm")
