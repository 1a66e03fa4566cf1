"""CT in Hounsfield units of labelled tissue, everything else by each scan's own quantiles."""

from __future__ import annotations

import numpy as np
import torch
from monai.transforms import ScaleIntensityRanged

from medseg.training.plan.normalisation import normalisation_of


def test_ct_is_clipped_to_the_foreground_and_standardised(fact):
    rng = np.random.default_rng(0)
    values = rng.normal(60, 20, 5000).astype(np.float32)
    facts = [fact(low=-1024.0, high=1500.0, values=values) for _ in range(3)]
    found = normalisation_of(facts, ["image"])
    (step,) = found.steps
    low, high = np.quantile(values, [0.005, 0.995])
    assert np.allclose([step["a_min"], step["a_max"]], [low, high], atol=0.06)
    assert found.modality == ("CT",)
    # MONAI's transform with these numbers is (clip(x) - mean) / deviation
    arguments = {key: value for key, value in step.items() if key != "_target_"}
    given = torch.tensor([[[[-1000.0, 40.0, 60.0, 3000.0]]]])
    out = ScaleIntensityRanged(**arguments)({"image": given})["image"]
    inside = values.clip(low, high)
    wanted = (given.numpy().clip(low, high) - inside.mean()) / inside.std()
    assert np.allclose(out.numpy(), wanted, atol=0.01)


def test_ct_by_its_name_even_without_air(fact):
    assert normalisation_of([fact(low=0.0)], ["CT"]).modality == ("CT",)


def test_mr_as_in_the_shipped_bundle(fact):
    found = normalisation_of([fact(), fact(high=9e5)], ["T1w"])
    assert [step["_target_"] for step in found.steps] == ["ScaleIntensityRangePercentilesd", "NormalizeIntensityd"]
    assert found.steps[1] == {"_target_": "NormalizeIntensityd", "keys": "image"}
    assert found.modality == ()


def test_masked_scans_leave_their_zeros_out_and_channels_stand_alone(fact):
    found = normalisation_of([fact(zeros=0.7, channels=2)], ["FLAIR", "T1"])
    assert found.steps[1]["nonzero"] is True
    assert all(step["channel_wise"] is True for step in found.steps)


def test_dicoms_word_goes_into_the_domain(fact):
    assert normalisation_of([fact(modality="MR")], ["image"]).modality == ("MR",)
