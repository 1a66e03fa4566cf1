"""What a site finds of its own data before the first round of a job."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from medseg.errors import InputError
from medseg.federated.algorithm import Algorithm
from medseg.federated.site_check import require_apart, require_sides
from medseg.federated.site_recipe import SiteRecipe
from medseg.training.plan.problems import DatasetError


@pytest.fixture
def sided(small_recipe, tmp_path):
    """The recipe with structures that are called by their sides."""
    root = shutil.copytree(small_recipe, tmp_path / "sided")
    for path in (root / "configs").glob("*.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if "labels" in config:
            for label, name in zip(config["labels"], ("Left lobe", "Right lobe"), strict=True):
                label["name"] = name
            config["labels"][0]["mirror"], config["labels"][1]["mirror"] = "Right lobe", "Left lobe"
            path.write_text(json.dumps(config), encoding="utf-8")
    return root


def halves(root, *, swapped=False):
    """Scans whose label 1 lies to the patient's left (RAS: low R) of label 2; or the other way round."""
    for n in range(3):
        image = np.random.default_rng(n).normal(100, 5, (16, 16, 16)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        label[2:7, 4:12, 4:12], label[9:14, 4:12, 4:12] = (2, 1) if swapped else (1, 2)
        image += 80 * (label > 0)
        for sub, array in (("imagesTr", image), ("labelsTr", label)):
            (root / sub).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / sub / f"body_{n}.nii.gz")
    return root


def test_exchanged_sides_are_found_by_the_names_of_the_bundle(sided, tmp_path):
    require_sides(halves(tmp_path / "right"), sided)
    with pytest.raises(InputError, match=r"MS-J155 [\s\S]*lies to the patient's right of [\s\S]*nothing was trained"):
        require_sides(halves(tmp_path / "wrong", swapped=True), sided)


def test_without_names_that_say_a_side_nothing_is_read(small_recipe, tmp_path):
    require_sides(tmp_path / "nowhere", small_recipe)


def test_a_case_that_trains_and_validates_is_refused(small_recipe, cubes, tmp_path):
    data = cubes(tmp_path / "data", range(4))
    how = Algorithm("test")
    require_apart(SiteRecipe(small_recipe, data, tmp_path / "out", how, validation=("cube_00",)))
    for sub in ("imagesTr", "labelsTr"):
        shutil.copy(data / sub / "cube_01.nii.gz", data / sub / "copy.nii.gz")
    with pytest.raises(DatasetError, match="MS-T140"):
        require_apart(SiteRecipe(small_recipe, data, tmp_path / "out", how, validation=("copy",)))
