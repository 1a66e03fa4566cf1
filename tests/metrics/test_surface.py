import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg.metrics.surface import surface_metrics
from tests.metrics import brute
from tests.metrics.masks import ball, box, pairs

DEFINITIONS = ("border", "surfel", "pooled")
definitions = pytest.mark.parametrize("definition", DEFINITIONS)
PERCENTILES, TOLERANCES = (0, 50, 95, 100), (0, 1, 1.2, 4)


def measure(pred, ref, spacing=(1, 1, 1), definition="border", **options):
    """Of the voxels that are set, whatever their value."""
    return surface_metrics(pred > 0, ref > 0, spacing_mm=spacing, labels=[1], definition=definition, **options)[1]


def numbers(*args, **options):
    return dict(measure(*args, **options).rows())


# --- against all pairs of points, and the origins ---------------------------------------------------------------------


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs())
def test_equals_all_pairs_of_points(case):
    pred, ref, spacing = case
    for definition in DEFINITIONS:
        got = numbers(pred, ref, spacing, definition, percentiles=PERCENTILES, tolerances_mm=TOLERANCES)
        want = brute.surface(pred, ref, spacing, definition, PERCENTILES, TOLERANCES)
        assert got == pytest.approx(want, abs=1e-9), definition


def monai(pred, ref, spacing, tolerance):
    """MONAI's four calls on one structure."""
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    p, r = (torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (pred, ref))
    spacing = [float(mm) for mm in spacing]
    return {
        "hd_mm": compute_hausdorff_distance(p, r, True, spacing=spacing).item(),
        "hd95_mm": compute_hausdorff_distance(p, r, True, percentile=95, spacing=spacing).item(),
        "assd_mm": compute_average_surface_distance(p, r, True, symmetric=True, spacing=spacing).item(),
        f"nsd@{tolerance}mm": compute_surface_dice(p, r, [tolerance], True, spacing=spacing).item(),
        "subvoxel": compute_surface_dice(p, r, [tolerance], True, spacing=spacing, use_subvoxels=True).item(),
    }


def agrees_with_monai(pred, ref, spacing):
    want = monai(pred, ref, spacing, 1)
    got = numbers(pred, ref, spacing)
    surfel = measure(pred, ref, spacing, "surfel")
    assert surfel.nsd[1] == pytest.approx(want.pop("subvoxel"), abs=1e-5)
    assert {name: got[name] for name in want} == pytest.approx(want, abs=1e-4)


def test_monai_and_medpy_on_a_hippocampus(data):
    import nibabel

    image = nibabel.load(min(data("hippocampus").rglob("label*/*.nii.gz")))
    labels, spacing = np.asarray(image.dataobj).astype(np.uint8), image.header.get_zooms()[:3]
    moved = np.roll(labels, (1, 2, 0), (0, 1, 2))
    moved[::7] = 0  # slices are missing
    got = surface_metrics(moved, labels, spacing_mm=spacing)
    assert sorted(got) == [1, 2]
    for value in got:
        agrees_with_monai(moved == value, labels == value, spacing)
        want = medpy(moved == value, labels == value, spacing)
        pooled = surface_metrics(moved, labels, spacing_mm=spacing, definition="pooled")[value]
        assert (pooled.hd_mm, pooled.percentiles_mm[95], pooled.assd_mm) == pytest.approx(want, abs=1e-9)


def medpy(pred, ref, spacing):
    """MedPy 0.5.2's hd, hd95 and assd, from its formulas."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    p, r = (mask ^ binary_erosion(mask) for mask in (pred, ref))
    both = np.concatenate(
        [distance_transform_edt(~r, sampling=spacing)[p], distance_transform_edt(~p, sampling=spacing)[r]]
    )
    return both.max(), np.percentile(both, 95), both.mean()


def test_monai_on_organs(data):
    import nibabel

    images = [nibabel.load(data("totalseg") / f"example_seg{fast}.nii.gz") for fast in ("", "_fast")]
    spacing = images[0].header.get_zooms()[:3]
    ref, pred = (np.asarray(image.dataobj) for image in images)
    got = surface_metrics(pred, ref, spacing_mm=spacing)
    assert {one.status for one in got.values()} >= {"ok", "pred_empty"}
    for value in [value for value, one in got.items() if one.status == "ok"][::4]:
        agrees_with_monai(pred == value, ref == value, spacing)


def test_monai_on_a_spine(data):
    import nibabel

    folder = data("instances_misc") / "panoptica_spine" / "matched_instance"
    pred, ref = (nibabel.load(next(folder.glob(f"{name}*.nii.gz"))) for name in ("pred", "ref"))
    spacing = ref.header.get_zooms()[:3]
    pred, ref = (np.asarray(image.dataobj).astype(np.int16) for image in (pred, ref))
    got = surface_metrics(pred, ref, spacing_mm=spacing)
    values = [value for value, one in got.items() if one.status == "ok"]
    assert len(values) == 22
    for value in values[::11]:
        agrees_with_monai(pred == value, ref == value, spacing)


def vectors(data):
    return json.loads((data("metric_vectors") / "vectors_dev.json").read_text())["surface"]


SHAPES = {
    "two_voxels_2mm": (box(50, 60, 72), box(50, 60, 70)),
    "halfspaces_shifted": (np.s_[:51], np.s_[:50]),
    "empty_pred": (np.s_[:0], box(50, 60, 70)),
    "empty_gt": (box(50, 60, 72), np.s_[:0]),
    "both_empty": (np.s_[:0], np.s_[:0]),
    "cube_in_cube": (np.s_[12:28, 12:28, 12:28], np.s_[10:30, 10:30, 10:30]),
    "identical": (np.s_[5:9, 5:9, 5:9], np.s_[5:9, 5:9, 5:9]),
}


def test_the_vectors_in_every_definition(data):
    for vector in vectors(data):
        masks = [np.zeros(vector["shape"], bool) for _ in range(2)]
        for mask, where in zip(masks, SHAPES[vector["name"]], strict=True):
            mask[where] = True
        assert [mask.sum() for mask in masks] == [vector["pred_voxels"], vector["gt_voxels"]]
        border, surfel, pooled = (measure(*masks, vector["spacing_mm"], definition) for definition in DEFINITIONS)
        if border.status != "ok":  # medseg's own policy
            for one in (border, surfel, pooled):
                both = border.status == "both_empty"
                assert set(dict(one.rows()).values()) == ({0.0, 1.0} if both else {math.inf, 0.0})
            continue
        want = vector["surfel_convention"]
        got = {
            "asd_gt2pred": surfel.ref_to_pred_mm,
            "asd_pred2gt": surfel.pred_to_ref_mm,
            "hd100": surfel.hd_mm,
            "hd95": surfel.percentiles_mm[95],
            "nsd_1mm": surfel.nsd[1],
            "nsd_2mm": surfel.nsd[2],
        }
        assert got == pytest.approx({name: want[name] for name in got}, rel=1e-12), vector["name"]
        gt, pred = want["surface_overlap_1mm"]
        assert surfel.boundary_f1[1] == pytest.approx(brute.ratio(gt, pred))
        got = {
            "hd100": border.hd_mm,
            "hd95_max_of_directed": border.percentiles_mm[95],
            "hd95_pooled": pooled.percentiles_mm[95],
            "assd_pooled": pooled.assd_mm,
            "masd_mean_of_directed": border.masd_mm,
            "nsd_1mm_voxelcount": border.nsd[1],
            "n_border": [border.n_ref, border.n_pred],
        }
        want = vector["border_voxel_convention"]
        assert got.pop("n_border") == want["n_border"]
        assert got == pytest.approx({name: want[name] for name in got}, rel=1e-12), vector["name"]
        assert border.assd_mm == pooled.assd_mm


# --- closed forms -----------------------------------------------------------------------------------------------------


@definitions
def test_identical_shapes_are_perfect(definition):  # A1
    mask = ball((20, 18, 16), (9, 9, 8), 6, (1, 1, 1.5))
    got = measure(mask, mask, (1, 1, 1.5), definition)
    assert set(dict(got.rows()).values()) == {0.0, 1.0}
    assert got.hd_mm == got.assd_mm == got.masd_mm == 0
    assert set(got.nsd.values()) == set(got.boundary_iou.values()) == set(got.boundary_f1.values()) == {1.0}


@definitions
@given(step=st.tuples(*[st.integers(0, 8)] * 3), spacing=st.tuples(*[st.floats(0.3, 5)] * 3))
def test_two_single_voxels(definition, step, spacing):  # A2
    pred, ref = np.zeros((2, 12, 11, 10), bool)
    pred[1, 1, 1] = ref[tuple(np.array(step) + 1)] = True
    got = measure(pred, ref, spacing, definition)
    apart = math.dist((0, 0, 0), np.array(step) * spacing)
    if definition == "surfel":  # corners lie half a voxel away on either side: the farthest pair is as far apart
        assert got.hd_mm == pytest.approx(math.dist((0, 0, 0), np.array(step) * spacing))
    else:
        assert got.hd_mm == got.percentiles_mm[95] == pytest.approx(apart)
        assert got.assd_mm == got.masd_mm == pytest.approx(apart)


@definitions
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_box_that_is_shifted(definition, axis):  # A3
    spacing = (0.7, 1.3, 3)
    ref = np.zeros((20, 20, 20), bool)
    ref[5:12, 5:12, 5:12] = True
    got = measure(np.roll(ref, 4, axis), ref, spacing, definition)
    assert got.hd_mm == pytest.approx(4 * spacing[axis])


def test_a_slab_as_wide_as_the_image():  # A4: its faces are 3 slices apart everywhere
    ref = np.zeros((16, 9, 9), bool)
    ref[4] = True
    for definition in ("border", "pooled"):
        got = measure(np.roll(ref, 3, 0), ref, (5, 1, 1), definition)
        assert got.hd_mm == got.percentiles_mm[95] == got.assd_mm == 15


def test_one_plate_moved_by_a_thick_slice():  # reliability: border 5 mm and 0, surfels 2.5 mm and 0.5
    ref = np.zeros((8, 40, 40), bool)
    ref[3] = True
    border, surfel = (measure(np.roll(ref, 1, 0), ref, (5, 1, 1), d) for d in ("border", "surfel"))
    assert (border.assd_mm, border.nsd[1]) == (5, 0)
    assert surfel.assd_mm == pytest.approx(2.5, abs=0.3)  # the image's border makes it a little less
    assert surfel.nsd[1] == pytest.approx(0.5, abs=0.06)


@definitions
def test_nested_boxes(definition):  # A5
    margins, spacing = (1, 2, 3), (2, 1, 0.5)
    ref, pred = np.zeros((2, 20, 20, 20), bool)
    ref[4:16, 4:16, 4:16] = True
    pred[tuple(slice(4 + m, 16 - m) for m in margins)] = True
    got = measure(pred, ref, spacing, definition, percentiles=(0,))
    assert got.hd_mm == pytest.approx(math.dist((0, 0, 0), np.array(margins) * spacing))
    assert got.percentiles_mm[0] == pytest.approx(min(m * s for m, s in zip(margins, spacing, strict=True)))


@definitions
def test_concentric_balls_converge(definition):  # A6
    errors = []
    for h in (1, 0.5, 0.25):
        shape = (round(24 / h),) * 3
        inner, outer = (ball(shape, ((24 / h - 1) / 2,) * 3, radius, (h,) * 3) for radius in (7, 10))
        got = measure(inner, outer, (h,) * 3, definition)
        errors.append(max(abs(got.hd_mm - 3), abs(got.percentiles_mm[95] - 3), abs(got.masd_mm - 3)))
        assert errors[-1] <= math.sqrt(3) * h
    assert errors[2] < errors[0] / 2


@definitions
def test_dilation_by_a_ball_sets_the_tolerance(definition):  # A7
    spacing, radius = (1, 1, 2), 5
    diagonal = math.dist((0, 0, 0), spacing)
    ref, pred = (ball((40, 40, 24), (19, 20, 11), r, spacing) for r in (8, 8 + radius))
    got = measure(pred, ref, spacing, definition, tolerances_mm=(radius - diagonal, radius + diagonal))
    assert tuple(got.nsd.values()) == tuple(got.boundary_f1.values()) == (0, 1)


@definitions
def test_one_stray_voxel(definition):  # A8
    ref = ball((64, 30, 30), (14, 14, 14), 10, (1, 1, 1))
    pred = ref.copy()
    pred[60, 14, 14] = True
    got = measure(pred, ref, definition=definition)
    assert got.hd_mm == pytest.approx(36 if definition != "surfel" else got.hd_mm)
    assert 35 < got.hd_mm < 37.5
    assert got.percentiles_mm[95] == 0
    pred[50:63, 8:20, 8:20] = True  # more than a twentieth of the surface
    assert measure(pred, ref, definition=definition).percentiles_mm[95] > 30


@definitions
@settings(max_examples=25)
@given(pairs(empty=False), st.floats(0.2, 4), st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_symmetry_scale_axes_and_room(definition, case, factor, order, flips):  # A9, A10, A11, A12
    pred, ref, spacing = case
    want = numbers(pred, ref, spacing, definition)
    assert numbers(ref, pred, spacing, definition) == pytest.approx(want)
    scaled = numbers(pred, ref, np.array(spacing) * factor, definition)
    for name in ("hd_mm", "hd95_mm", "assd_mm", "masd_mm"):
        assert scaled[name] == pytest.approx(want[name] * factor)
    roomy = [np.pad(mask, ((2, 70), (0, 3), (65, 1))) for mask in (pred, ref)]
    assert numbers(*roomy, spacing, definition) == pytest.approx(want)
    if definition != "surfel":  # some codes are cut into triangles one way of several: areas depend on the direction
        axes = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
        turned = [mask.transpose(order)[axes] for mask in (pred, ref)]
        assert numbers(*turned, [spacing[a] for a in order], definition) == pytest.approx(want)


@settings(max_examples=40)
@given(pairs(empty=False), st.integers(0, 2**32 - 1))
def test_hausdorff_distance_is_a_metric(case, seed):  # A13
    a, b, spacing = case
    c = np.random.default_rng(seed).random(a.shape) < 0.3
    c.flat[0] = True
    direct = measure(a, b, spacing).hd_mm
    assert direct <= measure(a, c, spacing).hd_mm + measure(c, b, spacing).hd_mm + 1e-9


def test_the_area_of_a_ball():  # A15
    errors = []
    for h in (1, 0.5, 0.25):
        mask = ball((round(24 / h),) * 3, ((24 / h - 1) / 2,) * 3, 10, (h,) * 3)
        area = measure(mask, mask, (h,) * 3, "surfel").n_pred
        errors.append(abs(area / (4 * math.pi * 10**2) - 1))
    assert max(errors) < 0.1  # a surface of voxels does not converge: marching cubes of a mask stays 8 % too large
    assert measure(ball((9, 9, 9), (4, 4, 4), 0, (1, 1, 1)), mask[:9, :9, :9], (1, 1, 1)).n_pred == 1


@definitions
def test_many_structures_are_as_each_alone(definition):  # A16
    rng = np.random.default_rng(0)
    pred, ref = rng.choice(np.array([0, 1, 5, 200], np.uint8), (2, 12, 13, 70), p=[0.7, 0.1, 0.1, 0.1])
    spacing = (1, 0.8, 2)
    got = surface_metrics(pred, ref, spacing_mm=spacing, definition=definition)
    assert list(got) == [1, 5, 200]
    for value, one in got.items():
        assert one == measure(pred == value, ref == value, spacing, definition)
    union = surface_metrics(pred, ref, spacing_mm=spacing, definition=definition, labels={"all": (200, 1, 5), "one": 5})
    assert union == {"all": measure(pred, ref, spacing, definition), "one": got[5]}


# --- whatever the arrays are ------------------------------------------------------------------------------------------


@definitions
@pytest.mark.parametrize("dtype", ["u1", "i1", ">i2", "i8"])
def test_memory_order_and_dtype_change_nothing(definition, dtype):
    rng = np.random.default_rng(1)
    pred, ref = (rng.random((2, 7, 9, 75)) < 0.3).astype(np.uint8)
    spacing = (0.7, 1.3, 2.1)
    want = measure(pred, ref, spacing, definition)
    for p in (pred.astype(dtype), np.asfortranarray(pred.astype(dtype)), np.repeat(pred, 2, 2)[:, :, ::2]):
        for r in (ref, np.asfortranarray(ref).astype("i2")):
            got = surface_metrics(p, r, spacing_mm=spacing, definition=definition)[1]
            assert dict(got.rows()) == pytest.approx(dict(want.rows()), rel=1e-12)
    shifted = np.frombuffer(b"x" + pred.tobytes(), np.uint8, offset=1).reshape(pred.shape)  # read only, unaligned
    assert surface_metrics(shifted, ref, spacing_mm=spacing, definition=definition)[1] == want


def test_areas_of_every_code():
    """The table in short is the one that surface-distance and MONAI carry."""
    from medseg.metrics.surfels import areas_mm2

    for spacing in ((1, 1, 1), (0.7, 1.3, 2.9)):
        assert areas_mm2(np.array(spacing)) == pytest.approx(brute.areas(np.arange(256), spacing), rel=1e-12)


def test_surfaces_far_apart_go_to_the_tree(monkeypatch):
    from medseg.metrics import nearest

    pred, ref = np.zeros((2, 90, 30, 30), bool)
    pred[2:8, 2:28:2, 2:28], ref[80:88, 3:20, ::3] = True, True
    want = brute.surface(pred, ref, (1, 0.9, 2), "border")
    assert numbers(pred, ref, (1, 0.9, 2)) == pytest.approx(want)
    monkeypatch.setattr(nearest, "_PAIRS", 0)
    assert numbers(pred, ref, (1, 0.9, 2)) == pytest.approx(want)
    assert numbers(np.asfortranarray(pred), np.asfortranarray(ref), (1, 0.9, 2)) == pytest.approx(want)


def test_background_is_a_structure_if_asked_for():
    ref = np.zeros((9, 9, 9), np.uint8)
    ref[3:6, 3:6, 3:6] = 2
    pred = np.roll(ref, 1, 0)
    got = surface_metrics(pred, ref, spacing_mm=(1, 1, 1), labels=[0, 2, 7])
    assert got[0] == measure(pred == 0, ref == 0)
    assert got[2] == measure(pred == 2, ref == 2)
    assert got[7].status == "both_empty"


# --- empty ones and errors --------------------------------------------------------------------------------------------


@definitions
def test_empty_structures(definition):
    some, none = np.zeros((2, 6, 6, 6), np.uint8)
    some[2:4, 2:4, 2:4] = 1
    far = {"hd_mm": math.inf, "hd95_mm": math.inf, "assd_mm": math.inf, "masd_mm": math.inf}
    for pred, ref, status in ((none, some, "pred_empty"), (some, none, "ref_empty")):
        got = measure(pred, ref, definition=definition, tolerances_mm=(1,))
        assert (got.status, got.definition) == (status, definition)
        assert dict(got.rows()) == far | {"nsd@1mm": 0, "boundary_iou@1mm": 0, "boundary_f1@1mm": 0}
        assert max(got.n_pred, got.n_ref) == pytest.approx(measure(some, some, definition=definition).n_ref)
        assert min(got.n_pred, got.n_ref) == 0
    got = measure(none, none, definition=definition, percentiles=(90, 99.5))
    assert got.status == "both_empty"
    assert (got.hd_mm, got.percentiles_mm, got.nsd) == (0, {90: 0, 99.5: 0}, {1: 1, 2: 1})


def test_no_structures_and_no_voxels():
    none = np.zeros((4, 4, 4), np.uint8)
    assert surface_metrics(none, none, spacing_mm=(1, 1, 1)) == {}
    for shape in ((0, 4, 4), (4, 0, 4), (4, 4, 0)):
        assert (
            surface_metrics(np.zeros(shape, int), np.zeros(shape, int), spacing_mm=(1, 1, 1), labels=[1])[1].hd_mm == 0
        )


def test_names_of_the_rows():
    mask = np.ones((3, 3, 3), bool)
    got = measure(mask, mask, percentiles=(95, 99.5), tolerances_mm=(1, 2.5))
    assert [name for name, _ in got.rows()] == [
        *("hd_mm", "hd95_mm", "hd99.5_mm", "assd_mm", "masd_mm", "nsd@1mm", "nsd@2.5mm"),
        *("boundary_iou@1mm", "boundary_iou@2.5mm", "boundary_f1@1mm", "boundary_f1@2.5mm"),
    ]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"spacing_mm": (1, 1)}, ValueError, r"three lengths above 0.*\(1, 1\)"),
        ({"spacing_mm": (1, 0, 1)}, ValueError, "three lengths above 0"),
        ({"spacing_mm": (1, math.nan, 1)}, ValueError, "three lengths above 0"),
        ({"definition": "monai"}, ValueError, "one of 'border', 'surfel', 'pooled', got 'monai'"),
        ({"percentiles": (95, 101)}, ValueError, r"in \[0, 100\], got \(95, 101\)"),
        ({"tolerances_mm": (-1,)}, ValueError, r"0 or more, got \(-1,\)"),
        ({"tolerances_mm": (math.inf,)}, ValueError, "finite"),
        ({"labels": {"none": ()}}, ValueError, "got none for none"),
        ({"ref": np.zeros((3, 3, 4), int)}, ValueError, r"pred \(3, 3, 3\) and ref \(3, 3, 4\)"),
        ({"ref": np.zeros((3, 3, 3))}, TypeError, "got ref of type float64"),
    ],
)
def test_refusals(options, error, match):
    given = {"pred": np.zeros((3, 3, 3), int), "ref": np.zeros((3, 3, 3), int), "spacing_mm": (1, 1, 1)} | options
    with pytest.raises(error, match=match):
        surface_metrics(given.pop("pred"), given.pop("ref"), **given)
