"""RoIAlign in 3D against a scalar reference, published tables, closed forms and symmetries; every backend."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from torch import nn

from medseg.networks.roi_align import roi_align_3d

BACKENDS = ("separable", "grid")
NAN, INF = math.nan, math.inf
SHAPE = (5, 6, 7)
BOXES = torch.tensor(
    [
        [0, 0.5, 1.25, 0.75, 4.25, 5.5, 6.0],  # inside
        [1, 0.0, 0.0, 0.0, 5.0, 6.0, 7.0],  # everything
        [0, 1.0, 2.0, 3.0, 2.0, 3.0, 4.0],  # one voxel
        [1, -2.5, -1.75, -3.0, 2.0, 3.5, 4.0],  # over the lower border
        [0, 3.0, 3.5, 4.0, 8.5, 9.0, 12.0],  # over the upper border
        [1, -4.0, 1.0, 1.0, -2.0, 4.0, 4.0],  # outside
        [0, 7.5, 1.0, 1.0, 9.0, 4.0, 4.0],
        [1, -0.5, -0.5, -0.5, -0.5, -0.5, -0.5],  # empty; samples at exactly -1
        [0, 5.5, 6.5, 7.5, 5.5, 6.5, 7.5],  # samples at exactly the size
        [1, 2.0, 3.0, 2.0, 2.0, 5.0, 4.0],  # flat
        [0, 4.0, 5.0, 5.5, 1.0, 2.5, 3.0],  # turned around
        [0, 1.0, 5.0, 3.0, 4.0, 2.5, 5.0],
        [0, NAN, 1.0, 1.0, 3.0, 3.0, 3.0],
        [0, 1.0, 1.0, 1.0, 3.0, NAN, 3.0],
        [1, 1.0, 1.0, -INF, 3.0, 3.0, 3.0],
        [1, 1.0, 1.0, 1.0, INF, 3.0, 3.0],
        [1, -INF, -INF, -INF, INF, INF, INF],
        [0, -1e12, 1.0, 1.0, 1e12, 3.0, 3.0],
    ],
    dtype=torch.float64,
)


def reference(features, boxes, bins, scales=(1.0, 1.0, 1.0), ratio=2):
    """torchvision's C++ kernel (aligned=True), scalar and in 3D; a grid it could not count gives zeros."""
    f, out = features.numpy(), np.zeros((len(boxes), features.shape[1], *bins))
    for r, box in enumerate(boxes.tolist()):
        start = [box[1 + a] * scales[a] - 0.5 for a in range(3)]
        size = [(box[4 + a] * scales[a] - 0.5) - start[a] for a in range(3)]
        step = [size[a] / bins[a] for a in range(3)]
        if ratio:
            grid = [ratio] * 3
        elif not all(math.isfinite(s) and s * n < 2**31 for s, n in zip(step, bins, strict=True)):
            continue
        else:
            grid = [math.ceil(s) for s in step]
        for p in product(*map(range, bins)):
            total = np.zeros(features.shape[1])
            for k in product(*map(range, grid)):
                at = [start[a] + p[a] * step[a] + (k[a] + 0.5) * step[a] / grid[a] for a in range(3)]
                if all(-1 <= x <= n for x, n in zip(at, f.shape[2:], strict=True)):
                    total += trilinear(f[int(box[0])], at)
            out[(r, slice(None), *p)] = total / max(math.prod(grid), 1)
    return torch.from_numpy(out)


def trilinear(volume, at):
    low, far = [], []
    for x, n in zip(at, volume.shape[1:], strict=True):
        x = max(x, 0.0)
        k = int(x)
        k, x = (n - 1, n - 1.0) if k >= n - 1 else (k, x)
        low.append(k)
        far.append(x - k)
    value = 0.0
    for corner in product((0, 1), repeat=3):
        weight = math.prod(far[a] if corner[a] else 1 - far[a] for a in range(3))
        k = [min(low[a] + corner[a], volume.shape[a + 1] - 1) for a in range(3)]
        value = value + weight * volume[:, k[0], k[1], k[2]]
    return value


def rand(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(**options)


def rois(*boxes, volume=0):
    return torch.tensor([[volume, *box] for box in boxes], dtype=torch.float64)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_equals_a_scalar_reference(ratio, backend, layout):
    features = rand(2, 3, *SHAPE).to(memory_format=layout)
    want = reference(features, BOXES, (2, 3, 2), ratio=ratio)
    got = roi_align_3d(features, BOXES, (2, 3, 2), 1.0, ratio, backend)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)
    assert want[:5].abs().amin((1, 2, 3, 4)).max() > 0
    assert not want[12:17].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ratio", [0, None])
def test_equals_a_scalar_reference_with_as_many_samples_as_a_box_needs(ratio, backend):
    features = rand(2, 2, *SHAPE, seed=1)
    boxes = BOXES[:17]  # the last would take the reference forever
    got = roi_align_3d(features, boxes, (2, 3, 1), 1.0, ratio, backend)
    torch.testing.assert_close(got, reference(features, boxes, (2, 3, 1), ratio=0), rtol=0, atol=1e-12)
    assert not got[7:12].any()  # no extent or turned around: no samples


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_box_far_wider_than_the_features_takes_bounded_memory(backend):
    features = torch.ones(1, 1, 4, 4, 4, dtype=torch.float64)
    wide = rois((-1e6, 0, 0, 1e6, 4, 4), (-1e12, 0, 0, 1e12, 4, 4))
    out = roi_align_3d(features, wide, (2, 1, 1), 1.0, 0, backend).flatten(1)
    # A million samples a bin at whole indices: of the first bin -1 counts, of the second 0, 1, 2, 3 and 4.
    torch.testing.assert_close(out[0], torch.tensor([1e-6, 5e-6], dtype=torch.float64), rtol=1e-12, atol=0)
    assert not out[1].any()


@settings(max_examples=20)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    bins=st.tuples(*[st.integers(1, 4)] * 3),
    scales=st.tuples(*[st.sampled_from([0.25, 0.5, 1.0, 1.7])] * 3),
    ratio=st.integers(0, 3),
    corners=st.lists(st.lists(st.integers(-8, 40), min_size=6, max_size=6), min_size=1, max_size=4),
    seed=st.integers(0, 99),
)
def test_equals_the_reference_for_any_shape_scale_and_box(shape, bins, scales, ratio, corners, seed):
    features = rand(2, 2, *shape, seed=seed)
    boxes = torch.tensor([[k % 2, *c] for k, c in enumerate(corners)], dtype=torch.float64)
    boxes[:, 1:] /= 4
    want = reference(features, boxes, bins, scales, ratio)
    for backend in BACKENDS:
        got = roi_align_3d(features, boxes, bins, scales, ratio, backend)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_detectron2s_hand_worked_table_in_a_slice(backend):
    """arange(25) in 5 x 5, box [1, 3)^2, 4 x 4 bins: detectron2's test_forward_output, aligned."""
    table = torch.tensor([[4.5, 5, 5.5, 6], [7, 7.5, 8, 8.5], [9.5, 10, 10.5, 11], [12, 12.5, 13, 13.5]])
    features = torch.zeros(1, 1, 3, 5, 5, dtype=torch.float64)
    features[0, 0, 1] = torch.arange(25.0).reshape(5, 5)
    out = roi_align_3d(features, rois((1, 1, 1, 2, 3, 3)), (1, 4, 4), 1.0, 1, backend)
    torch.testing.assert_close(out[0, 0, 0], table.double(), rtol=0, atol=1e-12)


# Of torchvision's C++ kernel in float64 with aligned=True: f[y, x] = (7 y + 3 x^2) mod 11 in 5 x 6; boxes x0, y0, x1, y1;
# 2 x 3 bins.
TORCHVISION = {
    2: {
        (1.25, 0.5, 4.75, 4): (6.73958333333, 4.3125, 2.55208333333, 3.17708333333, 3.671875, 5.0625),
        (-2.5, -1.25, 3, 2.5): (0, 0.15625, 0.979166666667, 0, 4.828125, 6.35221354167),
        (3.5, 2, 9, 7.25): (5.48470052083, 2.0546875, 0, 3.08333333333, 1, 0),
        (2, 3, 2, 3): (3, 3, 3, 3, 3, 3),
        (4, 3.5, 1, 1): (5.875, 3.25, 4.390625, 3.2265625, 6.2734375, 7.84375),
        (-1.5, -2, -0.75, -1): (0, 0, 0, 0, 0, 0),
    },
    0: {
        (1.25, 0.5, 4.75, 4): (6.73958333333, 4.3125, 2.55208333333, 3.17708333333, 3.671875, 5.0625),
        (3.5, 2, 9, 7.25): (5.32118055556, 2.19791666667, 0, 2.05555555556, 0.666666666667, 0),
        (2, 3, 2, 3): (0, 0, 0, 0, 0, 0),
        (4, 3.5, 1, 1): (0, 0, 0, 0, 0, 0),
    },
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ratio", TORCHVISION)
def test_a_repeated_slice_equals_torchvision(ratio, backend):
    y, x = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
    features = ((7 * y + 3 * x * x) % 11).double().expand(1, 1, 8, 5, 6)
    for (x0, y0, x1, y1), want in TORCHVISION[ratio].items():
        out = roi_align_3d(features, rois((1.3, y0, x0, 6.9, y1, x1)), (2, 2, 3), 1.0, ratio, backend)
        want = torch.tensor(want, dtype=torch.float64).reshape(2, 3)
        torch.testing.assert_close(out[0, 0], want.expand(2, 2, 3), rtol=0, atol=1e-10)


def test_the_table_that_onnx_publishes():
    """RoiAlign of the ONNX operator tests; its boxes are half a voxel off ours, as they are without `aligned`."""
    x = """
    .2764 .7150 .1958 .3416 .4638 .0259 .2963 .6518 .4856 .7250 .9637 .0895 .2919 .6753 .0234 .6132 .8085 .5324 .8992
    .4467 .3265 .8479 .9698 .2471 .9336 .1878 .4766 .4308 .3400 .2162 .0206 .1720 .2155 .4394 .0653 .3406 .7724 .3921
    .2541 .5799 .4062 .2194 .4473 .4687 .7109 .9327 .9815 .6320 .1728 .6119 .3097 .1283 .4984 .5068 .4279 .0173 .4388
    .0430 .4671 .7119 .1011 .8477 .4726 .1777 .9923 .4042 .1869 .7795 .9946 .9689 .1366 .3671 .7011 .6234 .9867 .5585
    .6985 .5609 .8788 .9928 .5697 .8511 .6711 .9406 .8751 .7496 .1650 .1049 .1559 .2514 .7012 .4056 .7879 .3461 .0415
    .2998 .5094 .3727 .5482 .0502"""
    y = """
    .4664 .4466 .3405 .5688 .6068 .3714 .4296 .3835 .5562 .3510 .2768 .4883 .5222 .5528 .4171 .4713 .4844 .6904 .4920
    .8774 .6239 .7125 .6289 .3355 .3495 .3022 .4305 .4696 .3978 .5423 .3656 .7050 .5165 .3172 .7015 .2912 .5059 .6476
    .6235 .8299 .5916 .7389 .7048 .8372 .8893 .6227 .6153 .7097 .6154 .4585 .2384 .3379 .3717 .6100 .7601 .3767 .3785
    .7147 .9243 .9727 .5749 .5826 .5709 .7619 .8770 .5355 .2566 .2141 .2796 .3600 .4365 .3504 .2887 .3661 .2349"""
    features = torch.tensor([float(v) for v in x.split()], dtype=torch.float64).reshape(10, 10)
    boxes = rois((0, 0.5, 0.5, 2, 9.5, 9.5), (0, 5.5, 0.5, 2, 9.5, 4.5), (0, 5.5, 5.5, 2, 9.5, 9.5))
    out = roi_align_3d(features.expand(1, 1, 2, 10, 10), boxes, (1, 5, 5))
    want = torch.tensor([float(v) for v in y.split()], dtype=torch.float64).reshape(3, 5, 5)
    torch.testing.assert_close(out[:, 0, 0], want, rtol=0, atol=1e-4)  # input and output are published to 4 digits


@pytest.mark.parametrize("backend", BACKENDS)
def test_linear_and_xyz_fields_are_exact_at_the_bin_centres(backend):
    z, y, x = torch.meshgrid(*[torch.arange(n).double() + 0.5 for n in (9, 10, 11)], indexing="ij")
    fields = torch.stack([torch.ones_like(x), 3 * x - 2 * y + 0.5 * z - 7, x * y * z])[None]
    box = (1.3, 2.1, 0.9, 7.7, 8.8, 9.6)
    for ratio in (1, 2, 0):
        out = roi_align_3d(fields, rois(box), (3, 4, 5), 1.0, ratio, backend)[0]
        centres = [
            box[a] + (box[a + 3] - box[a]) * (torch.arange(n) + 0.5).double() / n for a, n in enumerate((3, 4, 5))
        ]
        z, y, x = torch.meshgrid(*centres, indexing="ij")
        want = torch.stack([torch.ones_like(x), 3 * x - 2 * y + 0.5 * z - 7, x * y * z])
        torch.testing.assert_close(out, want, rtol=0, atol=1e-11)


def test_the_whole_volume_in_its_own_bins_is_itself():
    features = rand(1, 2, *SHAPE)
    out = roi_align_3d(features, rois((0, 0, 0, *SHAPE)), SHAPE, sampling_ratio=1)
    torch.testing.assert_close(out, features, rtol=0, atol=1e-14)


def test_separable_fields_give_the_product_of_their_axes():
    d, h, w = rand(5), rand(6, seed=1), rand(7, seed=2)
    box = (0.4, -0.3, 1.1, 4.8, 5.5, 9.0)
    whole = roi_align_3d((d[:, None, None] * h[:, None] * w)[None, None], rois(box), (2, 3, 4))[0, 0]
    parts = []
    for a, (line, n) in enumerate(((d, 2), (h, 3), (w, 4))):
        only = rois((box[a], 0, 0, box[a + 3], 1, 1))
        parts.append(roi_align_3d(line[None, None, :, None, None], only, (n, 1, 1))[0, 0, :, 0, 0])
    torch.testing.assert_close(whole, parts[0][:, None, None] * parts[1][:, None] * parts[2], rtol=0, atol=1e-14)


@pytest.mark.parametrize("ratio", [1, 2, 0])
def test_flips_turns_and_shifts_of_the_axes(ratio):
    features, boxes = rand(2, 2, *SHAPE), BOXES[:7]
    plain = roi_align_3d(features, boxes, (2, 3, 4), 1.0, ratio)
    for a, n in enumerate(SHAPE):
        mirrored = boxes.clone()
        mirrored[:, 1 + a], mirrored[:, 4 + a] = n - boxes[:, 4 + a], n - boxes[:, 1 + a]
        # A sample exactly at the border falls on either side of it; these boxes have none.
        flipped = roi_align_3d(features.flip(a + 2), mirrored, (2, 3, 4), 1.0, ratio).flip(a + 2)
        torch.testing.assert_close(flipped, plain, rtol=0, atol=1e-12)
    turned = roi_align_3d(features.permute(0, 1, 4, 2, 3), boxes[:, [0, 3, 1, 2, 6, 4, 5]], (4, 2, 3), 1.0, ratio)
    torch.testing.assert_close(turned.permute(0, 1, 3, 4, 2), plain, rtol=0, atol=1e-12)
    inner = boxes[[0, 2]]  # where no rule of the border applies
    shift = torch.tensor([0, 2, 1, 3, 2, 1, 3])
    padded = nn.functional.pad(features, (3, 1, 1, 2, 2, 2))
    moved = roi_align_3d(padded, inner + shift, (2, 3, 4), 1.0, ratio)
    torch.testing.assert_close(moved, plain[[0, 2]], rtol=0, atol=1e-12)


def test_boxes_in_other_units_than_the_features():
    """Boxes of the image with spatial_scale equal boxes of the level."""
    features = rand(2, 2, *SHAPE)
    plain = roi_align_3d(features, BOXES[:5], (2, 3, 2))
    scales = (0.5, 0.25, 0.125)
    image = BOXES[:5].clone()
    image[:, 1:] *= torch.tensor([2, 4, 8, 2, 4, 8])
    for backend in BACKENDS:
        torch.testing.assert_close(
            roi_align_3d(features, image, (2, 3, 2), scales, 2, backend), plain, rtol=0, atol=1e-12
        )


def test_a_finer_grid_of_the_same_field_gives_the_same():
    """The field 3 z + x y in mm, on 1 mm voxels and on voxels of 0.5 mm along z, with the box in each one's voxels."""
    out = []
    for spacing, n in ((1.0, 6), (0.5, 12)):
        z, y, x = ((torch.arange(k).double() + 0.5) for k in (n, 6, 7))
        field = 3 * (z * spacing)[:, None, None] + y[:, None] * x
        out.append(roi_align_3d(field[None, None], rois((1 / spacing, 1, 1, 4.6 / spacing, 5, 6)), 3))
    torch.testing.assert_close(*out, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ratio", [1, 2, 0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend, ratio):
    features = rand(2, 2, 3, 4, 5).requires_grad_()
    boxes = BOXES[[0, 1, 3, 4, 10, 12]]
    assert torch.autograd.gradcheck(lambda f: roi_align_3d(f, boxes, (2, 1, 3), 0.8, ratio, backend), (features,))


@pytest.mark.parametrize("ratio", [1, 2, 3, 0])
def test_the_backends_agree_forward_and_backward_element_by_element(ratio):
    features = rand(2, 3, *SHAPE).requires_grad_()
    upstream = rand(17, 3, 3, 2, 4, seed=3)
    results = []
    for backend in BACKENDS:
        out = roi_align_3d(features, BOXES[:17], (3, 2, 4), (1.0, 0.7, 1.3), ratio, backend)
        results.append((out, *torch.autograd.grad(out, features, upstream)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    # The adjoint: <A f, g> = <f, A* g>.
    out, grad = results[0]
    torch.testing.assert_close((out * upstream).sum(), (features * grad).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)])
def test_lower_precision_keeps_its_dtype_and_coordinates_in_float32(dtype, tolerance, backend):
    features = rand(1, 2, 4, 5, 300).to(dtype).requires_grad_()
    boxes = rois((0.5, 1, 280.3, 3.5, 4, 299.9))  # in bfloat16 the box would be [280, 300)
    out = roi_align_3d(features, boxes.float(), 3, 1.0, 2, backend)
    exact = roi_align_3d(features.detach().double(), boxes, 3)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), exact, rtol=0, atol=tolerance)
    out.sum().backward()
    assert features.grad.dtype == dtype
    assert features.grad.sum().item() == pytest.approx(2 * 27, rel=0.02)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_changes_nothing(backend):
    features = rand(1, 2, *SHAPE, dtype=torch.float32).requires_grad_()
    boxes = BOXES[[0, 2, 4]].float()
    plain = roi_align_3d(features, boxes, 2, 1.0, 2, backend)
    with torch.autocast("cpu", torch.bfloat16):
        cast = roi_align_3d(features, boxes, 2, 1.0, 2, backend)
        (grad,) = torch.autograd.grad(cast.sum(), features)
    assert torch.equal(cast, plain)
    assert torch.equal(grad, *torch.autograd.grad(plain.sum(), features))


def test_boxes_get_no_gradient():
    boxes = BOXES[:2].clone().requires_grad_()
    assert not roi_align_3d(rand(2, 1, *SHAPE), boxes, 2).requires_grad
    out = roi_align_3d(rand(2, 1, *SHAPE).requires_grad_(), boxes, 2)
    out.sum().backward()
    assert boxes.grad is None


@pytest.mark.parametrize("ratio", [2, 0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_boxes(backend, ratio):
    features = rand(2, 3, *SHAPE).requires_grad_()
    out = roi_align_3d(features, torch.zeros(0, 7), (2, 3, 4), 1.0, ratio, backend)
    assert out.shape == (0, 3, 2, 3, 4)
    out.sum().backward()
    assert not features.grad.any()


def test_a_monai_tensor_gives_a_plain_one():
    features = rand(1, 1, *SHAPE)
    out = roi_align_3d(MetaTensor(features), BOXES[[0]], 2)
    assert type(out) is torch.Tensor
    assert torch.equal(out, roi_align_3d(features, BOXES[[0]], 2))


class Head(nn.Module):
    def __init__(self, backend="auto", ratio=2):
        super().__init__()
        self.lateral = nn.Conv3d(1, 2, 1)
        self.backend, self.ratio = backend, ratio

    def forward(self, x, boxes):
        return roi_align_3d(self.lateral(x), boxes, (2, 3, 2), 0.5, self.ratio, self.backend) + 1


@pytest.mark.parametrize("volumes", [1, 2])
def test_an_exported_graph_takes_any_number_of_boxes(volumes, tmp_path):
    torch.manual_seed(0)
    head, x = Head().eval(), torch.randn(volumes, 1, *SHAPE)
    boxes = BOXES[:12].float()
    boxes[:, 0] %= volumes
    boxes[:, 1:] *= 2
    shapes = {"x": None, "boxes": {0: torch.export.Dim("r")}}
    exported = torch.export.export(head, (x, boxes[:3]), dynamic_shapes=shapes)
    called = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert {name for name in called if not name.startswith("aten.")} <= {"<built-in function mul>"}  # of sizes
    torch.export.save(exported, tmp_path / "head.pt2")
    loaded = torch.export.load(tmp_path / "head.pt2").module()
    for count in (12, 5, 1):
        torch.testing.assert_close(loaded(x, boxes[:count]), head(x, boxes[:count]), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_exported_says_so():
    x, boxes = torch.randn(1, 1, *SHAPE), BOXES[:1].float()
    for head, what in ((Head("separable"), "backend='auto' exports the grid"), (Head(ratio=0), "sampling_ratio >= 1")):
        with pytest.raises(ValueError, match=what):
            torch.export.export(head, (x, boxes))


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"features": torch.zeros(1, 5, 6, 7)}, r"\(B, C, D, H, W\)"),
        ({"features": torch.zeros(1, 1, 5, 6, 7, dtype=torch.int32)}, "floating point, got .* torch.int32"),
        ({"boxes": torch.zeros(3, 6)}, r"\(R, 7\)"),
        ({"boxes": torch.zeros(3, 7, dtype=torch.int64)}, "floating point"),
        ({"boxes": torch.zeros(3, 7, device="meta")}, "features lie on cpu, boxes on meta"),
        ({"boxes": torch.full((2, 7), 1.0)}, r"volume 1, but the features have 1 \(0 to 0\)"),
        ({"boxes": torch.full((2, 7), -1.0)}, "volume -1"),
        ({"boxes": torch.full((2, 7), 0.5)}, "volume 0.5"),
        ({"boxes": torch.full((2, 7), NAN)}, "volume nan"),
        ({"output_size": 0}, "output_size is one whole number above 0, or three; got 0"),
        ({"output_size": (2, 2)}, "output_size"),
        ({"output_size": (2, 2.5, 2)}, "output_size"),
        ({"spatial_scale": (1.0, -1.0, 1.0)}, "spatial_scale"),
        ({"spatial_scale": INF}, "spatial_scale"),
        ({"sampling_ratio": -1}, "sampling_ratio is a whole number >= 1"),
        ({"sampling_ratio": 1.5}, "sampling_ratio"),
        ({"backend": "triton"}, "auto, separable, grid, got 'triton'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(wrong, what):
    good = {"features": torch.zeros(1, 1, 5, 6, 7), "boxes": torch.zeros(1, 7), "output_size": 2}
    with pytest.raises(ValueError, match=what):
        roi_align_3d(**{**good, **wrong})


@pytest.mark.gpu
@pytest.mark.parametrize("ratio", [2, 0])
def test_a_gpu_agrees_with_the_cpu(ratio):
    features = rand(2, 8, 20, 24, 28).requires_grad_()
    low = torch.rand(60, 3, dtype=torch.float64) * 20 - 2
    boxes = torch.cat([torch.arange(60)[:, None] % 2, low, low + 12 * torch.rand(60, 3)], 1)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        results = []
        for device in ("cpu", "cuda", "cuda"):
            x = features.detach().to(device, dtype).requires_grad_()
            out = roi_align_3d(x, boxes.to(device, dtype), 7, 0.9, ratio)
            out.square().sum().backward()
            results.append((out.detach().cpu(), x.grad.cpu()))
        torch.testing.assert_close(results[0], results[1], rtol=tolerance, atol=tolerance)
        assert torch.equal(results[1][0], results[2][0])
        assert torch.equal(results[1][1], results[2][1])  # deterministic
