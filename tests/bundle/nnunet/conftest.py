"""A small trained nnU-Net folder, made without nnU-Net."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from tests.bundle.nnunet.made import DATASET, PLANS, checkpoint, network


@pytest.fixture
def trained(tmp_path):
    """`trained(plans=..., dataset=..., folds={"0": checkpoint})`: a folder; tables may be functions that change them."""

    def make(plans=None, dataset=None, folds=None, name="checkpoint_final.pth"):
        root = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
        root.mkdir()
        for file, table, change in (("plans", PLANS, plans), ("dataset", DATASET, dataset)):
            table = copy.deepcopy(table)
            if change is not None:
                change(table)
            (root / f"{file}.json").write_text(json.dumps(table))
        if folds is None:
            torch.manual_seed(0)
            folds = {str(fold): checkpoint(network(), fold) for fold in (0, 1)}
        for fold, content in folds.items():
            (root / f"fold_{fold}").mkdir()
            torch.save(content, root / f"fold_{fold}" / name)
        return root

    return make
