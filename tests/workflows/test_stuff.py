"""Panoptic output with a network whose right answer is known: pieces above 0.4 are instances, haze below is stuff."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import nn

from medseg.bundle.uncertainty import Declared
from medseg.labels import LabelTable
from medseg.readers.nrrd import read_nrrd
from medseg.readers.options import ReadOptions
from medseg.volume import Volume
from medseg.workflows.method import parse_method
from medseg.workflows.predict import predict
from medseg.workflows.segment import segment
from medseg.workflows.stuff import stuff_values
from medseg.writers.nifti import write_nifti
from tests.workflows.instance_network import CLASSES, Pieces, finding

LABELS = LabelTable.from_json(
    [{"value": label.value, "name": label.name} for label in CLASSES]
    + [{"value": 3, "name": "haze", "colour": [1, 2, 3]}, {"value": 4, "name": "mist"}]
)


class Panoptic(Pieces):
    """Also says haze (value 3) of all voxels from 0.2 on, pieces included: instances must override it. No mist (4)."""

    classes, stuff = 2, 2

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)  # of what is not used: samples are alike

    def found(self, image):
        self.dropout(torch.ones(1, 8))
        return replace(super().found(image), stuff=torch.where(image[0] >= 0.2, 3, 0).byte())


def panoptic(toy, network=None, **how):
    return replace(finding(toy, network or Panoptic(), **how), labels=LABELS)


@pytest.fixture
def hazy(scan):
    """The scan with a slab of haze that touches pieces, a speck of 8 voxels of it, and one voxel."""
    array = np.where(scan.array > 0.4, scan.array, 0).astype(np.float32)
    haze = np.zeros(array.shape, bool)
    haze[:, :, 2:8], haze[1:3, 1:3, 12:14], haze[18, 20, 16] = True, True, True
    array[haze & (array == 0)] = 0.3
    return replace(scan, array=array)


def wanted(array) -> np.ndarray:
    return np.where(array > 0.7, 2, np.where(array > 0.4, 1, np.where(array > 0.2, 3, 0)))


@pytest.mark.parametrize("how", [{}, {"roi_size": (20, 22, 16), "overlap": 12}, {"flips": [0]}])
def test_every_voxel_by_hand(hazy, toy, how):
    made = segment(hazy, panoptic(toy, **how))
    alone = segment(hazy, finding(toy, **how))
    assert np.array_equal(made.labels.array, wanted(hazy.array))
    assert np.array_equal(made.instances.ids.array, alone.instances.ids.array), "the map of instances is as ever"
    assert alone.instances.stuff is None
    assert made.cleaned_ml == {}


def test_values_without_instances_lie_behind_those_with(toy):
    assert list(stuff_values(panoptic(toy))) == [3, 4]
    assert list(stuff_values(finding(toy))) == []


def test_small_pieces_are_left_out_where_that_is_declared(hazy, toy):
    voxel = hazy.grid.voxel_ml
    made = segment(hazy, panoptic(toy, min_stuff_mm3=9 * voxel * 1000))
    expected = wanted(hazy.array)
    expected[1:3, 1:3, 12:14], expected[18, 20, 16] = 0, 0
    assert np.array_equal(made.labels.array, expected)
    assert made.cleaned_ml == {"haze": pytest.approx(9 * voxel)}
    made = segment(hazy, panoptic(toy, min_stuff_mm3=8 * voxel * 1000 * 0.999))
    assert made.cleaned_ml == {"haze": pytest.approx(voxel)}


def test_on_a_finer_grid_instances_lie_over_stuff_too(hazy, toy):
    """Every voxel in eight: the network's grid is half as fine as the image's."""
    array = hazy.array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    bundle = panoptic(toy)
    steps = list(bundle.preprocessing.transforms)
    steps[0] = type(steps[0])(keys="image", axcodes="RAS", spacing_mm=1.0)
    made = segment(Volume(array, np.diag([0.5, 0.5, 0.5, 1])), replace(bundle, preprocessing=Compose(steps)))
    ids, stuff = made.instances.ids.array, made.instances.stuff.array
    assert made.labels.array.shape == ids.shape == array.shape
    assert not (stuff[ids > 0]).any()
    assert np.array_equal(made.labels.array, made.instances.class_map().array)
    assert (made.labels.array == wanted(array)).mean() > 0.99


@pytest.mark.parametrize("method", ["mc:3", "tta", "ensemble", "ensemble+tta"])
def test_with_samples_the_stuff_is_that_of_the_plain_network(hazy, toy, method):
    bundle = replace(panoptic(toy), uncertainty=Declared(mirrors=((0,),)))
    bundle = replace(bundle, members=lambda: (bundle.network, Panoptic()))
    made = segment(hazy, bundle, method=parse_method(method))
    assert np.array_equal(made.labels.array, wanted(hazy.array))
    assert set(made.uncertainty.doubt) == {"dim", "bright"}, "of stuff the samples say nothing"


def test_the_files_of_a_run(hazy, toy, tmp_path):
    write_nifti(tmp_path / "in" / "a.nii.gz", hazy.array, hazy.affine)
    assert predict(tmp_path / "in", panoptic(toy), tmp_path / "out").exit_code == 0
    case = tmp_path / "out" / "a"
    labels, ids = (np.asarray(nibabel.load(case / f"{n}.nii.gz").dataobj) for n in ("segmentation", "instances"))
    assert np.array_equal(labels, wanted(hazy.array))
    assert np.array_equal(ids > 0, hazy.array > 0.4)
    with (case / "measurements.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    haze = int((labels == 3).sum())
    assert [(row["value"], row["count"]) for row in rows.values()] == [("1", "1"), ("2", "2"), ("3", ""), ("4", "")]
    assert rows["haze"]["voxels"] == str(haze)
    assert rows["mist"]["flags"] == "empty"
    told = json.loads((case / "instances.json").read_text(encoding="utf-8"))
    assert told["stuff"] == [{"structure": "haze", "value": 3}, {"structure": "mist", "value": 4}]
    assert [row["structure"] for row in told["instances"]] == ["bright", "bright", "dim"]
    shown = read_nrrd(case / "segmentation.seg.nrrd", ReadOptions())
    assert {label.name: label.value for label in shown.labels} == {"bright 1": 1, "bright 2": 2, "dim 3": 3, "haze": 4}
    assert np.array_equal(shown.array, np.where(labels == 3, 4, ids))
    assert shown.labels.by_name["haze"].colour == (1, 2, 3)
    assert "haze" in (case / "report.html").read_text(encoding="utf-8")
    again = predict(tmp_path / "in", panoptic(toy), tmp_path / "out", resume=True)
    assert [m.count for m in again.cases[0].measurements] == [1, 2, None, None]
