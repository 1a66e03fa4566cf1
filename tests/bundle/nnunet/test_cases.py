"""What the training cases tell: the domain, and the directions of their axes."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

import medseg
from medseg.bundle.load import load_bundle
from medseg.bundle.nnunet import import_nnunet
from medseg.bundle.nnunet.cases import look_at_cases
from medseg.errors import DomainError, InputError
from medseg.labels import LabelTable
from tests.bundle.nnunet.made import checkpoint, network

TABLE = LabelTable.from_names(["thing", "other"])
LPS = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.fixture
def dataset(tmp_path):
    """`dataset(affines)`: a raw dataset of nnU-Net with one case an affine; the first lacks the second structure."""

    def make(affines, *, constant=False):
        root = tmp_path / "Dataset007_Things"
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True)
        for n, affine in enumerate(affines):
            label = np.zeros((20, 24, 10), np.uint8)
            label[5:10, 5:15, 3:6] = 1
            label[12:15, 5:15, 3:6] = 2 if n else 0
            image = np.random.default_rng(n).gamma(4, 20, label.shape) + 100.0 * label
            image = np.full(label.shape, 7.0) if constant else image
            nib.save(nib.Nifti1Image(image.astype(np.float32), affine), root / "imagesTr" / f"c{n}_0000.nii.gz")
            nib.save(nib.Nifti1Image(label, affine), root / "labelsTr" / f"c{n}.nii.gz")
        labels = {"background": 0, "thing": 1, "other": 2}
        said = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": len(affines), "file_ending": ".nii.gz"}
        (root / "dataset.json").write_text(json.dumps(said))
        return root

    return make


def test_domain_and_directions(dataset):
    steps = []
    found = look_at_cases(dataset([LPS, LPS]), ("MRI",), TABLE, ("MR",), progress=lambda *n: steps.append(n))
    assert found.axcodes == "LPS"
    assert found.domain["cases"] == 2
    assert found.domain["modality"] == ["MR"]
    assert found.domain["spacing_mm"] == [[1.0, 1.0], [1.0, 1.0], [2.0, 2.0]]
    assert found.domain["volume_ml"] == {
        "thing": [0.3, 0.3]
    }  # 5 x 10 x 3 voxels of 2 mm3; not every case has the other
    assert steps == [(1, 2), (2, 2)]


def test_directions_that_differ_tell_nothing(dataset):
    assert look_at_cases(dataset([LPS, np.diag([1.0, 1.0, 2.0, 1.0])]), ("MRI",), TABLE).axcodes is None


def test_a_constant_scan(dataset):
    with pytest.raises(InputError, match="constant") as caught:
        look_at_cases(dataset([LPS, LPS], constant=True), ("MRI",), TABLE)
    assert caught.value.code == "MS-B159"


def test_the_bundle_refuses_other_scans_and_turns_those_stored_otherwise(dataset, trained, tmp_path):
    data = dataset([LPS, LPS, LPS])
    root = trained(folds={"0": checkpoint(network(), inference_allowed_mirroring_axes=(1, 2))})
    found = import_nnunet(root, tmp_path / "things_segmentation", data=data)
    assert found.problems == ()
    # Network axes 1 and 2 are the file's j and i, which run along A-P and L-R.
    assert load_bundle(found.bundle).uncertainty.mirrors == ((0,), (1,), (0, 1))
    scan = medseg.read(data / "imagesTr" / "c1_0000.nii.gz")
    stored = scan.reoriented("RAS")
    one, two = (medseg.predict(volume, found.bundle) for volume in (scan, stored))
    assert not one.outside_domain
    np.testing.assert_array_equal(one.segmentation.reoriented("RAS").array, two.segmentation.reoriented("RAS").array)
    small = medseg.read(data / "imagesTr" / "c1_0000.nii.gz")
    grown = type(small)(small.array, small.affine @ np.diag([9.0, 9.0, 9.0, 1.0]), small.source)
    with pytest.raises(DomainError):
        medseg.predict(grown, found.bundle)
