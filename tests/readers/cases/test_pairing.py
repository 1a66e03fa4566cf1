from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.errors import GeometryError, InputError
from medseg.geometry import same_space
from medseg.readers.cases import Case, find_cases, load_case, load_label
from medseg.readers.cases.pairing import on_grid_of, whole_numbers
from medseg.volume import Volume

SHAPE = (9, 10, 11)


def place(shift=(0.0, 0.0, 0.0)):
    turn = 0.4
    affine = np.eye(4)
    affine[:3, :3] = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]) @ np.diag(
        [0.8, 0.9, 2.5]
    )
    affine[:3, 3] = (-30, 12, 7)
    affine[:3, 3] += affine[:3, :3] @ np.asarray(shift, float)
    return affine


IMAGE = Volume(np.zeros((1, *SHAPE), np.int16), place())
LABELS = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)


def load(tmp_path, array, affine):
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(array, affine), path)
    return load_label(Case("a", (tmp_path / "a.nii.gz",), path), IMAGE)


def test_labels_on_the_image_come_back_as_they_are(tmp_path):
    label = load(tmp_path, LABELS, place())
    np.testing.assert_array_equal(label.array, LABELS)
    assert label.array.dtype == np.uint8
    np.testing.assert_array_equal(label.affine, IMAGE.affine)
    assert label.source.decisions == ()


@pytest.mark.parametrize("axcodes", ["LPS", "SAR", "IPL"])
def test_another_axis_order_is_turned_exactly(tmp_path, axcodes):
    turned = Volume(LABELS, place()).reoriented(axcodes)
    label = load(tmp_path, turned.array, turned.affine)
    np.testing.assert_array_equal(label.array, LABELS)
    assert [(d.code, d.warning) for d in label.source.decisions] == [("MS-G205", False)]


@given(
    st.tuples(*[st.integers(-4, 8)] * 3), st.tuples(*[st.integers(1, 12)] * 3), st.sampled_from(["RAS", "LPI", "SAR"])
)
def test_another_extent_of_the_lattice_is_pasted_or_lies_outside(offset, shape, axcodes):
    array = np.random.default_rng(2).integers(1, 4, shape).astype(np.uint8)
    label = Volume(array, place(offset)).reoriented(axcodes)
    expected = np.zeros(SHAPE, np.uint8)
    for index in np.ndindex(*shape):
        at = np.add(index, offset)
        if (at >= 0).all() and (at < SHAPE).all():
            expected[tuple(at)] = array[index]
    if not expected.any():
        with pytest.raises(GeometryError, match=r"MS-G103.*wholly outside"):
            on_grid_of(IMAGE.grid, label, "x")
        return
    found = on_grid_of(IMAGE.grid, label, "x")
    np.testing.assert_array_equal(found.array, expected)
    assert same_space(found.grid, IMAGE.grid)
    codes = [d.code for d in found.source.decisions]
    lost = array.size - np.count_nonzero(expected)
    pasted = offset != (0, 0, 0) or shape != SHAPE
    assert ("MS-G207" in codes) == (lost > 0)
    assert ("MS-G204" in codes) == (pasted and lost == 0)
    if lost:
        assert f"{lost} labelled voxels lie outside" in found.source.decisions[-1].message


def test_what_slicer_saves_is_pasted(tmp_path):
    # 3D Slicer writes the extent of the segments only, in LPS.
    cropped = LABELS[2:7, 1:9, 3:10]
    image = sitk.GetImageFromArray(cropped.transpose(2, 1, 0))
    lps = np.diag([-1, -1, 1, 1]) @ place((2, 1, 3))
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(image, str(tmp_path / "a.seg.nrrd"))
    label = load_label(Case("a", (), tmp_path / "a.seg.nrrd"), IMAGE)
    expected = np.zeros_like(LABELS)
    expected[2:7, 1:9, 3:10] = cropped
    np.testing.assert_array_equal(label.array, expected)
    assert "MS-G204" in [d.code for d in label.source.decisions]


def test_rounding_in_the_header_is_accepted_and_recorded(tmp_path):
    affine = place()
    affine[0, 3] += 0.006
    label = load(tmp_path, LABELS, affine)
    np.testing.assert_array_equal(label.array, LABELS)
    assert [d.code for d in label.source.decisions] == ["MS-G208"]
    assert "0.006 mm" in label.source.decisions[0].message


def test_elsewhere_is_refused_with_the_distance(tmp_path):
    affine = place()
    affine[0, 3] += 0.3
    with pytest.raises(GeometryError, match=r"MS-G102.*label\.nii\.gz.*corners lie 0\.3 mm from the image's"):
        load(tmp_path, LABELS, affine)
    coarse = place() @ np.diag([2, 2, 1, 1])
    with pytest.raises(
        GeometryError, match=r"MS-G102.*5 x 5 x 11 voxels of 1\.6 x 1\.8 x 2\.5 mm, the image 9 x 10 x 11"
    ):
        load(tmp_path, LABELS[::2, ::2], coarse)


def test_interpolated_labels_are_refused_with_values_and_counts(tmp_path):
    array = LABELS.astype(np.float32)
    array[0, 0, :3] = 0.5
    array[1, 1, 1] = 1.25
    with pytest.raises(InputError, match=r"MS-C111.*0\.5 \(3 voxels\), 1\.25 \(1 voxels\)"):
        load(tmp_path, array, place())


def test_negative_and_4d_labels_are_refused(tmp_path):
    array = LABELS.astype(np.int16)
    array[0, 0, :2] = -1
    with pytest.raises(InputError, match=r"MS-C112.*-1 \(2 voxels\)"):
        load(tmp_path, array, place())
    with pytest.raises(InputError, match=r"MS-C113.*holds 2 volumes"):
        load(tmp_path, np.stack([LABELS, LABELS], axis=-1), place())


def test_a_case_without_label_map(tmp_path):
    with pytest.raises(InputError, match=r"MS-C110.*case 'a' has no label map"):
        load_label(Case("a", (tmp_path / "a.nii",)), IMAGE)


@given(arrays(np.int64, (2, 3, 4), elements=st.integers(0, 2**53)), st.sampled_from([np.int64, np.float64, np.uint64]))
def test_whole_numbers_are_exact_and_small(array, dtype):
    found = whole_numbers(array.astype(dtype), "x")
    assert found.tolist() == array.tolist()
    assert found.dtype == np.min_scalar_type(int(array.max()))


def test_large_label_values_are_exact(tmp_path):
    array = LABELS.astype(np.int32)
    array[3, 3, 3] = 2**24 + 1
    assert load(tmp_path, array, place()).array[3, 3, 3] == 2**24 + 1


def test_float_files_with_whole_numbers_are_labels(tmp_path):
    label = load(tmp_path, LABELS.astype(np.float64), place())
    np.testing.assert_array_equal(label.array, LABELS)
    assert label.array.dtype == np.uint8


def test_every_hippocampus_label_lies_on_its_image(data):
    for case in find_cases(data("hippocampus"), channels=("T1w",), need_labels=True)[::20]:
        image = load_case(case, ("T1w",))
        label = load_label(case, image)
        assert label.array.shape == image.array.shape[1:]
        assert set(np.unique(label.array)) <= {0, 1, 2}
        assert label.source.decisions == ()


def test_a_dicom_segmentation_is_the_label_of_a_dicom_case(data):
    root = data("dicom") / "dev" / "dcmqi" / "segmentations"
    case = Case("a", (root / "24x38x3" / "image",), root / "24x38x3" / "seg" / "label.seg")
    image = load_case(case)
    label = load_label(case, image)
    assert label.array.shape == image.array.shape[1:]
    assert int(label.array.sum()) == 315
    assert label.labels.by_value[1].name == "Liver"
    sparse = load_label(Case("b", case.images, root / "sparse-labelmap-noppv.dcm"), image)
    assert int(sparse.array.sum()) == 630


def test_a_structure_set_is_the_label_of_an_image(tmp_path):
    path = tmp_path / "rs.dcm"
    corners = np.array([[1.5, 1.5, 4], [5.5, 1.5, 4], [5.5, 5.5, 4], [1.5, 5.5, 4]])
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    d.SOPClassUID, d.SOPInstanceUID = pydicom.uid.RTStructureSetStorage, pydicom.uid.generate_uid()
    d.Modality, d.StructureSetROISequence, d.ROIContourSequence = "RTSTRUCT", [pydicom.Dataset()], [pydicom.Dataset()]
    d.StructureSetROISequence[0].ROINumber, d.StructureSetROISequence[0].ROIName = 1, "organ"
    part = pydicom.Dataset()
    part.ContourGeometricType = "CLOSED_PLANAR"
    part.ContourData = [f"{x:.9g}" for x in (IMAGE.grid.to_world(corners) * [-1, -1, 1]).ravel()]
    d.ROIContourSequence[0].ReferencedROINumber, d.ROIContourSequence[0].ContourSequence = 1, [part]
    d.save_as(path, enforce_file_format=True)
    label = load_label(Case("a", (), path), IMAGE)
    expected = np.zeros(SHAPE, np.uint8)
    expected[2:6, 2:6, 4] = 1
    np.testing.assert_array_equal(label.array, expected)
    assert label.labels.by_value[1].name == "organ"
