"""`--folds`: a run a fold, and an ensemble of all."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import find_bundle
from medseg.bundle.weights import read_weights
from medseg.errors import OutputError, UsageError
from medseg.training.cross_validation import is_finished, train_folds
from medseg.workflows.predict import predict


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("cubes")
    rng = np.random.default_rng(0)
    for n in range(6):
        label = np.zeros((16, 16, 16), np.uint8)
        label[4:12, 4:8, 4:12], label[4:12, 8:12, 4:12] = 1, 2
        image = (label > 0) * 50.0 + rng.normal(100, 5, label.shape)
        for part, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (root / part).mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), root / part / f"cube_{n}.nii.gz")
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    root = tmp_path_factory.mktemp("recipe") / "cubes_segmentation"
    shutil.copytree(find_bundle("hippocampus_mri_segmentation"), root, ignore=shutil.ignore_patterns("models"))
    for name in ("train", "inference"):
        path = root / "configs" / f"{name}.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        config["network_def"]["features"] = [4, 8, 8, 8]
        config |= {"patch_size": [16, 16, 16], "val_interval": 1} if name == "train" else {}
        path.write_text(json.dumps(config), encoding="utf-8")
    return root


@pytest.mark.slow
def test_one_fold_after_the_other_makes_an_ensemble(data, recipe, tmp_path):
    out = tmp_path / "cv"
    run = train_folds(recipe, data, out, folds=3, fold=1, epochs=1)
    assert run == out / "fold_1"
    assert is_finished(run)
    assert not (out / "configs").exists()
    splits = json.loads((out / "splits.json").read_text(encoding="utf-8"))
    config = json.loads((run / "configs" / "train.json").read_text(encoding="utf-8"))
    assert config["validation"] == splits["folds"][1]["val"]
    assert (run / "splits.json").read_bytes() == (out / "splits.json").read_bytes()
    before = (run / "models" / "model.pt").read_bytes()

    assert train_folds(recipe, data, out, folds=3, epochs=1) == out
    assert (run / "models" / "model.pt").read_bytes() == before  # a finished fold is not trained again
    bundle = load_bundle(out)
    members = bundle.members()
    assert len(members) == 3
    for number, member in enumerate(members):
        weights = read_weights(out / f"fold_{number}" / "models" / "model.safetensors")
        assert all(torch.equal(weights[key].float(), value) for key, value in member.state_dict().items())
    predict(data / "imagesTr", out, tmp_path / "pred", device="cpu", uncertainty="ensemble", outside_domain=True)
    assert len(list((tmp_path / "pred").rglob("uncertainty_entropy.nii.gz"))) == 6

    with pytest.raises(OutputError, match=r"MS-T168 .*splits.json"):
        train_folds(recipe, data, out, folds=2, epochs=1)


def test_what_cannot_be_is_refused_before_anything_is_trained(data, recipe, tmp_path):
    with pytest.raises(UsageError, match="MS-T165"):
        train_folds(recipe, data, tmp_path / "cv", folds=3, fold=3)
    assert [path.name for path in (tmp_path / "cv").iterdir()] == ["splits.json"]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.docx").touch()
    with pytest.raises(OutputError, match="MS-T105"):
        train_folds(recipe, data, tmp_path / "full", folds=3)


def test_a_patient_id_is_kept_as_a_hash_under_a_salt_that_stays(data, recipe, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for n in range(6):
        said = json.dumps({"PatientID": f"HOSP-{n // 2}"})
        (tmp_path / "data" / "imagesTr" / f"cube_{n}.json").write_text(said, encoding="utf-8")
    out = tmp_path / "cv"
    kept = []
    for _ in range(2):
        with pytest.raises(UsageError, match="MS-T165"):  # after the folds are drawn, before anything is trained
            train_folds(recipe, tmp_path / "data", out, folds=3, fold=9)
        assert sorted(path.name for path in out.iterdir()) == ["splits.json", "subjects.salt"]
        kept.append([path.read_text(encoding="utf-8") for path in sorted(out.iterdir())])
    assert kept[0] == kept[1]
    assert "HOSP" not in "".join(kept[0])
    splits, salt = json.loads(kept[0][0]), bytes.fromhex(kept[0][1])
    digest = hmac.new(salt, b"HOSP-1", hashlib.sha256).hexdigest()
    assert {name for name, who in splits["subjects"].items() if who == f"patient-{digest[:16]}"} == {"cube_2", "cube_3"}
    (out / "splits.json").unlink()  # killed between the two files
    with pytest.raises(UsageError, match="MS-T165"):
        train_folds(recipe, tmp_path / "data", out, folds=3, fold=9)
    assert [path.read_text(encoding="utf-8") for path in sorted(out.iterdir())] == kept[0]
