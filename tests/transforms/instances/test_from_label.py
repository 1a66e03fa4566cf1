"""Label files become instance maps with ids 1..N, classes and flags."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, RandFlipd, RandRotate90d
from scipy import ndimage

from medseg.boxes.convention import boxes_of_instances
from medseg.errors import InputError, UsageError
from medseg.training.datalist import datalist
from medseg.transforms import ToNetworkGridd, VolumeReader
from medseg.transforms.instances import BOX_ONLY, IGNORE, STUFF, InstancesFromLabeld
from medseg.writers.nifti import write_nifti

MAPS = arrays(np.uint16, st.tuples(*[st.integers(1, 5)] * 3), elements=st.sampled_from([0, 1, 3, 7, 900]))


def case(folder, values: np.ndarray, table: dict | None = None) -> dict:
    """A folder of one labelled case, as `datalist` finds it."""
    write_nifti(folder / "imagesTr" / "a_0000.nii.gz", values.astype(np.float32), np.diag([1.0, 1, 2, 1]))
    write_nifti(folder / "labelsTr" / "a.nii.gz", values, np.diag([1.0, 1, 2, 1]))
    if table is not None:
        (folder / "labelsTr" / "a.json").write_text(json.dumps(table), encoding="utf-8")
    return datalist(str(folder), "val")[0]


LOAD = LoadImaged(["image", "label"], reader=VolumeReader, ensure_channel_first=True)


@given(values=MAPS)
def test_ids_are_counted_off_in_rising_order_and_keep_their_voxels(values):
    out = InstancesFromLabeld("label")({"label": torch.from_numpy(values.astype(np.float32))[None]})
    known = sorted(set(values.ravel().tolist()) - {0})
    assert out["label"].dtype == torch.int16
    for new, old in enumerate([0, *known]):
        np.testing.assert_array_equal(out["label"][0].numpy() == new, values == old)
    assert out["classes"].tolist() == [-1] + [0] * len(known)
    assert out["flags"].tolist() == [0] * (len(known) + 1)


def test_classes_and_flags_come_from_the_file_beside_it(tmp_path):
    values = np.zeros((6, 5, 4), np.uint16)
    values[0], values[2], values[4], values[5] = 2, 5, 9, 30
    table = {"instances": {"2": 1, "5": 0, "9": 2, "77": 0}, "box_only": [5], "ignore": [30]}
    load = Compose([LOAD, ToNetworkGridd("image", label_keys="label"), InstancesFromLabeld("label")])
    out = load(case(tmp_path, values, table))
    assert out["classes"].tolist() == [-1, 1, 0, 2, -1]
    assert out["flags"].tolist() == [0, 0, BOX_ONLY, 0, IGNORE]
    assert isinstance(out["label"], MetaTensor)
    assert out["label"].affine.equal(out["image"].affine)
    ids, boxes = boxes_of_instances(out["label"].as_tensor()[0])
    assert ids.tolist() == [1, 2, 3, 4]
    assert boxes[1].tolist() == [2, 0, 0, 3, 5, 4]


def test_it_may_stand_before_or_after_the_change_of_grid(tmp_path):
    values = np.zeros((8, 8, 8), np.uint16)
    values[1:5, 1:5, 1:5], values[5:8, 5:8, 5:8] = 40, 3
    listed = case(tmp_path, values, {"instances": {"3": 1, "40": 0}})
    grid, make = ToNetworkGridd("image", "LPS", 1.0, label_keys="label"), InstancesFromLabeld("label")
    before, after = Compose([LOAD, make, grid])(listed), Compose([LOAD, grid, make])(listed)
    assert torch.equal(before["label"].as_tensor(), after["label"].as_tensor())
    assert before["classes"].tolist() == after["classes"].tolist() == [-1, 1, 0]


def test_flips_and_quarter_turns_keep_instances_and_move_their_boxes(tmp_path):
    values = np.zeros((6, 7, 8), np.uint16)
    values[1:3, 0:2, 5:8], values[4:6, 3:7, 0:2] = 1, 2
    turn = Compose(
        [LOAD, InstancesFromLabeld("label"), RandFlipd(["image", "label"], 1.0, spatial_axis=0),
         RandRotate90d(["image", "label"], 1.0, max_k=1, spatial_axes=(1, 2))]
    )  # fmt: skip
    out = turn(case(tmp_path, values))
    expected = np.rot90(values[::-1], 1, (1, 2))
    np.testing.assert_array_equal(out["label"][0].numpy(), expected)
    places = ndimage.find_objects(expected)
    wanted = [[*(s.start for s in p), *(s.stop for s in p)] for p in places]
    assert boxes_of_instances(out["label"].as_tensor()[0])[1].tolist() == wanted
    assert torch.equal(out["image"].as_tensor(), out["label"].as_tensor().float())


@given(values=arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 2)))
def test_pieces_of_a_semantic_map_are_scipys_components(values):
    out = InstancesFromLabeld("label", from_components=True)({"label": torch.from_numpy(values)[None]})
    ids, classes = out["label"][0].numpy(), out["classes"].numpy()
    n = 0
    for value in (1, 2):
        pieces, count = ndimage.label(values == value, np.ones((3, 3, 3)))
        n += count
        for piece in range(1, count + 1):
            (number,) = set(ids[pieces == piece].tolist())
            np.testing.assert_array_equal(ids == number, pieces == piece)
            assert classes[number] == value - 1
    assert ids.max() == n == len(classes) - 1
    assert classes[0] == -1


def test_sparse_ids_and_many_instances():
    far = torch.zeros(1, 3, 3, 3, dtype=torch.int32)
    far[0, 0], far[0, 2] = 2_000_000_011, 5
    out = InstancesFromLabeld("label")({"label": far})
    assert out["label"][0, :, 0, 0].tolist() == [2, 0, 1]
    many = torch.arange(40**3, dtype=torch.int32).reshape(1, 40, 40, 40)
    out = InstancesFromLabeld("label")({"label": many})
    assert out["label"].dtype == torch.int32
    assert torch.equal(out["label"], many)


def test_an_empty_map_has_no_instance():
    out = InstancesFromLabeld("label")({"label": torch.zeros(1, 2, 3, 4)})
    assert out["label"].shape == (1, 2, 3, 4)
    assert out["classes"].tolist() == [-1]
    assert out["flags"].tolist() == [0]


def refused(kind, code, match):
    return pytest.raises(kind, match=f"(?s){code}.*{match}")


def test_an_instance_without_a_class_is_refused(tmp_path):
    values = np.full((2, 2, 2), 4, np.uint16)
    load = Compose([LOAD, InstancesFromLabeld("label")])
    with pytest.raises(RuntimeError) as error:
        load(case(tmp_path, values, {"instances": {"1": 0}}))
    cause = error.value.__cause__
    assert isinstance(cause, InputError)
    assert cause.code == "MS-T122"
    assert cause.file == str(tmp_path / "labelsTr" / "a.json")
    shutil.rmtree(tmp_path / "labelsTr")
    with pytest.raises(RuntimeError) as error:
        Compose([LOAD, InstancesFromLabeld("label", num_classes=1)])(case(tmp_path, values, {"instances": {"4": 1}}))
    assert "class 1; there are 1" in str(error.value.__cause__)


@pytest.mark.parametrize("bad", [-1.0, 0.5, float("nan"), 1e12])
def test_values_that_are_no_ids_are_refused(bad):
    with refused(InputError, "MS-T123", "negative numbers or fractions"):
        InstancesFromLabeld("label")({"label": torch.tensor([0.0, bad]).reshape(1, 1, 1, 2)})


def test_other_shapes_and_several_keys_are_refused():
    with refused(UsageError, "MS-U155", r"\(2, 3, 3, 3\)"):
        InstancesFromLabeld("label")({"label": torch.zeros(2, 3, 3, 3)})
    with refused(UsageError, "MS-U155", "got 2 keys"):
        InstancesFromLabeld(["a", "b"])  # type: ignore[arg-type]


def test_instances_that_are_only_boxes_are_drawn_as_asked(tmp_path):
    values = np.zeros((9, 9, 9), np.uint16)
    values[:4, :4, :4], values[5:, 5:, 5:] = 1, 2
    listed = case(tmp_path, values, {"instances": {"1": 0, "2": 0}, "box_only": [2]})
    as_box = Compose([LOAD, InstancesFromLabeld("label", box_only_as="box")])(listed)
    rounded = Compose([LOAD, InstancesFromLabeld("label")])(listed)
    np.testing.assert_array_equal(as_box["label"][0].numpy(), values)
    assert (rounded["label"] == 1).sum() == 64
    assert (rounded["label"] == 2).sum() == 32  # the ball in a cube of 4
    one, other = (boxes_of_instances(x["label"].as_tensor()[0])[1] for x in (as_box, rounded))
    assert torch.equal(one, other)


def test_classes_behind_those_of_instances_are_stuff(tmp_path):
    values = np.zeros((8, 5, 4), np.uint16)
    values[0], values[2], values[4], values[6] = 2, 5, 9, 30
    table = {"instances": {"2": 1, "5": 2, "9": 0, "30": 3}, "ignore": [30]}
    listed = case(tmp_path, values, table)
    out = Compose([LOAD, InstancesFromLabeld("label", num_classes=2, stuff=2)])(listed)
    assert out["classes"].tolist() == [-1, 1, 2, 0, 3]
    assert out["flags"].tolist() == [0, 0, STUFF, 0, STUFF | IGNORE]
    with pytest.raises(RuntimeError) as error:
        Compose([LOAD, InstancesFromLabeld("label", num_classes=2, stuff=1)])(listed)
    assert "MS-T122" in str(error.value.__cause__)
    assert "class 3; there are 3" in str(error.value.__cause__)
    semantic = {"label": torch.from_numpy(np.minimum(values, 3).astype(np.int16))[None]}
    pieces = InstancesFromLabeld("label", from_components=True, num_classes=2, stuff=1)(semantic)
    assert pieces["flags"].tolist() == [0] + [STUFF * (c == 2) for c in pieces["classes"].tolist()[1:]]
    assert (pieces["flags"] > 0).any()


def test_stuff_known_by_a_box_or_without_a_number_of_classes_is_refused(tmp_path):
    values = np.full((3, 3, 3), 4, np.uint16)
    listed = case(tmp_path, values, {"instances": {"4": 1}, "box_only": [4]})
    with pytest.raises(RuntimeError) as error:
        Compose([LOAD, InstancesFromLabeld("label", num_classes=1, stuff=1)])(listed)
    assert "MS-T122" in str(error.value.__cause__)
    assert "class 1, which has no instances, is listed as a box" in str(error.value.__cause__)
    for how in ({"stuff": 1}, {"stuff": -1, "num_classes": 2}):
        with refused(UsageError, "MS-U155", "which classes have no instances"):
            InstancesFromLabeld("label", **how)
