"""Synthetic series through the whole reader: each oddity has its verdict, and what is read lies where it says."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from medseg.errors import ChoiceError, GeometryError, InputError
from medseg.readers.dicom import find_series, read_dicom, read_one, survey_dicom
from medseg.readers.options import ReadOptions

GAPS = ReadOptions(allow_gaps=True)


def read(folder, **options):
    return read_one(folder, ReadOptions(**options))


def test_regular_is_exact_int16_and_bare_of_patient_data(tmp_path, phantom):
    volume = read(phantom.write_stack(tmp_path, phantom.stack()))
    assert volume.array.shape == (5, 7, 8)
    assert volume.array.dtype == np.int16
    assert volume.spacing_mm == (3.0, 2.0, 5.0)
    assert volume.grid.axcodes == "LPS"
    phantom.assert_faithful(volume, 0.0)
    source = volume.source
    assert (source.modality, source.series_number, source.series_uid) == ("CT", 3, "1.2.3.2")
    assert source.frame_of_reference == "1.2.3.4.5"
    assert source.description == "phantom"
    assert [f.name for f in source.files] == [f"IM{k:04d}" for k in range(8)]
    assert source.details["geometry"] == "regular"
    assert source.decisions == ()
    assert not any(word in repr(volume) for word in ("Secret", "SECRET", "19700101"))


def test_oblique_is_exact(tmp_path, phantom):
    volume = read(phantom.write_stack(tmp_path, phantom.stack(oblique=True), slope=0.01, intercept=-100))
    assert volume.array.dtype == np.float32
    phantom.assert_faithful(volume, 0.006)


def test_order_is_by_position_whatever_names_and_numbers_say(tmp_path, phantom):
    names = [f"{n:02d}.x" for n in range(8)]
    random.Random(1).shuffle(names)

    def one(ds, k):
        ds.InstanceNumber = 1

    phantom.assert_faithful(read(phantom.write_stack(tmp_path, phantom.stack(), name=names.__getitem__, edit=one)), 0.0)


def test_descending_positions_and_junk_beside_in_nested_folders(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path / "a" / "b", phantom.stack(step=-5.0))
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (tmp_path / "notes.txt").write_text("not DICOM", encoding="utf-8")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "empty").touch()
    volume = read(tmp_path)
    phantom.assert_faithful(volume, 0.0)
    phantom.assert_faithful(read(tmp_path / "DICOMDIR"), 0.0)


def test_acquisition_number_per_slice_does_not_split(tmp_path, phantom):
    def edit(ds, k):
        ds.AcquisitionNumber = k
        ds.ContentTime = ds.AcquisitionTime = f"1200{k:02d}"

    assert read(phantom.write_stack(tmp_path, phantom.stack(), edit=edit)).array.shape == (5, 7, 8)


def test_missing_slice_is_refused_with_its_place_and_accepted_with_the_flag(tmp_path, phantom, codes):
    folder = phantom.write_stack(tmp_path, phantom.stack(), skip=(3,))
    with pytest.raises(GeometryError, match=r"1 of 8 slices are missing, between z=-20 mm \(IM0002\)") as caught:
        read(folder)
    assert caught.value.code == "MS-D104"
    assert "z=-10 mm (IM0004)" in caught.value.what
    assert "--allow-gaps" in caught.value.mend
    volume = read(folder, allow_gaps=True)
    assert "MS-D207" in codes(volume)
    phantom.assert_faithful(volume)
    assert volume.array.shape == (5, 7, 8)


def test_irregular_spacing(tmp_path, phantom, codes):
    uneven = phantom.stack(steps=[5, 5, 5, 5, 2.5, 3.1, 2.5])
    folder = phantom.write_stack(tmp_path, uneven, slope=0.1, SliceThickness=4.7)
    with pytest.raises(GeometryError, match=r"varies from 2\.5 to 5 mm") as caught:
        read(folder)
    assert caught.value.code == "MS-D105"
    volume = read(folder, allow_gaps=True)
    assert codes(volume) == {"MS-D207"}
    phantom.assert_faithful(volume)


def test_positions_rounded_by_the_scanner_are_regular(tmp_path, phantom):
    steps = np.diff(np.round(np.arange(20) * 0.625, 1))
    volume = read(phantom.write_stack(tmp_path, phantom.stack(n=20, steps=steps), SliceThickness=0.625))
    assert volume.source.details["geometry"] == "regular"
    assert volume.spacing_mm[2] == pytest.approx(0.625, abs=0.005)
    phantom.assert_faithful(volume, 0.05 * 5 + 0.5)


@pytest.mark.parametrize("tilt", [-20.0, 15.0, 20.0])
def test_tilt_is_resampled_once_and_recorded(tmp_path, phantom, codes, tilt):
    folder = phantom.write_stack(tmp_path, phantom.stack(tilt_deg=tilt), slope=0.01, intercept=-100.0)
    volume = read(folder)
    assert "MS-D206" in codes(volume)
    assert volume.grid.shear_deg < 1e-6
    native = assert_straightened(volume, phantom)
    assert native[:3, 3] == pytest.approx([10, -20, -30])
    assert native[1, 2] == pytest.approx(-5 * np.tan(np.radians(tilt)))


def assert_straightened(volume, phantom):
    """Inside the native field values are true, outside there is air, and no native voxel was lost."""
    native = np.array(volume.source.details["native_affine_ras"])
    shape = np.array(volume.source.details["native_shape"])
    index = np.stack(np.meshgrid(*map(np.arange, volume.array.shape), indexing="ij"), axis=-1)
    world = volume.grid.to_world(index)
    inverse = np.linalg.inv(native)
    at = world @ inverse[:3, :3].T + inverse[:3, 3]
    inside = ((at > -1e-6) & (at < shape - 1 + 1e-6)).all(axis=-1)
    outside = ((at < -0.51) | (at > shape - 0.49)).any(axis=-1)
    assert inside.sum() >= np.prod(shape) * 0.8
    assert np.abs(volume.array - phantom.truth(world * [-1, -1, 1]))[inside].max() < 0.02
    assert (volume.array[outside] == -1024).all()
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, 8).T
    kept = volume.grid.to_index(corners @ native[:3, :3].T + native[:3, 3])
    assert (kept > -1e-6).all()
    assert (kept < np.array(volume.array.shape) - 1 + 1e-6).all()
    return native


def test_tilt_with_a_missing_slice(tmp_path, phantom, codes):
    folder = phantom.write_stack(tmp_path, phantom.stack(tilt_deg=15), slope=0.01, intercept=-100.0, skip=(4,))
    volume = read(folder, allow_gaps=True)
    assert codes(volume) >= {"MS-D206", "MS-D207"}
    assert_straightened(volume, phantom)


def test_identical_duplicate_is_dropped_and_told(tmp_path, phantom, codes):
    folder = phantom.write_stack(tmp_path, phantom.stack())
    shutil.copy(folder / "IM0003", folder / "again")
    volume = read(folder)
    assert codes(volume) == {"MS-D203"}
    phantom.assert_faithful(volume, 0.0)


def test_whole_series_twice_is_read_once(tmp_path, phantom, codes):
    phantom.write_stack(tmp_path / "a", phantom.stack())
    phantom.write_stack(tmp_path / "b", phantom.stack())
    volume = read(tmp_path)
    assert codes(volume) == {"MS-D203"}
    phantom.assert_faithful(volume, 0.0)


def test_differing_duplicate_is_refused_by_name(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack())
    other = phantom.dataset(phantom.stack().plane(0))
    other.ImagePositionPatient, other.ImageOrientationPatient = [-10, 20, -15], [1, 0, 0, 0, 1, 0]
    other.PixelSpacing, other.InstanceNumber = [2, 3], 99
    other.save_as(folder / "odd")
    with pytest.raises(GeometryError, match=r"2 different slices lie at z=-15 mm \(IM0003, odd\)") as caught:
        read(folder)
    assert caught.value.code == "MS-D112"


def test_two_series_ask_for_the_choice(tmp_path, phantom):
    phantom.write_stack(tmp_path / "a", phantom.stack())
    phantom.write_stack(tmp_path / "b", phantom.stack(n=4), SeriesNumber=7, SeriesInstanceUID="1.2.3.7")
    with pytest.raises(ChoiceError, match="2 volumes") as caught:
        read(tmp_path)
    assert caught.value.code == "MS-D130"
    assert [line.split("  ")[0] for line in caught.value.candidates] == ["--series 3", "--series 7"]
    assert "5 x 7 x 4" in caught.value.candidates[1]
    assert read(tmp_path, series="7").array.shape == (5, 7, 4)
    assert read(tmp_path, series="1.2.3.2").array.shape == (5, 7, 8)
    assert len(read_dicom(tmp_path)) == 2
    with pytest.raises(ChoiceError, match="no volume is called '5'") as caught:
        read(tmp_path, series="5")
    assert caught.value.code == "MS-D131"


def test_colliding_series_numbers_are_picked_by_uid(tmp_path, phantom):
    phantom.write_stack(tmp_path / "a", phantom.stack())
    phantom.write_stack(tmp_path / "b", phantom.stack(n=4), SeriesInstanceUID="1.2.3.7")
    assert [s.selector for s in find_series(tmp_path)] == ["1.2.3.2", "1.2.3.7"]
    with pytest.raises(ChoiceError, match="2 volumes"):
        read(tmp_path, series="3")
    assert read(tmp_path, series="1.2.3.7").array.shape == (5, 7, 4)


def test_refused_sibling_is_no_silent_loss(tmp_path, phantom, codes):
    phantom.write_stack(tmp_path / "a", phantom.stack(), skip=(3,))
    phantom.write_stack(tmp_path / "b", phantom.stack(n=4), SeriesNumber=7, SeriesInstanceUID="1.2.3.7")
    with pytest.raises(ChoiceError, match="2 volumes") as caught:
        read(tmp_path)
    assert "--series 7" in caught.value.mend
    assert "refused (MS-D104" in caught.value.candidates[0]
    (volume,) = read_dicom(tmp_path)
    assert codes(volume) == {"MS-D208", "MS-D217"} - {"MS-D208"}
    with pytest.raises(GeometryError, match="missing"):
        read_dicom(tmp_path, ReadOptions(series="3"))


@pytest.mark.parametrize(
    "tags",
    [
        [{"EchoTime": 5}, {"EchoTime": 10}],
        [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}],
        [{"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}],
        [{"ImageType": ["DERIVED", "PRIMARY", "DIXON", w]} for w in ("WATER", "FAT", "IN_PHASE", "OPP_PHASE")],
        [{"AcquisitionNumber": n} for n in (1, 2, 3)],
        [{"TemporalPositionIdentifier": n} for n in (1, 2)],
        [{"ContrastBolusAgent": ""}, {"ContrastBolusAgent": "Gd"}],
    ],
    ids=lambda tags: next(iter(tags[0])),
)
def test_volumes_in_one_series_are_told_apart(tmp_path, phantom, codes, tags):
    stacks = [phantom.stack(start=(-10, 20, -30)) for _ in tags]
    for n, (stack, more) in enumerate(zip(stacks, tags, strict=True)):

        def edit(ds, k, n=n):
            pixels = np.frombuffer(ds.PixelData, "<i2") + n
            ds.PixelData = pixels.astype("<i2").tobytes()

        phantom.write_stack(
            tmp_path, stack, modality="MR", intercept=0.0, edit=edit, name=f"{n}_{{:02d}}".format, **more
        )
    volumes = read_dicom(tmp_path)
    assert len(volumes) == len(tags)
    for volume in volumes:
        offset = int(volume.array[0, 0, 0]) - int(phantom.truth([-10, 20, -30]))
        phantom.assert_faithful(volume, offset)  # a mix of volumes would differ by more than its own offset
        assert np.unique(volume.array - volumes[0].array).size == 1
        assert "MS-D204" in codes(volume)
        assert volume.source.details["of"] == len(tags)
    selectors = [v.source.details["selector"] for v in volumes]
    assert selectors == [f"3.{n + 1}" for n in range(len(tags))]
    with pytest.raises(ChoiceError, match=f"{len(tags)} volumes"):
        read(tmp_path, series="3")
    again = read(tmp_path, series="3.2")
    assert np.array_equal(again.array, volumes[1].array)


def test_instants_told_apart_by_instance_number_alone_are_a_warning(tmp_path, phantom):
    for t in range(3):

        def edit(ds, k, t=t):
            ds.InstanceNumber = t * 8 + k + 1
            ds.PixelData = (np.frombuffer(ds.PixelData, "<i2") + t).astype("<i2").tobytes()

        phantom.write_stack(tmp_path, phantom.stack(), modality="MR", edit=edit, name=f"{t}_{{:02d}}".format)
    volumes = read_dicom(tmp_path)
    assert [int(v.array[0, 0, 0] - volumes[0].array[0, 0, 0]) for v in volumes] == [0, 1, 2]
    assert all(d.warning for v in volumes for d in v.source.decisions if d.code == "MS-D205")


def test_interleaved_acquisitions_are_two_stacks(tmp_path, phantom):
    phantom.write_stack(tmp_path, phantom.stack(n=6), AcquisitionNumber=1, name="a{}".format)
    phantom.write_stack(tmp_path, phantom.stack(n=6, start=(-10, 20, -28)), AcquisitionNumber=2, name="b{}".format)
    volumes = read_dicom(tmp_path)
    assert [v.array.shape for v in volumes] == [(5, 7, 6)] * 2
    for volume in volumes:
        phantom.assert_faithful(volume, 0.0)


def test_localizers_are_left_out_and_alone_refused(tmp_path, phantom, codes):
    phantom.write_stack(tmp_path / "scan", phantom.stack())
    sagittal = phantom.stack(n=1)
    sagittal.r, sagittal.c, sagittal.shape = np.array([0.0, 1, 0]), np.array([0.0, 0, -1]), (9, 9)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    phantom.write_stack(tmp_path / "scan", sagittal, name="scout{}".format, **scout)
    volume = read(tmp_path)
    assert codes(volume) == {"MS-D201"}
    phantom.assert_faithful(volume, 0.0)
    alone = phantom.write_stack(tmp_path / "alone", sagittal, **scout)
    with pytest.raises(InputError, match="only localizer") as caught:
        read(alone)
    assert caught.value.code == "MS-D122"


def test_one_slice_of_another_matrix_is_left_out_when_nothing_is_missing(tmp_path, phantom, codes):
    folder = phantom.write_stack(tmp_path, phantom.stack())
    odd = phantom.stack(n=1)
    odd.shape = (10, 10)
    phantom.write_stack(folder, odd, name="odd".format)
    volume = read(folder)
    assert codes(volume) == {"MS-D202"}
    phantom.assert_faithful(volume, 0.0)


def test_one_slice_of_another_matrix_within_the_stack_leaves_a_gap(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(), skip=(3,))
    odd = phantom.stack(n=1, start=(-10, 20, -15))
    odd.shape = (10, 10)
    phantom.write_stack(folder, odd, name="odd".format)
    with pytest.raises(GeometryError, match="1 of 8 slices are missing"):
        read(folder)


def drop(*names):
    def edit(ds, k):
        for name in names:
            delattr(ds, name)

    return edit


@pytest.mark.parametrize(
    ("edit", "code", "match"),
    [
        (drop("ImageOrientationPatient"), "MS-D106", "ImageOrientationPatient is missing"),
        (drop("ImagePositionPatient"), "MS-D106", "ImagePositionPatient is missing"),
        (drop("PixelSpacing"), "MS-D107", "PixelSpacing is missing"),
        (drop("RescaleSlope", "RescaleIntercept"), "MS-D113", "no Hounsfield units"),
        (drop("RescaleIntercept"), "MS-D113", "no Hounsfield units"),
        (lambda ds, k: k == 3 and drop("PixelData")(ds, k), "MS-D108", "no pixel data"),
        (lambda ds, k: k == 3 and setattr(ds, "PixelData", ds.PixelData[:-8]), "MS-D109", "62 of 70 bytes"),
        (lambda ds, k: setattr(ds, "PixelSpacing", [0, 1]), "MS-D117", "pixel spacing"),
        (lambda ds, k: setattr(ds, "RescaleSlope", "0"), "MS-D117", "slope 0"),
        (lambda ds, k: setattr(ds, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "MS-D117", "no unit vectors"),
        (lambda ds, k: setattr(ds, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.481.2"), "MS-D103", "RT Dose"),
        (lambda ds, k: setattr(ds, "SamplesPerPixel", 3), "MS-D103", "colour"),
        (lambda ds, k: setattr(ds, "NumberOfFrames", 2), "MS-D109", "bytes"),
        (
            lambda ds, k: k == 5 and setattr(ds, "ImagePositionPatient", [-10, 24, -5]),
            "MS-D116",
            "do not lie on one line",
        ),
    ],
)
def test_refusals(tmp_path, phantom, edit, code, match):
    folder = phantom.write_stack(tmp_path, phantom.stack(), edit=edit)
    with pytest.raises(InputError, match=match) as caught:
        read(folder)
    assert caught.value.code == code
    assert caught.value.mend
    assert code in {f.code for f in survey_dicom(folder)} or code == "MS-D103"


def test_one_bad_slice_is_named(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(), edit=lambda ds, k: k == 3 and drop("PixelData")(ds, k))
    with pytest.raises(InputError, match="IM0003"):
        read(folder)


def test_truncated_header_is_a_damaged_file(tmp_path, phantom, codes):
    folder = phantom.write_stack(tmp_path, phantom.stack())
    whole = (folder / "IM0007").read_bytes()
    (folder / "IM0007").write_bytes(whole[:200])
    volume = read(folder)
    assert volume.array.shape == (5, 7, 7)
    assert codes(volume) == {"MS-D213"}


def test_image_of_only_one_slice(tmp_path, phantom, codes):
    folder = phantom.write_stack(tmp_path, phantom.stack(n=1))
    volume = read(folder / "IM0000")
    assert volume.array.shape == (5, 7, 1)
    assert codes(volume) == {"MS-D209"}
    assert volume.spacing_mm == (3.0, 2.0, 5.0)
    phantom.assert_faithful(volume, 0.0)


def test_thickness_monochrome1_padding_lossy_and_slopes_are_told(tmp_path, phantom, codes):
    def edit(ds, k):
        ds.PhotometricInterpretation, ds.SliceThickness, ds.LossyImageCompression = "MONOCHROME1", 3, "01"
        ds.PixelPaddingValue = -2000
        stored = np.frombuffer(ds.PixelData, "<i2").astype(float)
        ds.RescaleSlope = f"{(k + 1) / 8:g}"
        ds.PixelData = np.round(stored * 8 / (k + 1)).astype("<i2").tobytes()

    volume = read(phantom.write_stack(tmp_path, phantom.stack(), edit=edit))
    assert codes(volume) == {"MS-D208", "MS-D211", "MS-D212", "MS-D214", "MS-D219"}
    phantom.assert_faithful(volume, 0.51)  # MONOCHROME1 keeps its sense, each slice its own slope


def test_strict_refuses_what_would_be_a_warning(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack(tilt_deg=15))
    with pytest.raises(InputError, match="tilted by 15") as caught:
        read(folder, strict=True)
    (row,) = survey_dicom(folder, ReadOptions(strict=True))
    assert row.refused
    assert caught.value.code == "MS-D206"


def test_too_many_voxels_are_refused_before_reading(tmp_path, phantom):
    folder = phantom.write_stack(tmp_path, phantom.stack())
    with pytest.raises(InputError, match="280 voxels, more than the limit of 279") as caught:
        read(folder, max_voxels=279)
    assert caught.value.code == "MS-D118"


def test_folder_without_dicom(tmp_path):
    (tmp_path / "a.txt").write_text("no", encoding="utf-8")
    with pytest.raises(InputError, match="no DICOM file") as caught:
        read(tmp_path)
    assert caught.value.code == "MS-D102"
    assert survey_dicom(tmp_path) == []


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_refused_or_read_but_never_crash(tmp_path, phantom, seed):
    folder = phantom.write_stack(tmp_path, phantom.stack(n=3))
    rng = random.Random(seed)
    data = bytearray((folder / "IM0001").read_bytes())
    for _ in range(rng.choice([1, 3, 10])):
        data[rng.randrange(132, len(data))] = rng.randrange(256)
    (folder / "IM0001").write_bytes(data[: rng.choice([len(data), rng.randrange(132, len(data))])])
    assert survey_dicom(folder)
    try:
        volumes = read_dicom(folder)
    except InputError as error:
        assert error.mend  # noqa: PT017 - either outcome is right
    else:
        assert volumes


def test_every_second_slice_missing_is_a_warning_unless_the_files_state_the_distance(tmp_path, phantom):
    told = {}
    for name, tags in {
        "silent": {},
        "stated": {"SpacingBetweenSlices": 10},
        "other": {"SpacingBetweenSlices": 5},
    }.items():
        volume = read_one(phantom.write_stack(tmp_path / name, phantom.stack(step=10.0), **tags))
        told[name] = [(d.message, d.warning) for d in volume.source.decisions if d.code == "MS-D208"]
    lost = [("slices of 5 mm lie 10 mm apart (slices may be missing)", True)]
    assert told == {"silent": lost, "other": lost, "stated": [("slices of 5 mm lie 10 mm apart (gap)", False)]}


def test_two_phases_end_to_end_are_one_volume_with_a_warning(tmp_path, phantom):
    phantom.write_stack(tmp_path, phantom.stack(n=4), ContrastBolusAgent="none")
    upper = phantom.stack(n=4, start=(-10.0, 20.0, -10.0))
    volume = read_one(phantom.write_stack(tmp_path, upper, name="B{}".format, ContrastBolusAgent="iodine"))
    phantom.assert_faithful(volume)
    (note,) = (d for d in volume.source.decisions if d.code == "MS-D222")
    assert note.warning
    assert "contrast agent (none, iodine)" in note.message
