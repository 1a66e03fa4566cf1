from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch, list_data_collate
from monai.engines import SupervisedEvaluator
from monai.inferers import SimpleInferer
from monai.transforms import BorderPadd, CenterSpatialCropd, Compose, Lambdad

from medseg.errors import UsageError
from medseg.geometry import Grid, corner_distance_mm, reorientation, same_space
from medseg.resample import labels_from_logits, resample_image
from medseg.transforms import RestoreGridd, ToNetworkGridd, to_metatensor
from medseg.transforms.preprocess import network_grid
from medseg.volume import Volume

SHAPE = (14, 12, 10)
#: The 12 ways in which scanners and converters leave axes: 6 orders, each of two handednesses.
AXCODES = ["AIL", "ARI", "IAL", "IPL", "LAI", "LPI", "PIL", "PRI", "RAI", "RPI", "SAL", "SPL"]
EVERY_AXCODES = ["".join(p) for order in permutations(("RL", "AP", "SI")) for p in product(*order)]


def grid(spacing_mm=(1.0, 1.5, 2.0), axcodes="RAS", oblique_deg=0.0, shape=SHAPE):
    a = np.radians(oblique_deg)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing_mm)
    affine[:3, 3] = [-11.5, 23.25, 7.125]
    ras = Grid(shape, affine)
    return reorientation(ras, axcodes).apply_grid(ras)


def tilted(deg=15.0):
    affine = np.diag([1.0, 1.5, 2.0, 1.0])
    affine[1, 2] = 2.0 * np.tan(np.radians(deg))
    return Grid(SHAPE, affine)


def image_on(where, seed=0):
    return to_metatensor(Volume(np.random.default_rng(seed).random(where.shape).astype(np.float32), where.affine))


def labels_on(where, values=(0, 1, 2, 5), seed=0):
    array = np.random.default_rng(seed).choice(np.array(values, np.uint8), where.shape)
    return MetaTensor(torch.from_numpy(array)[None], affine=torch.tensor(where.affine))


def grid_of(image):
    return Grid(tuple(image.shape[1:]), image.affine.numpy())


class TestNetworkGrid:
    @pytest.mark.parametrize("axcodes", EVERY_AXCODES)
    def test_kept_spacing_only_turns(self, axcodes):
        where = grid(oblique_deg=12)
        assert same_space(network_grid(where, axcodes), reorientation(where, axcodes).apply_grid(where), 1e-9)

    def test_the_worked_example_of_the_docstring(self):
        for n, shape, first_mm in ((10, 7, 0.15), (11, 8, 0.0)):
            found = network_grid(Grid((n, 1, 1), np.diag([0.7, 1, 1, 1])), spacing_mm=1.0)
            assert found.shape == (shape, 1, 1)
            assert found.spacing_mm == (1, 1, 1)
            assert found.affine[0, 3] == pytest.approx(first_mm)

    @pytest.mark.parametrize(("factor", "kept"), [(1.009, True), (0.991, True), (1.02, False)])
    def test_nearly_right_spacing_is_kept(self, factor, kept):
        where = grid((factor, 1.0, 1.0))
        found = network_grid(where, spacing_mm=(1, 1, 1))
        assert (found.spacing_mm == where.spacing_mm) == kept
        assert network_grid(where, spacing_mm=(1, 1, 1), tolerance=0.0001).spacing_mm == (1, 1, 1)

    def test_spacing_follows_the_network_axes(self):
        found = network_grid(grid((1, 2, 3), axcodes="SPL"), "RAS", (0.5, 1.0, 1.5))
        assert found.axcodes == "RAS"
        assert found.spacing_mm == pytest.approx((0.5, 1.0, 1.5))

    def test_a_tilted_grid_becomes_orthogonal_and_covers_it(self):
        where = tilted()
        found = network_grid(where)
        assert where.shear_deg > 10
        assert found.shear_deg < 1e-9
        edges = np.array(list(product(*[(-0.5, n - 0.5) for n in where.shape])))
        x = found.to_index(where.to_world(edges))
        assert (x > -0.501).all()
        assert (x < np.array(found.shape) - 0.499).all()

    def test_a_tiny_shear_is_left_to_the_affine(self):
        where = tilted(0.01)
        assert same_space(network_grid(where), where, 1e-9)

    @given(
        st.tuples(*[st.integers(1, 40)] * 3),
        st.tuples(*[st.floats(0.3, 5)] * 3),
        st.tuples(*[st.floats(0.3, 5)] * 3),
        st.sampled_from(EVERY_AXCODES),
    )
    def test_both_grids_lie_inside_each_other(self, shape, have, want, axcodes):
        where = grid(have, axcodes, oblique_deg=20, shape=shape)
        found = network_grid(where, "RAS", want)
        for inner, outer in ((where, found), (found, where)):
            x = outer.to_index(inner.corners_mm)
            assert (x > -0.502).all()
            assert (x < np.array(outer.shape) - 0.498).all()


class TestRoundTrip:
    @pytest.mark.parametrize("axcodes", EVERY_AXCODES)
    def test_turned_labels_come_back_voxel_for_voxel(self, axcodes):
        where = grid(axcodes=axcodes, oblique_deg=7)
        labels = labels_on(where)
        there = ToNetworkGridd("image", "RAS", label_keys="label")({"image": image_on(where), "label": labels})
        assert same_space(grid_of(there["image"]), grid_of(there["label"]))
        assert grid_of(there["image"]).axcodes == "RAS"
        back = RestoreGridd("pred")({"image": there["image"], "pred": there["label"]})["pred"]
        assert back.dtype == torch.uint8
        assert torch.equal(back.as_tensor(), labels.as_tensor())
        assert torch.equal(back.affine, torch.tensor(where.affine))

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32])
    def test_label_dtype_stays_on_the_way_there(self, dtype):
        where = grid()
        moved = ToNetworkGridd((), spacing_mm=1.0, label_keys="label")({"label": labels_on(where).to(dtype)})["label"]
        assert moved.dtype == dtype
        assert set(moved.unique().tolist()) <= {0, 1, 2, 5}

    def test_crops_and_pads_in_between_are_undone(self):
        where = grid(axcodes="LPI")
        labels = labels_on(where)
        chain = Compose(
            [
                ToNetworkGridd("image", label_keys="label"),
                CenterSpatialCropd(("image", "label"), (8, 9, 6)),
                BorderPadd(("image", "label"), (3, 0, 5)),
            ]
        )
        there = chain({"image": image_on(where), "label": labels})
        back = RestoreGridd("pred")({"image": there["image"], "pred": there["label"]})["pred"]
        kept = reorientation(where, "RAS").apply(np.ones(SHAPE, bool))
        crop = np.zeros_like(kept)
        crop[tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(kept.shape, (8, 9, 6), strict=True))] = 1
        turned = reorientation(where, "RAS").inverse().apply(crop)
        np.testing.assert_array_equal(back[0].numpy(), np.where(turned, labels[0].numpy(), 0))

    @pytest.mark.parametrize("axcodes", ["RAS", "PIL"])
    def test_a_ball_survives_another_spacing(self, axcodes):
        where = grid((0.8, 0.9, 1.1), axcodes, shape=(40, 40, 40))
        centre = where.to_world(np.full(3, 19.5))
        r = np.linalg.norm(where.to_world(np.moveaxis(np.indices(where.shape), 0, -1)) - centre, axis=-1)
        ball = torch.from_numpy((r < 12).astype(np.uint8))[None]
        labels = MetaTensor(ball, affine=torch.tensor(where.affine))
        there = ToNetworkGridd("image", spacing_mm=1.0, label_keys="label")({"image": image_on(where), "label": labels})
        back = RestoreGridd("pred")({"image": there["image"], "pred": there["label"]})["pred"]
        assert back.shape == labels.shape
        dice = 2 * (back * ball).sum() / (back.sum() + ball.sum())
        assert dice > 0.97

    def test_a_tilted_image_is_restored_on_its_own_tilted_grid(self):
        where = tilted()
        world = where.to_world(np.moveaxis(np.indices(where.shape), 0, -1))
        half = (world[..., 2] > 9.9).astype(np.float32)  # a plane in space, not along the array
        image = to_metatensor(Volume(half, where.affine))
        there = ToNetworkGridd("image")({"image": image})["image"]
        assert grid_of(there).shear_deg < 1e-9
        plane = grid_of(there).to_world(np.moveaxis(np.indices(there.shape[1:]), 0, -1))[..., 2] > 9.9
        back = RestoreGridd("pred")({"image": there, "pred": torch.from_numpy(plane.astype(np.uint8))[None]})["pred"]
        assert torch.equal(back.affine, torch.tensor(where.affine))
        assert (back[0].numpy() == half).mean() > 0.95

    def test_corners_that_a_tilt_leaves_empty_get_the_smallest_value_or_the_wanted_one(self):
        image = image_on(tilted()) + 3
        assert ToNetworkGridd("image")({"image": image})["image"].min() == image.min()
        assert ToNetworkGridd("image", fill=-9.0)({"image": image})["image"].min() == -9


class TestToNetworkGrid:
    def test_the_image_is_what_resample_image_says(self):
        where = grid(axcodes="SPL")
        image = image_on(where)
        for order in ("linear", "cubic"):
            there = ToNetworkGridd("image", spacing_mm=1.2, order=order)({"image": image})["image"]
            target = network_grid(where, "RAS", 1.2)
            want = resample_image(image[0].numpy(), where, target, order=order)
            np.testing.assert_allclose(there[0].numpy(), want, atol=1e-5)  # sums are rounded in another order
            assert corner_distance_mm(grid_of(there), target) == 0
            assert there.is_contiguous()

    def test_channels_and_meta_go_along(self):
        where = grid()
        image = MetaTensor(
            torch.rand(3, *SHAPE), affine=torch.tensor(where.affine), meta={"filename_or_obj": "a.nii", "x": 1}
        )
        there = ToNetworkGridd("image", "LPS", 1.5)({"image": image})["image"]
        assert there.shape[0] == 3
        assert there.meta["filename_or_obj"] == "a.nii"
        assert there.meta["x"] == 1
        assert there.meta["input_shape"].tolist() == list(SHAPE)
        np.testing.assert_array_equal(there.meta["input_affine"], where.affine)
        assert "input_affine" not in image.meta

    def test_the_first_key_decides_for_all(self):
        a, b = grid((1, 1, 1)), grid((1.5, 2, 1), axcodes="LAI")
        out = ToNetworkGridd(("t1", "flair"))({"t1": image_on(a), "flair": image_on(b)})
        assert same_space(grid_of(out["t1"]), grid_of(out["flair"]))
        assert same_space(grid_of(out["t1"]), a)

    def test_other_keys_that_begin_alike_are_left_alone(self):
        data = {"image": image_on(grid()), "image_path": "x.nii.gz", "image_id": "7"}
        out = ToNetworkGridd("image", spacing_mm=1.0)(data)
        assert (out["image_path"], out["image_id"]) == ("x.nii.gz", "7")

    def test_missing_keys_are_refused_or_allowed(self):
        data = {"image": image_on(grid())}
        with pytest.raises(KeyError, match="label"):
            ToNetworkGridd("image", label_keys="label")(data)
        assert set(ToNetworkGridd("image", label_keys="label", allow_missing_keys=True)(data)) == {"image"}

    @pytest.mark.parametrize("wrong", [torch.zeros(1, 4, 4, 4), MetaTensor(torch.zeros(4, 4, 4)), None])
    def test_what_is_no_image_is_named(self, wrong):
        with pytest.raises(UsageError, match=r"MS-U150 'image' must be a MetaTensor \(C, I, J, K\)"):
            ToNetworkGridd("image")({"image": wrong})

    def test_labels_that_are_no_labels_are_refused(self):
        with pytest.raises(UsageError, match="MS-U153 a label map holds values that are not whole numbers"):
            ToNetworkGridd((), spacing_mm=1.0, label_keys="label")({"label": image_on(grid())})


class TestRestoreGrid:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_logits_become_labels_on_the_way(self, dtype):
        where = grid(axcodes="IPL")
        there = ToNetworkGridd("image", spacing_mm=1.3)({"image": image_on(where)})["image"]
        logits = torch.randn(4, *there.shape[1:], generator=torch.Generator().manual_seed(0)).to(dtype)
        back = RestoreGridd("pred")({"image": there, "pred": logits})["pred"]
        want = labels_from_logits(logits.float().numpy(), grid_of(there), where)
        np.testing.assert_array_equal(back[0].numpy(), want)
        assert back.shape == (1, *where.shape)

    def test_turned_logits_are_just_argmax(self):
        where = grid(axcodes="IPL")
        there = ToNetworkGridd("image")({"image": image_on(where)})["image"]
        logits = torch.randn(4, *there.shape[1:])
        back = RestoreGridd("pred")({"image": there, "pred": logits})["pred"]
        again = ToNetworkGridd((), label_keys="label")({"label": back})["label"]
        assert torch.equal(again.as_tensor()[0].long(), logits.argmax(0))

    def test_regions_are_painted_but_integer_labels_are_taken_as_they_are(self):
        there = ToNetworkGridd("image")({"image": image_on(grid())})["image"]
        restore = RestoreGridd("pred", regions=(3,))
        logits = torch.randn(1, *there.shape[1:])
        back = restore({"image": there, "pred": logits})["pred"].as_tensor()
        assert torch.equal(back, (3 * (logits > 0)).to(torch.uint8))
        labels = labels_on(grid())
        assert torch.equal(restore({"image": there, "pred": labels})["pred"].as_tensor(), labels.as_tensor())

    def test_float_labels_of_large_value_keep_it(self):
        there = ToNetworkGridd("image")({"image": image_on(grid())})["image"]
        labels = labels_on(grid(), (0, 1)).float() * 70000
        back = RestoreGridd("pred")({"image": there, "pred": labels})["pred"]
        assert back.dtype == torch.int32
        assert torch.equal(back.float().as_tensor(), labels.as_tensor())

    def test_the_meta_speaks_of_the_input_grid_again(self):
        where = grid(axcodes="LPI")
        there = ToNetworkGridd("image", spacing_mm=1.0)({"image": image_on(where)})["image"]
        back = RestoreGridd("pred")({"image": there, "pred": there > 0.5})["pred"]
        assert back.dtype == torch.uint8
        assert not {"input_affine", "input_shape"} & set(back.meta)
        np.testing.assert_array_equal(back.meta["original_affine"], where.affine)
        assert back.meta["spatial_shape"].tolist() == list(SHAPE)

    def test_an_image_without_its_past_is_refused(self):
        with pytest.raises(UsageError, match="MS-U151 nothing says on which grid 'image' was"):
            RestoreGridd("pred")({"image": image_on(grid()), "pred": labels_on(grid())})
        with pytest.raises(UsageError, match=r"MS-U150 'scan' must be a MetaTensor .* got NoneType"):
            RestoreGridd("pred", ref="scan")({"pred": labels_on(grid())})

    def test_another_shape_is_refused(self):
        there = ToNetworkGridd("image")({"image": image_on(grid())})["image"]
        with pytest.raises(UsageError, match=r"MS-U152 'pred' is \(1, 2, 2, 2\), but 'image' lies on a grid of"):
            RestoreGridd("pred")({"image": there, "pred": torch.zeros(1, 2, 2, 2)})
        with pytest.raises(UsageError, match="MS-U152"):
            RestoreGridd("pred")({"image": there, "pred": torch.zeros(1, 1, *there.shape[1:])})


class TestInsideMonai:
    @pytest.mark.parametrize("spacing_mm", [None, 1.2])
    def test_collation_and_decollation_keep_what_is_needed(self, spacing_mm):
        where = grid(axcodes="PIL")
        there = ToNetworkGridd("image", spacing_mm=spacing_mm)({"image": image_on(where)})
        item = decollate_batch(list_data_collate([there]))[0]
        pred = (item["image"] > 0.5).to(torch.uint8)
        back = RestoreGridd("pred")({**item, "pred": pred})["pred"]
        direct = RestoreGridd("pred")({**there, "pred": (there["image"] > 0.5).to(torch.uint8)})["pred"]
        assert torch.equal(back.as_tensor(), direct.as_tensor())
        assert torch.equal(back.affine, torch.tensor(where.affine))

    @pytest.mark.parametrize("spacing_mm", [None, 1.2])
    def test_supervised_evaluator_gives_the_same_labels_for_every_axis_order(self, spacing_mm):
        ras = grid()
        voxels = np.random.default_rng(0).random(ras.shape).astype(np.float32)
        cases = []
        for axcodes in AXCODES:
            turn = reorientation(ras, axcodes)
            cases.append({"image": to_metatensor(Volume(turn.apply(voxels), turn.apply_grid(ras).affine))})
        preprocessing = ToNetworkGridd("image", "RAS", spacing_mm)
        restored = []
        network = torch.nn.Conv3d(1, 3, 3, padding=1)
        torch.nn.init.normal_(network.weight, generator=torch.Generator().manual_seed(0))
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(cases, preprocessing), batch_size=1),
            network=network,
            inferer=SimpleInferer(),
            prepare_batch=lambda batch, device, non_blocking, **_: (batch["image"].to(device), None),
            postprocessing=Compose([RestoreGridd("pred"), Lambdad("pred", lambda x: restored.append(x) or x)]),
        )
        evaluator.run()
        assert len(restored) == len(AXCODES)
        want = None
        for axcodes, back in zip(AXCODES, restored, strict=True):
            turn = reorientation(ras, axcodes)
            assert same_space(grid_of(back), turn.apply_grid(ras), 1e-9)
            labels = turn.inverse().apply(back[0].numpy())
            want = labels if want is None else want
            np.testing.assert_array_equal(labels, want)
        assert set(np.unique(want)) == {0, 1, 2}


@pytest.mark.parametrize("spacing_mm", [None, 1.0])
def test_twelve_axis_orders_of_one_real_head_agree(data, spacing_mm):
    from medseg.readers.open import read

    folder = data("nifti_quirks") / "nifti_space_48"
    seen = []
    for path in sorted(folder.glob("*.nii.gz")):
        there = ToNetworkGridd("image", spacing_mm=spacing_mm)({"image": to_metatensor(read(path))})["image"]
        back = RestoreGridd("pred")({"image": there, "pred": (there > there.mean()).to(torch.uint8)})["pred"]
        turn = reorientation(grid_of(back), "RAS")
        seen.append((there.numpy(), turn.apply(back[0].numpy()), turn.apply_grid(grid_of(back))))
    assert len(seen) == 12
    for image, labels, where in seen[1:]:
        np.testing.assert_array_equal(image, seen[0][0])
        np.testing.assert_array_equal(labels, seen[0][1])
        assert same_space(where, seen[0][2])


@settings(max_examples=20)
@given(st.integers(0, 99), st.sampled_from(EVERY_AXCODES), st.sampled_from(EVERY_AXCODES), st.floats(0, 40))
def test_any_turn_to_any_axes_is_exact(seed, axcodes, network, oblique_deg):
    where = grid(axcodes=axcodes, oblique_deg=oblique_deg, shape=(5, 4, 3))
    labels = labels_on(where, seed=seed)
    there = ToNetworkGridd("image", network, label_keys="label")({"image": image_on(where), "label": labels})
    assert grid_of(there["image"]).axcodes == network
    back = RestoreGridd("pred")({"image": there["image"], "pred": there["label"]})["pred"]
    assert torch.equal(back.as_tensor(), labels.as_tensor())
