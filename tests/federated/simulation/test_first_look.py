"""A simulation looks at its sites first: exchanged sides are found before round 1, and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from medseg.bundle.shipped import find_bundle
from medseg.errors import InputError
from medseg.federated.algorithm import load_algorithm
from medseg.federated.simulation.first_look import first_look
from medseg.federated.simulation.simulate import simulate
from medseg.federated.simulation.sites import read_sites
from medseg.readers.open import read


@pytest.fixture(scope="module")
def place(tmp_path_factory, data):
    """Real scans at two sites, the hippocampus cut into a left and a right half; at one of them the halves trade names."""
    root, source = tmp_path_factory.mktemp("sites"), data("hippocampus")
    files = sorted((source / "imagesTr").glob("[!.]*.nii.gz"))[:12]
    for n, file in enumerate(files):
        image, label = read(file), read(source / "labelsTr" / file.name)
        index = np.argwhere(label.array > 0)
        x = label.affine[0, :3] @ index.T
        array = np.zeros(label.array.shape, np.uint8)
        left, right = (1, 2) if n % 2 else (2, 1)
        array[tuple(index.T)] = np.where(x < x.mean(), left, right)
        folder = root / ("swapped" if left == 2 else "sound")
        for part, made in (("imagesTr", image.array), ("labelsTr", array)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(made, label.affine), folder / part / file.name)
        said = {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "half, left": 1, "half, right": 2}}
        (folder / "dataset.json").write_text(json.dumps(said), encoding="utf-8")
    rows = [{"name": name, "data": name} for name in ("sound", "swapped")]
    (root / "sites.yaml").write_text(yaml.safe_dump({"sites": rows}), encoding="utf-8")
    return root


def test_swapped_left_and_right_are_found_before_round_1(place, small_recipe, tmp_path):
    lines = []
    with pytest.raises(InputError, match="not fit to train as they are: swapped") as raised:
        simulate(small_recipe, place / "sites.yaml", load_algorithm("fedavg"), tmp_path / "out", tell=lines.append)
    assert raised.value.code == "MS-J177"
    assert "--no-look" in raised.value.mend
    assert any(
        "swapped  MS-J155  'half, left' lies to the patient's right of 'half, right' in 100 % of 6 cases" in line
        for line in lines
    )
    assert not any(path.name == "rounds.jsonl" for path in Path(tmp_path / "out").rglob("*"))


def test_sound_sites_pass_with_the_cases_that_they_have(place, small_recipe):
    sites = read_sites(place / "sites.yaml")[:1]
    found = first_look(sites, small_recipe, print)
    assert found is not None
    assert found.pooled.cases == 6


def test_instances_have_no_structures_to_compare(place):
    root = find_bundle("phantom_instance_segmentation")
    assert first_look(read_sites(place / "sites.yaml"), root, print) is None
