from __future__ import annotations

import shutil

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as MplPath
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from skimage.measure import find_contours

from medseg.errors import GeometryError, InputError
from medseg.geometry import flip_ras_lps
from medseg.labels import Code
from medseg.readers.dicom import read_one
from medseg.readers.dicom.rtstruct import read_rtstruct
from medseg.readers.options import ReadOptions
from medseg.volume import Source, Volume

FRAME = "1.2.3.4.5"


def image(shape=(40, 50, 6), spacing=(0.8, 0.8, 3.0), turn=0.0, frame=FRAME):
    """An empty scan, oblique by `turn` about two axes."""
    c, s = np.cos(turn), np.sin(turn)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([-1, -1, 1]) @ np.diag(spacing)
    affine[:3, 3] = (31.5, -20.25, 110)
    return Volume(np.zeros(shape, np.int16), affine, Source(frame_of_reference=frame))


def contours_of(grid, outlines, k, axis=2):
    """(n, 2) pixel outlines in slice k -> contour data in LPS, as 16-character decimals like a planning system's."""
    found = []
    for outline in outlines:
        index = np.insert(np.asarray(outline, float), axis, k, axis=1)
        found.append(grid.to_world(index) @ flip_ras_lps(np.eye(4))[:3, :3])
    return found


def structure_set(path, rois, frame=FRAME, series=None):
    """Write an RTSTRUCT; `rois` is [(number, name, colour, [(type, points)])]."""
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = pydicom.uid.RTStructureSetStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.Modality, d.SeriesInstanceUID, d.SeriesNumber = "RTSTRUCT", generate_uid(), 9
    d.StructureSetROISequence, d.ROIContourSequence, d.RTROIObservationsSequence = [], [], []
    for number, name, colour, contours in rois:
        item = pydicom.Dataset()
        item.ROINumber, item.ROIName, item.ReferencedFrameOfReferenceUID = number, name, frame
        d.StructureSetROISequence.append(item)
        roi = pydicom.Dataset()
        roi.ReferencedROINumber, roi.ROIDisplayColor, roi.ContourSequence = number, list(colour), []
        for kind, points in contours:
            part = pydicom.Dataset()
            part.ContourGeometricType, part.NumberOfContourPoints = kind, len(points)
            part.ContourData = [f"{x:.10g}" for x in np.ravel(points)]
            roi.ContourSequence.append(part)
        d.ROIContourSequence.append(roi)
    if series:
        d.ReferencedFrameOfReferenceSequence = [pydicom.Dataset()]
        study, ref = pydicom.Dataset(), pydicom.Dataset()
        ref.SeriesInstanceUID = series
        study.RTReferencedSeriesSequence = [ref]
        d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence = [study]
    d.save_as(path, enforce_file_format=True)
    return path


def closed(points):
    return [("CLOSED_PLANAR", p) for p in points]


def square(low, high):
    return np.array([[low, low], [high, low], [high, high], [low, high]], float)


def circle(centre, radius, n=360):
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([centre[0] + radius * np.cos(turn), centre[1] + radius * np.sin(turn)], axis=1)


@pytest.mark.parametrize("turn", [0.0, 0.31, -1.1])
def test_a_box_has_its_volume_in_any_orientation(tmp_path, turn):
    scan = image(turn=turn)
    parts = [c for k in range(1, 5) for c in contours_of(scan.grid, [square(9.5, 29.5)], k)]
    path = structure_set(tmp_path / "rs.dcm", [(3, "box", (9, 8, 7), closed(parts))])
    volume = read_rtstruct(path, scan)
    expected = np.zeros((40, 50, 6), bool)
    expected[10:30, 10:30, 1:5] = True
    np.testing.assert_array_equal(volume.array, 3 * expected)
    assert volume.array.sum() / 3 * volume.grid.voxel_ml == pytest.approx(16 * 16 * 12 / 1000)
    np.testing.assert_array_equal(volume.affine, scan.affine)
    assert [(x.value, x.name, x.colour) for x in volume.labels] == [(3, "box", (9, 8, 7))]
    assert volume.source.format == "dicom-rtstruct"
    assert volume.source.decisions == ()


def test_an_annulus_has_its_area_with_a_hole_or_a_keyhole(tmp_path):
    scan = image(shape=(300, 320, 3), turn=0.4)
    outer, hole = circle((150, 160), 120.3), circle((150, 160), 60.2)
    keyhole = np.concatenate([outer, outer[:1], hole[:1], hole[::-1], outer[:1]])
    holed = closed(contours_of(scan.grid, [outer, hole], 1))
    keyed = closed(contours_of(scan.grid, [keyhole], 1))
    path = structure_set(tmp_path / "rs.dcm", [(1, "holed", (1, 2, 3), holed), (2, "keyed", (3, 2, 1), keyed)])
    a = read_rtstruct(path, scan, structures=["holed"]).array == 1
    b = read_rtstruct(path, scan, structures=["keyed"]).array == 2
    assert a.sum() == pytest.approx(np.pi * (120.3**2 - 60.2**2), rel=2e-3)
    assert (a != b).sum() <= 2
    assert not a[150, 160, 1]


@given(arrays(bool, (9, 11, 3)), st.floats(-1.4, 1.4), st.sampled_from(["LPS", "RAS", "SAR", "PIR"]))
def test_contours_of_a_mask_give_the_mask_back_however_the_image_is_turned(tmp_path_factory, mask, turn, axcodes):
    padded = np.pad(mask, ((2, 2), (2, 2), (1, 1)))
    if not mask.any():
        return
    scan = image(shape=padded.shape, turn=turn)
    parts = []
    for k in range(padded.shape[2]):
        parts += contours_of(scan.grid, find_contours(padded[:, :, k].astype(float), 0.5), k)
    path = structure_set(tmp_path_factory.mktemp("rs") / "rs.dcm", [(1, "organ", (1, 2, 3), closed(parts))])
    np.testing.assert_array_equal(read_rtstruct(path, scan).array, padded)
    turned = scan.reoriented(axcodes)
    expected = Volume(padded.astype(np.uint8), scan.affine).reoriented(axcodes).array
    np.testing.assert_array_equal(read_rtstruct(path, turned).array, expected)


def test_overlap_is_refused_by_name_and_touching_is_not(tmp_path):
    scan = image()
    at = [square(5, 15), square(12, 20), square(15, 20)]
    a, b, c = (closed(contours_of(scan.grid, [s], 2)) for s in at)
    path = structure_set(tmp_path / "rs.dcm", [(1, "Body", (1, 1, 1), a), (2, "Liver", (2, 2, 2), b)])
    with pytest.raises(InputError, match=r"MS-D325.*'Body' and 'Liver' overlap"):
        read_rtstruct(path, scan)
    assert (read_rtstruct(path, scan, structures=["Liver"]).array == 2).sum() == 81
    assert (read_rtstruct(path, scan, ReadOptions(segments="Liver")).array == 2).sum() == 81
    with pytest.raises(InputError, match=r"MS-D306.*no structure Spleen in it; it holds 1 'Body', 2 'Liver'"):
        read_rtstruct(path, scan, structures=["Spleen"])
    touching = structure_set(tmp_path / "touch.dcm", [(1, "a", (1, 1, 1), a), (2, "b", (2, 2, 2), c)])
    found = read_rtstruct(touching, scan).array
    assert ((found == 1).sum(), (found == 2).sum()) == (121, 36 - 1)


def test_contours_between_slices_go_to_the_nearest_one(tmp_path):
    scan = image()
    heights = [(1.0, 5), (1.4, 8), (1.6, 9), (2.5, 4), (-0.4, 3), (5.4, 6)]
    parts = [c for k, size in heights for c in contours_of(scan.grid, [square(9.5, 9.5 + size)], k)]
    path = structure_set(tmp_path / "rs.dcm", [(1, "organ", (1, 1, 1), closed(parts))])
    volume = read_rtstruct(path, scan)
    # 1.0 is nearer to slice 1 than 1.4; 1.6 nearer to slice 2 than 2.5.
    assert volume.array.sum(axis=(0, 1)).tolist() == [9, 25, 81, 0, 0, 36]
    assert [d.code for d in volume.source.decisions] == ["MS-D332", "MS-D333"]
    assert "2 contours" in volume.source.decisions[0].message


def test_points_open_lines_and_contours_outside_are_left_out_and_recorded(tmp_path):
    scan = image()
    box = contours_of(scan.grid, [square(9.5, 19.5)], 3)
    far = contours_of(scan.grid, [square(9.5, 19.5)], 9)
    line = contours_of(scan.grid, [square(1, 30)], 2)
    rois = [
        (1, "organ", (1, 1, 1), [*closed(box), *closed(far), ("OPEN_PLANAR", line[0])]),
        (2, "marker", (2, 2, 2), [("POINT", line[0][:1])]),
        (3, "nothing", (3, 3, 3), []),
    ]
    volume = read_rtstruct(structure_set(tmp_path / "rs.dcm", rois), scan)
    assert np.unique(volume.array, return_counts=True)[1].tolist() == [12000 - 100, 100]
    decisions = {d.code: d for d in volume.source.decisions}
    assert sorted(decisions) == ["MS-D330", "MS-D331"]
    assert "1 of 2 contours lie outside" in decisions["MS-D330"].message
    assert [d.warning for d in volume.source.decisions if d.code == "MS-D331"] == [False, True]
    assert [x.name for x in volume.labels] == ["organ", "marker", "nothing"]


def test_a_contour_stored_twice_does_not_cancel_itself(tmp_path):
    scan = image()
    box = contours_of(scan.grid, [square(9.5, 19.5)], 3)
    path = structure_set(tmp_path / "rs.dcm", [(1, "organ", (1, 1, 1), closed([*box, *box]))])
    assert read_rtstruct(path, scan).array.sum() == 100


def test_wrong_images_are_refused(tmp_path):
    scan = image()
    box = contours_of(scan.grid, [square(9.5, 19.5)], 3)
    path = structure_set(tmp_path / "rs.dcm", [(1, "organ", (1, 1, 1), closed(box))])
    with pytest.raises(GeometryError, match=r"MS-D322.*frame of reference 1\.2\.3\.4\.5, the image in 9\.9"):
        read_rtstruct(path, image(frame="9.9"))
    with pytest.raises(GeometryError, match=r"MS-D323.*not parallel to the slices"):
        read_rtstruct(path, image(turn=0.6))
    moved = Volume(scan.array, scan.affine + np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 500], [0, 0, 0, 0]]))
    with pytest.raises(GeometryError, match=r"MS-D324.*none of its contours"):
        read_rtstruct(path, moved)
    with pytest.raises(InputError, match=r"MS-D321.*was not found in"):
        read_rtstruct(path)


def test_what_is_no_structure_set_is_refused(tmp_path):
    (tmp_path / "text.dcm").write_text("hello")
    with pytest.raises(InputError, match=r"MS-D320"):
        read_rtstruct(tmp_path / "text.dcm", image())
    with pytest.raises(InputError, match=r"MS-F101"):
        read_rtstruct(tmp_path / "absent.dcm", image())


def test_the_referenced_series_is_found_beside_it(data, tmp_path):
    source = data("dicom") / "dev" / "rtstruct_oriented"
    for file in source.glob("*.dcm"):
        shutil.copyfile(file, tmp_path / file.name)
    other = tmp_path / "another"
    shutil.copytree(data("dicom") / "dev" / "dcmqi" / "segmentations" / "ct-3slice", other)
    scan = read_one(source)
    outline = square(3.5, 11.5)
    parts = [c for k in range(3) for c in contours_of(scan.grid, [outline], k)]
    path = structure_set(
        tmp_path / "rs.dcm",
        [(5, "organ", (1, 1, 1), closed(parts))],
        frame=scan.source.frame_of_reference or "",
        series=scan.source.series_uid,
    )
    volume = read_rtstruct(path)  # an oblique CT of rt-utils, found among two series by its UID
    expected = np.zeros(scan.array.shape, np.uint8)
    expected[4:12, 4:12] = 5
    np.testing.assert_array_equal(volume.array, expected)
    np.testing.assert_array_equal(volume.affine, scan.affine)


def test_a_real_structure_set_with_points_beside_a_contour(data):
    path = data("dicom") / "dev" / "pydicom_test_files" / "rtstruct.dcm"
    dataset = pydicom.dcmread(path, force=True)
    parts = [
        np.reshape([float(x) for x in c.ContourData], (-1, 3)) for c in dataset.ROIContourSequence[0].ContourSequence
    ]
    heights = [p[0, 2] for p in parts]
    assert len(set(heights)) == 3
    affine = np.diag([-5.0, -5.0, 10.0, 1.0])
    affine[:3, 3] = (302, 302, min(heights))
    volume = read_rtstruct(path, Volume(np.zeros((121, 121, 45), np.int16), affine))
    centres = np.arange(121) * 5.0 - 302  # LPS
    for points, z in zip(parts, heights, strict=True):
        inside = MplPath(points[:, :2]).contains_points(np.array([(x, y) for x in centres for y in centres]))
        found = volume.array[:, :, round((z - min(heights)) / 10)] == 1
        np.testing.assert_array_equal(found, inside.reshape(121, 121))
        assert found.any()
    assert next(x.name for x in volume.labels) == "patient"
    assert {d.code for d in volume.source.decisions} <= {"MS-D331", "MS-D333"}


def test_codes_of_structures_are_kept(tmp_path):
    scan = image()
    box = contours_of(scan.grid, [square(9.5, 19.5)], 3)
    path = structure_set(tmp_path / "rs.dcm", [(1, "organ", (1, 1, 1), closed(box))])
    dataset = pydicom.dcmread(path)
    observation, code = pydicom.Dataset(), pydicom.Dataset()
    observation.ReferencedROINumber = 1
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "10200004", "SCT", "Liver"
    observation.RTROIIdentificationCodeSequence = [code]
    dataset.RTROIObservationsSequence = [observation]
    dataset.save_as(path)
    assert read_rtstruct(path, scan).labels.by_value[1].type == Code("SCT", "10200004", "Liver")
