"""Enhanced multi-frame objects: made by highdicom from classic slices, and by hand with several instants."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless, generate_uid

from medseg.errors import GeometryError
from medseg.readers.dicom import read_dicom, read_one

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"


def item(**tags) -> Dataset:
    ds = Dataset()
    for name, value in tags.items():
        setattr(ds, name, value)
    return ds


def group(name: str, **tags) -> Dataset:
    return item(**{name: Sequence([item(**tags)])})


def merged(*datasets: Dataset) -> Dataset:
    out = Dataset()
    for ds in datasets:
        out.update(ds)
    return out


def test_legacy_converted_by_highdicom(tmp_path, phantom):
    folder = phantom.write_stack(
        tmp_path / "classic", phantom.stack(tilt_deg=0), edit=lambda ds, k: ds.__setattr__("KVP", 120)
    )
    slices = [pydicom.dcmread(f) for f in folder.iterdir()]
    image = LegacyConvertedEnhancedCTImage(slices, generate_uid(), 9, generate_uid(), 1)
    (tmp_path / "legacy").mkdir()
    image.save_as(tmp_path / "legacy" / "one.dcm")
    volume = read_one(tmp_path / "legacy")
    assert volume.source.details["container"] == "multi-frame"
    assert volume.array.dtype == np.int16
    phantom.assert_faithful(volume, 0.0)


def write_enhanced(
    path, phantom, *, instants=1, echoes=(0.0,), per_frame_slope=False, oblique=False, compress=False, edit=None
):
    """Frames in a shuffled order; the value of instant t and echo e is raised by 1000 t + 100 e."""
    stack = phantom.stack(oblique=oblique)
    frames, images = [], []
    order = [(k, t, e) for t in range(instants) for k in range(8) for e in range(len(echoes))]
    np.random.default_rng(3).shuffle(order)
    for k, t, e in order:
        slope = 0.01 * (k + 1) if per_frame_slope else 0.1
        images.append(np.round((stack.plane(k) + 1000 * t + 100 * e) / slope))
        frames.append(
            merged(
                group("PlanePositionSequence", ImagePositionPatient=[f"{x:.10g}" for x in stack.positions[k]]),
                group("PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=0),
                group("MREchoSequence", EffectiveEchoTime=float(echoes[e])),
                group("FrameContentSequence", DimensionIndexValues=[1, k + 1, t + 1], StackID="1"),
            )
        )
    ds = phantom.dataset(images[0], modality="MR", slope=None)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.NumberOfFrames, ds.PixelData = len(images), np.stack(images).astype("<i2").tobytes()
    ds.DimensionIndexSequence = Sequence([item(DimensionIndexPointer=p) for p in (0x00209056, 0x00209057, 0x00209128)])
    iop = [f"{x:.10g}" for x in (*stack.r, *stack.c)]
    shared = merged(
        group("PlaneOrientationSequence", ImageOrientationPatient=iop),
        group("PixelMeasuresSequence", PixelSpacing=[2, 3], SliceThickness=5),
    )
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    if edit is not None:
        edit(ds)
    if compress:
        ds.compress(RLELossless)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("oblique", [False, True])
def test_frames_in_any_order(tmp_path, phantom, oblique, compress):
    volume = read_one(write_enhanced(tmp_path / "one.dcm", phantom, oblique=oblique, compress=compress))
    assert volume.array.shape == (5, 7, 8)
    phantom.assert_faithful(volume, 0.051)


def test_each_frame_has_its_own_slope(tmp_path, phantom, codes):
    volume = read_one(write_enhanced(tmp_path / "one.dcm", phantom, per_frame_slope=True))
    assert "MS-D214" in codes(volume)
    phantom.assert_faithful(volume, 0.041)


def test_a_volume_knows_its_frames(tmp_path, phantom):
    path = write_enhanced(tmp_path / "a.dcm", phantom, instants=2)
    places = [
        tuple(float(x) for x in frame.PlanePositionSequence[0].ImagePositionPatient)
        for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    ]
    pixels = pydicom.dcmread(path).pixel_array
    for volume in read_dicom(path):
        (frames,) = volume.source.details["frames"]
        lps = volume.grid.to_world([(0, 0, k) for k in range(8)]) * [-1, -1, 1]
        np.testing.assert_allclose([places[n - 1] for n in frames], lps, atol=1e-6)
        np.testing.assert_allclose(volume.array.transpose(2, 1, 0), pixels[np.array(frames) - 1] * 0.1, atol=1e-3)


def test_instants_and_echoes_become_volumes(tmp_path, phantom):
    volumes = read_dicom(write_enhanced(tmp_path / "one.dcm", phantom, instants=2, echoes=(5.0, 10.0)))
    base = volumes[0].array
    assert [round(float((v.array - base).mean())) for v in volumes] == [0, 1000, 100, 1100]
    assert [v.source.details["echo_time_ms"] for v in volumes] == [5.0, 5.0, 10.0, 10.0]
    assert [v.source.details["selector"] for v in volumes] == ["3.1", "3.2", "3.3", "3.4"]
    phantom.assert_faithful(volumes[0], 0.051)


@pytest.mark.parametrize(
    ("edit", "code", "match"),
    [
        (lambda ds: ds.__delattr__("PerFrameFunctionalGroupsSequence"), "MS-D115", "8 frames with no functional"),
        (lambda ds: ds.PerFrameFunctionalGroupsSequence.pop(), "MS-D115", "8 frames with 7"),
        (
            lambda ds: ds.SharedFunctionalGroupsSequence[0].__delattr__("PlaneOrientationSequence"),
            "MS-D106",
            "ImageOrientationPatient is missing",
        ),
    ],
)
def test_frames_without_a_place_are_refused(tmp_path, phantom, edit, code, match):
    with pytest.raises(GeometryError, match=match) as caught:
        read_one(write_enhanced(tmp_path / "one.dcm", phantom, edit=edit))
    assert caught.value.code == code
