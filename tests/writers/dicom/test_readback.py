from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread

import medseg
from medseg.errors import InputError, OutputError
from medseg.geometry import Grid, flip_ras_lps
from medseg.writers.dicom import sources_of, write_dicom_seg, write_parametric_map
from medseg.writers.dicom.frames import frame_grid
from medseg.writers.dicom.readback import MismatchError, check_map, check_seg, mismatch, write_checked
from medseg.writers.dicom.segments import segments_of
from medseg.writers.dicom.sources import Sources


@pytest.fixture(params=["binary", "labelmap"])
def written(tmp_path, lab, request):
    """A SEG and what stands in it."""
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(3)))
    labels, sources = lab.label_map(image), sources_of(image)
    write_dicom_seg(tmp_path / "seg.dcm", labels, sources, lab.MAKER, kind=request.param)
    frames = frame_grid(image.grid, sources)
    stack = np.ascontiguousarray(frames.frames(labels.array))
    return tmp_path / "seg.dcm", stack, segments_of(labels, request.param), frames


def test_a_true_file_passes(written):
    check_seg(*written)


@pytest.mark.parametrize("place", [(3, 5, 5), (0, 0, 0), (6, 13, 10)])
def test_one_voxel_more_is_found_on_written_and_on_left_out_slices(written, place):
    path, stack, segments, frames = written
    stack[place] = 1 + stack[place] % 3
    with pytest.raises(MismatchError, match=rf"slice {place[0]}"):
        check_seg(path, stack, segments, frames)


def test_another_place_is_found(lab, written):
    path, stack, segments, _ = written
    affine = lab.affine_lps(3, origin=(-31.0, 12.5, -60.2515))
    moved = frame_grid(Grid((11, 14, 7), flip_ras_lps(affine)), Sources((), (), {}))
    with pytest.raises(MismatchError, match=r"lies 0\.0015 mm off"):
        check_seg(path, stack, segments, moved)


@pytest.mark.parametrize("change", [1e-6, -1e-6])
def test_one_value_of_a_map_is_found(tmp_path, lab, change):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(3)))
    array = np.full(image.array.shape, 0.5, np.float32)
    write_parametric_map(tmp_path / "map.dcm", array, image.affine, sources_of(image), lab.MAKER)
    frames = frame_grid(image.grid, sources_of(image))
    values = frames.frames(array).copy()
    check_map(tmp_path / "map.dcm", values, frames)
    values[4, 2, 3] += change
    with pytest.raises(MismatchError, match="1 values of slice 4 differ"):
        check_map(tmp_path / "map.dcm", values, frames)


def test_whatever_goes_wrong_is_an_error_of_ours(tmp_path):
    with pytest.raises(OutputError, match=r"MS-O401.*seg\.dcm.*KeyError: 'x'"), mismatch(tmp_path / "seg.dcm"):
        {}["x"]
    for kind in (OSError("disk"), MemoryError()):
        with pytest.raises(type(kind)), mismatch(tmp_path / "seg.dcm"):
            raise kind
    ours = InputError("MS-D402", "what", mend="mend")
    with pytest.raises(InputError), mismatch(tmp_path / "seg.dcm"):
        raise ours


def test_what_the_check_refuses_never_takes_the_place_of_an_older_file(tmp_path, written):
    made, path = dcmread(written[0]), tmp_path / "out" / "seg.dcm"
    path.parent.mkdir()
    seen = []
    write_checked(path, made, lambda temporary: seen.append(dcmread(temporary).SOPInstanceUID))
    assert seen == [made.SOPInstanceUID]
    before = path.read_bytes()

    def refuse(temporary):
        assert temporary != path
        msg = "slice 3"
        raise MismatchError(msg)

    made.SeriesDescription = "another"
    with pytest.raises(OutputError, match=r"MS-O401.*slice 3"):
        write_checked(path, made, refuse)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
