from __future__ import annotations

from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest

import medseg
from medseg.errors import OutputError
from medseg.geometry import flip_ras_lps
from medseg.volume import Volume
from medseg.writers.dicom import parametric_map as module
from medseg.writers.dicom import sources_of, write_parametric_map

TURNS = ["RAS", "LPS", "SAR", "IPL", "PIR", "ASL", "LIA", "RPI", "SRP", "AIR", "LAS", "PLS", "ILA", "SLA", "PRI"]


def uncertainty(image, seed=0):
    """A map whose every value is another."""
    return np.random.default_rng(seed).random(image.array.shape, np.float32)


@pytest.mark.parametrize("seed", range(15))
def test_dcmqi_sees_every_value_at_its_place(tmp_path, lab, seed):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(seed)))
    values = uncertainty(image, seed)
    turned = Volume(values, image.affine).reoriented(TURNS[seed])
    write_parametric_map(tmp_path / "map.dcm", turned.array, turned.affine, sources_of(image), lab.MAKER)
    found = lab.parametric_map(tmp_path / "map.dcm", tmp_path / "out")
    index = np.stack(np.meshgrid(*map(np.arange, found.array.shape), indexing="ij"), axis=-1)
    at = image.grid.to_index(found.grid.to_world(index))
    assert np.abs(at - np.round(at)).max() < 1e-3  # of a voxel of 0.7 mm or more
    i, j, k = np.moveaxis(np.round(at).astype(int), -1, 0)
    np.testing.assert_array_equal(found.array, values[i, j, k])
    assert sorted(found.array.shape) == sorted(values.shape)


def test_highdicom_reads_the_same_volume(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(3)))
    values = uncertainty(image)
    write_parametric_map(tmp_path / "map.dcm", values, image.affine, sources_of(image), lab.MAKER)
    read = hd.imread(tmp_path / "map.dcm").get_volume(apply_real_world_transform=True)
    back = Volume(read.array, flip_ras_lps(np.asarray(read.affine)))
    world = back.grid.to_world(np.argwhere(back.array == values.max())[0])
    np.testing.assert_allclose(world, image.grid.to_world(np.argwhere(values == values.max())[0]), atol=1e-3)
    np.testing.assert_array_equal(np.sort(back.array, axis=None), np.sort(values, axis=None))


@pytest.mark.parametrize("name", ["entropy", "mutual_information"])
def test_no_error_in_dciodvfy(tmp_path, lab, name):
    """The two findings of highdicom's maps (no Laterality, a window narrower than 1) are mended, so none is left."""
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(2), BodyPartExamined="KIDNEY", Laterality="L"))
    write_parametric_map(
        tmp_path / "map.dcm", uncertainty(image), image.affine, sources_of(image), lab.MAKER, name=name
    )
    assert lab.errors(tmp_path / "map.dcm") == []
    anatomy = pydicom.dcmread(tmp_path / "map.dcm").SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0]
    assert (anatomy.FrameLaterality, anatomy.AnatomicRegionSequence[0].CodeMeaning) == ("L", "Kidney")


def test_every_slice_names_its_source_and_what_the_values_mean(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(3)))
    maker = replace(lab.MAKER, warning="OUTSIDE TRAINING DOMAIN")
    made = write_parametric_map(tmp_path / "map.dcm", uncertainty(image), image.affine, sources_of(image), maker)
    at = {tuple(np.round(d.ImagePositionPatient, 6)): d for d in map(pydicom.dcmread, image.source.files)}
    for group in made.PerFrameFunctionalGroupsSequence:
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        place = tuple(np.round(group.PlanePositionSequence[0].ImagePositionPatient, 6))
        assert item.ReferencedSOPInstanceUID == at[place].SOPInstanceUID
    (mapping,) = made.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodingSchemeDesignator, quantity.CodeMeaning) == ("99MEDSEG", "Predictive entropy")
    assert made.ContentDescription == "OUTSIDE TRAINING DOMAIN"


def test_the_same_run_gives_the_same_bytes_and_another_map_another_uid(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    values = uncertainty(image)
    for n in (1, 2):
        made = write_parametric_map(tmp_path / f"{n}.dcm", values, image.affine, sources_of(image), lab.MAKER)
    assert (tmp_path / "1.dcm").read_bytes() == (tmp_path / "2.dcm").read_bytes()
    other = write_parametric_map(
        tmp_path / "3.dcm", values, image.affine, sources_of(image), lab.MAKER, name="mutual_information"
    )
    assert other.SOPInstanceUID != made.SOPInstanceUID


def test_a_single_slice_is_written_and_read(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps(1), shape=(9, 12, 1)))
    values = uncertainty(image)
    write_parametric_map(tmp_path / "map.dcm", values, image.affine, sources_of(image), lab.MAKER)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "map.dcm").pixel_array.squeeze(), values[:, :, 0].T)


def test_what_rounding_has_put_beyond_1_is_cut_off(tmp_path, lab):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    values = uncertainty(image)
    values[1, 2, 3], values[2, 2, 3] = 1 + 2e-7, -1e-9
    write_parametric_map(tmp_path / "map.dcm", values, image.affine, sources_of(image), lab.MAKER)
    seen = lab.parametric_map(tmp_path / "map.dcm", tmp_path / "out")
    assert (float(seen.array.min()), float(seen.array.max())) == (0.0, 1.0)


@pytest.mark.parametrize("bad", [1.0001, -0.1, np.nan])
def test_values_outside_their_range_are_a_mistake_of_the_caller(tmp_path, lab, bad):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    values = uncertainty(image)
    values[1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        write_parametric_map(tmp_path / "map.dcm", values, image.affine, sources_of(image), lab.MAKER)


def test_what_reads_back_otherwise_is_not_kept(tmp_path, lab, monkeypatch):
    image = medseg.read(lab.series(tmp_path / "in", lab.affine_lps()))
    filled = module._fill
    monkeypatch.setattr(module, "_fill", lambda made, values: filled(made, values[::-1]))
    with pytest.raises(OutputError, match=r"MS-O401.*values of slice . differ"):
        write_parametric_map(tmp_path / "o" / "m.dcm", uncertainty(image), image.affine, sources_of(image), lab.MAKER)
    assert list((tmp_path / "o").iterdir()) == []
