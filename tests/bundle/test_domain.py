"""The domain guard: closed forms on made volumes, then real scans: the hippocampus crops pass, nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.bundle.domain import Domain, check_domain, check_result, measure_domain, volumes_ml
from medseg.bundle.intensity import describe
from medseg.errors import BundleError
from medseg.labels import LabelTable
from medseg.readers.nifti import read_nifti
from medseg.readers.options import ReadOptions
from medseg.volume import Source, Volume


def scan(shape=(20, 24, 22), affine=None, seed=0, modality=None, offset=50.0):
    """Smooth noise, all positive."""
    image = np.random.default_rng(seed).normal(size=shape)
    for axis in range(3):
        image = (image + np.roll(image, 1, axis)) / 2
    return Volume(image * 10 + offset, np.eye(4) if affine is None else affine, Source(modality=modality))


@pytest.fixture(scope="module")
def domain():
    return Domain.from_json(
        measure_domain(
            [scan(seed=n) for n in range(5)] + [scan((22, 24, 20), seed=9)], modality=["MR"], anatomy="noise"
        )
    )


def codes(volume, domain):
    return [violation.code for violation in check_domain(volume, domain)]


def test_measured_ranges_are_those_of_the_scans(domain):
    assert domain.cases == 6
    assert domain.extent_mm == ((20, 22), (24, 24), (20, 22))
    assert domain.spacing_mm == ((1, 1),) * 3
    assert domain.modality == ("MR",)


def test_axes_are_the_patient_s():
    turned = np.array([[0, 0, 3, 0], [-1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]], float)  # axes P, S, R
    found = Domain.from_json(measure_domain([scan((20, 24, 22), turned)]))
    assert found.extent_mm == ((66, 66), (20, 20), (48, 48))
    assert found.spacing_mm == ((3, 3), (1, 1), (2, 2))


def test_training_scans_pass(domain):
    for n in range(5):
        assert check_domain(scan(seed=n), domain) == []


@settings(max_examples=10)
@given(st.permutations([0, 1, 2]), st.lists(st.booleans(), min_size=3, max_size=3))
def test_array_order_does_not_matter(domain, order, flips):
    volume = scan(seed=3)
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order]
    array = volume.array.transpose(order)
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, axis] *= -1
            array = np.flip(array, axis)
    assert check_domain(Volume(array, affine), domain) == []


def test_modality(domain):
    assert codes(scan(modality="CT"), domain) == ["MS-X101"]
    assert codes(scan(modality="MR"), domain) == []
    assert codes(scan(modality=None), domain) == []


def test_field_of_view_and_spacing(domain):
    assert codes(scan((40, 24, 22)), domain) == ["MS-X102"]
    assert codes(scan((12, 24, 22)), domain) == ["MS-X102"]
    assert codes(scan(affine=np.diag([0.1, 0.1, 0.1, 1])), domain) == ["MS-X102", "MS-X103"]  # cm taken for mm
    (found,) = check_domain(scan((40, 24, 22)), domain)
    assert found.message == "field of view 40 x 24 x 22 mm (R-L x A-P x S-I), accepted 13.3-33 x 16-36 x 13.3-33 mm"
    assert "--outside-domain" in found.mend


def test_negative_values(domain):
    assert codes(scan(offset=-500.0), domain)[0] == "MS-X104"
    hounsfield = Domain.from_json(measure_domain([scan(offset=-500.0, seed=n) for n in range(3)]))
    assert codes(scan(), hounsfield)[0] == "MS-X104"
    assert codes(scan(offset=-500.0, seed=7), hounsfield) == []


def test_form_of_the_grey_values(domain):
    rng = np.random.default_rng(0)
    (found,) = check_domain(Volume(rng.uniform(1, 2, (20, 24, 22)), np.eye(4)), domain)
    assert found.code == "MS-X105"
    assert "correlation of neighbouring voxels" in found.message
    assert "accepted" in found.message


def test_a_bundle_s_own_margin_of_the_grey_values(domain):
    """Smooth noise and a little white noise: less smooth than any training scan."""
    told = domain.intensity[0]["corr1"]
    width = max(told[1] - told[0], 0.05)
    volume = scan(seed=3)
    mixed = np.random.default_rng(1).normal(size=volume.array.shape) * volume.array.std() * 0.2
    rougher = replace(volume, array=volume.array + mixed)
    assert told[0] - width < describe(rougher.array)["corr1"] < told[0] - 0.2 * width
    assert "MS-X105" not in codes(rougher, replace(domain, form_margin=3.0))
    assert codes(rougher, replace(domain, form_margin=0.2)) == ["MS-X105"]
    assert codes(volume, replace(domain, form_margin=0.01)) == []
    assert replace(domain, form_margin=0.2).to_json() == {**domain.to_json(), "form_margin": 0.2}
    assert Domain.from_json(replace(domain, form_margin=0.2).to_json()).form_margin == 0.2
    assert "form_margin" not in domain.to_json()


def test_channels_and_no_structure(domain):
    volume = scan()
    assert codes(replace(volume, array=np.stack([volume.array] * 2)), domain) == ["MS-X106"]
    assert codes(replace(volume, array=np.full_like(volume.array, 3)), domain) == ["MS-X107"]


def test_two_channels():
    def both(seed):
        return replace(scan(seed=seed), array=np.stack([scan(seed=seed).array, scan(seed=seed, offset=-500).array]))

    domain = Domain.from_json(measure_domain([both(n) for n in range(3)]))
    assert codes(both(5), domain) == []
    found = check_domain(replace(both(5), array=both(5).array[::-1]), domain)
    assert [v.message.split(":")[0] for v in found] == ["channel 0", "channel 1"]


def test_volumes_and_flags():
    table = LabelTable.from_json(
        [{"value": 1, "name": "core"}, {"value": 2, "name": "rim"}, {"value": 9, "name": "all", "region": [1, 2]}]
    )

    def label(n):
        array = np.zeros((20, 24, 22), np.uint8)
        array[:n, 0, 0], array[:n, 1, 0] = 1, 2
        return Volume(array, np.diag([2.0, 5.0, 10.0, 1.0]))  # 0.1 mL a voxel

    assert volumes_ml(label(10), table) == pytest.approx({"core": 1, "rim": 1, "all": 2})
    domain = Domain.from_json(measure_domain([scan()], [label(10), label(20)], table=table))
    assert domain.volume_ml == {"core": (1, 2), "rim": (1, 2), "all": (2, 4)}
    assert check_result({"core": 2.9, "rim": 0.7, "all": 3.6}, domain) == []
    flags = check_result({"core": 3.1, "rim": 0.1}, domain)
    assert [flag.code for flag in flags] == ["MS-X210", "MS-X210", "MS-X211"]
    assert flags[0].message == "core is 3.10 mL; it is 1.00 to 2.00 mL in 1 training cases"


def test_json_and_back(domain):
    assert Domain.from_json(json.loads(json.dumps(domain.to_json()))) == domain


@pytest.mark.parametrize(
    "spoil",
    [{"extent_mm": [[1, 2]]}, {"cases": "many"}, {"intensity": [3]}, {"modality": None}, {"form_margin": 0}],
)
def test_a_malformed_domain_is_named(domain, spoil):
    with pytest.raises(BundleError, match="MS-B130"):
        Domain.from_json(domain.to_json() | spoil)


def test_nothing_to_measure():
    with pytest.raises(ValueError, match="none was given"):
        measure_domain([])
    with pytest.raises(ValueError, match="training scan 2"):
        measure_domain([scan(), replace(scan(), array=np.ones((20, 24, 22)))])


# Real scans ---------------------------------------------------------------------------------------------------------


def read(path, modality=None):
    volume = read_nifti(path, ReadOptions())
    return replace(volume, source=replace(volume.source, modality=modality or volume.source.modality))


@pytest.fixture(scope="module")
def hippocampus(data):
    """(domain of the 160 training cases, the 40 validation cases)."""
    folder = data("hippocampus")
    split = json.loads((folder / "splits_dev.json").read_text(encoding="utf-8"))
    images = {name: folder / "imagesTr" / f"{name}.nii.gz" for names in split.values() for name in names}
    measured = measure_domain((read(images[name]) for name in split["train"]), modality=["MR"])
    return Domain.from_json(measured), [read(images[name]) for name in split["val"]]


def refused(volumes, domain):
    return sum(bool(check_domain(volume, domain)) for volume in volumes)


def test_validation_cases_pass(hippocampus):
    domain, cases = hippocampus
    assert len(cases) == 40
    assert refused(cases, domain) == 0


def test_flipped_shifted_and_cropped_cases_pass(hippocampus):
    domain, cases = hippocampus
    for volume in cases[::5]:
        array = volume.array
        shifted = np.zeros_like(array)
        shifted[1:] = array[:-1]
        others = [np.flip(array, 0), np.flip(array, 1), shifted, np.roll(array, 1, 2), array[2:-2, 2:-2, 2:-2]]
        assert refused([Volume(other, volume.affine) for other in others], domain) == 0


def test_the_template_s_hippocampi_pass(hippocampus):
    datasets = pytest.importorskip("nilearn.datasets")
    template = datasets.load_mni152_template(resolution=1)
    image, inverse = template.get_fdata(), np.linalg.inv(template.affine)
    for centre in ((-27, -22, -14), (27, -22, -14)):
        middle = np.round(inverse[:3, :3] @ centre + inverse[:3, 3]).astype(int)
        crop = image[tuple(slice(c - n // 2, c + n // 2) for c, n in zip(middle, (32, 56, 40), strict=True))]
        assert check_domain(Volume(crop, template.affine), hippocampus[0]) == []


def test_a_dicom_crop_passes(hippocampus, data):
    from medseg.readers.open import read as read_any

    volume = read_any(data("dicom") / "dev" / "mr_hippocampus_crop_13")
    assert volume.source.modality == "MR"
    assert check_domain(volume, hippocampus[0]) == []


def test_ct_crops_of_that_size_anywhere_are_refused(hippocampus, data):
    """35 x 50 x 35 mm of air, lung, soft tissue and bone, on the CT's own 3 mm grid, told as 3 mm and as 1 mm."""
    ct = read(data("totalseg") / "example_ct.nii.gz")
    rng = np.random.default_rng(0)
    for _ in range(40):
        i, j, k = (int(rng.integers(0, n - m)) for n, m in zip(ct.array.shape, (12, 17, 12), strict=True))
        crop = ct.array[i : i + 12, j : j + 17, k : k + 12]
        fine = np.repeat(np.repeat(np.repeat(crop, 3, 0), 3, 1), 3, 2)
        assert check_domain(Volume(crop, ct.affine), hippocampus[0])
        assert check_domain(Volume(fine, np.eye(4)), hippocampus[0])


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("totalseg", "example_ct.nii.gz"),
        ("totalseg", "example_ct_sm.nii.gz"),
        ("spinal_cord", "t1w.nii.gz"),
        ("spinal_cord", "t2.nii.gz"),
        ("open_ms", "mni/patient07/T1.nii.gz"),
        ("open_ms", "mni/patient26/FLAIR.nii.gz"),
        ("nifti_quirks", "nifti_space_48/RAI.nii.gz"),
    ],
)
def test_other_scans_are_refused(hippocampus, data, folder, name):
    assert check_domain(read(data(folder) / name), hippocampus[0])
