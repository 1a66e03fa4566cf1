"""From files to batches: all transforms of instances behind one another, as a bundle trains with them."""

from __future__ import annotations

import json

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, LoadImaged, RandFlipd, RandRotate90d

from medseg.boxes.convention import boxes_of_instances
from medseg.training.datalist import datalist
from medseg.transforms import (
    CopyPasted,
    InstancesFromLabeld,
    RandDeformd,
    ToNetworkGridd,
    VolumeReader,
    collate_instances,
)
from medseg.transforms.instances import BOX_ONLY, IGNORE
from medseg.writers.nifti import write_nifti


def folder(root):
    """Six cases of 3 to 5 bright cubes; class by brightness, one box, one region to ignore."""
    rng = np.random.default_rng(0)
    for n in range(6):
        label = np.zeros((36, 32, 20), np.uint16)
        count = 3 + n % 3
        for i in range(count):
            a, b, c = 2 + 6 * i, *rng.integers(2, 12, 2)
            label[a : a + 4, b : b + 5, c : c + 4] = 10 * (i + 1)
        table = {"instances": {str(10 * (i + 1)): i % 2 for i in range(count)}, "box_only": [10], "ignore": [20]}
        image = np.where(label > 0, 1.0 + (label // 10 + 1) % 2, 0.0) + rng.normal(0, 0.01, label.shape)
        write_nifti(root / "imagesTr" / f"c{n}_0000.nii.gz", image, np.diag([1.0, 1, 2, 1]))
        write_nifti(root / "labelsTr" / f"c{n}.nii.gz", label, np.diag([1.0, 1, 2, 1]))
        (root / "labelsTr" / f"c{n}.json").write_text(json.dumps(table), encoding="utf-8")
    return root


def batches(root):
    both = ["image", "label"]
    steps = Compose(
        [
            LoadImaged(both, reader=VolumeReader, ensure_channel_first=True),
            ToNetworkGridd("image", label_keys="label"),
            InstancesFromLabeld("label", num_classes=2),
            CopyPasted("image", "label", prob=1.0, most=4),
            RandDeformd(both, "label", (24, 24, 16), elastic_mm=1.0, instance_key="label"),
            RandFlipd(both, 0.5, spatial_axis=0),
            RandRotate90d(both, 0.5, spatial_axes=(0, 1)),
        ]
    )
    data = CacheDataset(datalist(str(root), "train", fraction=0.01), steps, progress=False)
    seeded = torch.Generator().manual_seed(0)  # the loader draws the seeds of the transforms
    return list(DataLoader(data, batch_size=2, collate_fn=collate_instances, generator=seeded))


def test_what_the_network_gets_is_consistent_and_repeatable(tmp_path):
    made = batches(folder(tmp_path))
    assert [len(batch["image"]) for batch in made] == [2, 2, 1]
    seen, instances = 0, 0
    for batch in made:
        assert batch["image"].shape == batch["label"].shape
        assert batch["image"].shape[1:] == (1, 24, 24, 16)
        assert batch["label"].dtype == torch.int16
        for image, label, classes, flags in zip(
            *(batch[k] for k in ("image", "label", "classes", "flags")), strict=True
        ):
            ids, boxes = boxes_of_instances(label[0])
            assert (boxes[:, 3:] > boxes[:, :3]).all()
            assert int(ids.max()) < len(classes)
            assert (flags[1] & BOX_ONLY, flags[2] & IGNORE) == (BOX_ONLY, IGNORE)
            for number in ids.tolist():
                if flags[number] == 0 and (label[0] == number).sum() >= 20:
                    bright = float(image[0][label[0] == number].median())
                    assert abs(bright - 1 - int(classes[number])) < 0.35, "image, map and table move together"
                    seen += 1
            instances += int((classes >= 0).sum())
    assert seen >= 8
    assert instances > 24 - 3, "copies were pasted"
    again = batches(tmp_path)
    for a, b in zip(made, again, strict=True):
        for key in ("image", "label", "classes", "flags"):
            assert torch.equal(torch.as_tensor(a[key]), torch.as_tensor(b[key]))
