"""Oracle: monai.inferers.sliding_window_inference, and argmax over it."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from monai.inferers import Inferer, sliding_window_inference
from monai.networks.nets import UNet
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from medseg.errors import InputError, UsageError
from medseg.inferers import SlidingWindowInferer


@pytest.fixture(scope="module")
def unet():
    """A 3D U-Net with random weights whose windows must be divisible by 4."""
    torch.manual_seed(0)
    return UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=1).eval()


class Pointwise(nn.Module):
    """Classes by intensity alone: what is around a voxel does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1, 1))
        self.offset = nn.Parameter(torch.tensor([0.0, -0.1, -1.3]).reshape(1, 3, 1, 1, 1))

    def forward(self, x):
        return x[:, :1] * self.slope + self.offset


def theirs(x, network, roi, overlap=0.25, batch=2, mode="gaussian"):
    with torch.no_grad():
        return sliding_window_inference(x, roi, batch, network, overlap, mode)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class AroundAVoxel(nn.Module):
    """A small convolution that accepts any window, unlike a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv3d(2, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


@settings(max_examples=15)
@given(
    st.integers(1, 2),
    st.tuples(*[st.integers(1, 22)] * 3),
    st.tuples(*[st.integers(6, 14)] * 3),
    st.sampled_from([0.0, 0.25, 0.5, (0.6, 0.1, 0.3)]),
    st.sampled_from(["gaussian", "constant"]),
    st.integers(1, 4),
)
def test_equals_monai_on_odd_sizes(items, shape, roi, overlap, mode, batch):
    x, network = images(items, 2, *shape), AroundAVoxel()
    wanted = theirs(x, network, roi, overlap, batch, mode)
    logits = SlidingWindowInferer(roi, overlap, batch, mode, precision="fp32")(x, network)
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)
    labels = SlidingWindowInferer(roi, overlap, batch, mode, output="labels", precision="fp32")(x, network)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), wanted.argmax(1, keepdim=True))


@pytest.mark.parametrize(
    ("shape", "roi", "overlap"),
    [
        ((45, 38, 33), (16, 16, 16), 0.25),
        ((30, 38, 20), (16, 24, 8), 0.5),
        ((9, 38, 33), (16, 16, 16), 0.25),
        ((20, 20, 70), (16, 16, 16), 0.25),
    ],
    ids=["odd", "anisotropic", "smaller than a window", "walked along the last axis"],
)
@pytest.mark.parametrize("batch", [1, 2, 3, "auto"])
def test_a_unet_equals_monai(unet, shape, roi, overlap, batch):
    x = images(2, 1, *shape)
    wanted = theirs(x, unet, roi, overlap, 2 if batch == "auto" else batch)
    logits = SlidingWindowInferer(roi, overlap, batch, precision="fp32")(x, unet)
    torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)
    labels = SlidingWindowInferer(roi, overlap, batch, output="labels", precision="fp32")(x, unet)
    assert torch.equal(labels.long(), logits.argmax(1, keepdim=True))
    assert (labels.long() != wanted.argmax(1, keepdim=True)).float().mean() < 1e-4  # near ties of a random network


def test_the_window_batch_changes_nothing(unet):
    x = images(1, 1, 33, 29, 31)
    results = [SlidingWindowInferer(16, 0.25, b, precision="fp32")(x, unet) for b in (1, 2, 3, 4, "auto")]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-5, atol=1e-5)


def test_a_second_run_gives_the_same_bits(unet):
    x = images(1, 1, 33, 29, 31)
    inferer = SlidingWindowInferer(16, 0.25)
    assert torch.equal(inferer(x, unet), inferer(x, unet))


def test_items_of_a_batch_do_not_mix(unet):
    x = images(3, 1, 30, 17, 16)
    inferer = SlidingWindowInferer(16, 0.25, 2, output="labels", precision="fp32")
    together = inferer(x, unet)
    apart = torch.cat([inferer(x[i : i + 1], unet) for i in range(3)])
    assert (together != apart).float().mean() < 1e-3  # batches are composed differently: near ties may turn
    order = [2, 0, 1]
    torch.testing.assert_close(
        SlidingWindowInferer(16, precision="fp32")(x[order], unet),
        SlidingWindowInferer(16, precision="fp32")(x, unet)[order],
        rtol=1e-5,
        atol=1e-5,
    )


def test_regions_are_painted_from_blended_logits(unet):
    x = images(1, 1, 30, 25, 20)
    logits = SlidingWindowInferer(16, precision="fp32")(x, unet)
    wanted = torch.zeros(1, 1, 30, 25, 20, dtype=torch.uint8)
    for channel, value in enumerate((1, 3, 2)):
        wanted[0, 0][logits[0, channel] > 0] = value
    labels = SlidingWindowInferer(16, output="labels", regions=[1, 3, 2], precision="fp32")(x, unet)
    assert torch.equal(labels, wanted)


def test_one_sigmoid_channel():
    x = images(1, 1, 20, 20, 20)
    labels = SlidingWindowInferer(16, output="labels", regions=[7])(x, lambda w: w)
    assert torch.equal(labels, (x > 0).byte() * 7)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float16, torch.bfloat16, torch.float64])
def test_sums_are_float32_whatever_the_input_is(unet, dtype):
    x = (images(1, 1, 30, 25, 20) * 50 + 100).clamp(0, 255).to(dtype)
    logits = SlidingWindowInferer(16, precision="fp32")(x, unet)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, theirs(x.float(), unet, 16), rtol=1e-5, atol=1e-5)


def test_meta_data_survive(unet):
    affine = torch.tensor([[0.0, -2, 0, 5], [1, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]], dtype=torch.float64)
    x = MetaTensor(images(1, 1, 20, 20, 20), affine=affine, meta={"filename_or_obj": "case"})
    x.applied_operations = [{"class": "Flip"}]
    for output in ("logits", "labels"):
        y = SlidingWindowInferer(16, output=output)(x, unet)
        assert isinstance(y, MetaTensor)
        assert torch.equal(y.affine, affine)
        assert y.meta["filename_or_obj"] == "case"
        assert y.applied_operations == [{"class": "Flip"}]
    assert not isinstance(SlidingWindowInferer(16)(x.as_tensor(), unet), MetaTensor)


def test_neither_network_nor_image_nor_prediction_is_changed(unet):
    state = {name: value.clone() for name, value in unet.state_dict().items()}
    x = images(1, 1, 40, 20, 20)
    before = x.clone()
    fixed = images(1, 3, 16, 16, 16)
    as_it_was = fixed.clone()
    SlidingWindowInferer(16, precision="bf16")(x, unet)
    SlidingWindowInferer(16, sw_batch_size=1)(x, lambda w: fixed)
    SlidingWindowInferer(16, sw_batch_size=1)(x, lambda w: w.mul_(3))  # a network may write into its windows
    assert torch.equal(x, before)
    assert torch.equal(fixed, as_it_was)
    assert not unet.training
    after = unet.state_dict()
    assert list(after) == list(state)
    assert all(after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in state.items())


def test_no_gradients_are_kept(unet):
    assert not SlidingWindowInferer(16)(images(1, 1, 20, 20, 20), unet).requires_grad


def test_lists_and_dictionaries_of_outputs(unet):
    x = images(1, 1, 30, 20, 20)
    wanted = SlidingWindowInferer(16, precision="fp32")(x, unet)
    for wrap in (lambda y: [y, y[..., ::2]], lambda y: {"aux": y[..., ::2], "pred": y}):
        assert torch.equal(SlidingWindowInferer(16, sw_batch_size=2)(x, lambda w, wrap=wrap: wrap(unet(w))), wanted)


def test_further_arguments_reach_the_network():
    x = images(1, 1, 20, 20, 20)
    y = SlidingWindowInferer(16)(x, lambda w, a, *, b: w * a + b, 2.0, b=1.0)
    torch.testing.assert_close(y, x * 2 + 1)


def test_progress_counts_windows():
    seen = []
    inferer = SlidingWindowInferer(16, 0.25, 3, progress=lambda done, total: seen.append((done, total)))
    inferer(images(2, 1, 28, 28, 16), lambda w: w)
    assert seen == [(3, 8), (6, 8), (8, 8)]


def test_two_and_one_dimensions():
    torch.testing.assert_close(SlidingWindowInferer(8)(images(1, 2, 21, 30), lambda w: w), images(1, 2, 21, 30))
    torch.testing.assert_close(SlidingWindowInferer(8)(images(1, 2, 21), lambda w: w), images(1, 2, 21))


class Peak(TorchDispatchMode):
    """Largest single allocation, and the most bytes alive at once, of what is made inside."""

    def __init__(self, *before: torch.Tensor) -> None:
        super().__init__()
        self.alive = 0
        self.most = 0
        self.largest = 0
        self.known: set[int] = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self.known:
                    self.known.add(key)
                    self.alive += size
                    self.largest = max(self.largest, size)
                    self.most = max(self.most, self.alive)
                    weakref.finalize(storage, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        if key in self.known:
            self.known.discard(key)
            self.alive -= size


@pytest.mark.parametrize(("output", "per_voxel"), [("labels", 1), ("logits", 4 * 6)])
def test_memory_grows_with_the_slab_not_with_the_volume(output, per_voxel):
    def fake(w):
        return w.expand(-1, 6, -1, -1, -1)

    def peak(depth: int) -> Peak:
        x = images(1, 1, depth, 24, 24)
        with Peak(x) as seen:
            SlidingWindowInferer(16, 0.25, 1, output=output)(x, fake)
        return seen

    short, long = peak(32), peak(320)
    result_growth = per_voxel * (320 - 32) * 24 * 24
    assert long.most - short.most <= result_growth + 1024
    if output == "labels":
        slab = 6 * 16 * 24 * 24 * 4
        assert long.largest == slab  # nothing is larger than the ring, though the volume of scores is 20 times that


def test_outside_the_body_is_background(unet):
    x = torch.full((1, 1, 64, 40, 30), -3.0)
    x[..., 20:40, 15:30, 5:25] = images(1, 1, 20, 15, 20)
    inferer = SlidingWindowInferer(16, output="labels", body_threshold=-2.9)
    labels = inferer(x, lambda w: unet(w))
    assert [event.code for event in inferer.events] == ["MS-M221"]
    assert labels[..., 20:40, 15:30, 5:25].any()
    assert not labels[..., 60:, :, :].any()
    logits = SlidingWindowInferer(16, body_threshold=-2.9)(x, lambda w: unet(w))
    assert torch.equal(logits.argmax(1, keepdim=True), labels.long())
    probability = logits[:, :, 60:].softmax(1)
    assert (probability[:, 0] > 1 - 1e-6).all()


def test_body_crop_changes_nothing_where_outside_is_empty():
    x = torch.full((1, 1, 70, 60, 50), -1.0)
    x[..., 25:45, 10:30, 20:41] = images(1, 1, 20, 20, 21).abs()
    for output in ("labels", "logits"):
        whole = SlidingWindowInferer(16, output=output)(x, Pointwise())
        cropped = SlidingWindowInferer(16, output=output, body_threshold=0.0)(x, Pointwise())
        if output == "labels":
            assert whole.any()
            assert torch.equal(cropped, whole)
        else:
            inside = (..., slice(25, 45), slice(10, 30), slice(20, 41))
            torch.testing.assert_close(cropped[inside], whole[inside])


def test_body_crop_of_a_ct(data):
    nib = pytest.importorskip("nibabel")
    ct = torch.from_numpy(nib.load(data("totalseg") / "example_ct_sm.nii.gz").get_fdata("unchanged", dtype="float32"))
    x = torch.full((1, 1, 250, 220, 40), -1024.0)
    x[0, 0, 40 : 40 + ct.shape[0], 50 : 50 + ct.shape[1], 5 : 5 + ct.shape[2]] = ct
    bone = lambda w: torch.cat([torch.zeros_like(w), w - 200], 1)  # noqa: E731
    done = []
    inferer = SlidingWindowInferer(64, output="labels", body_threshold=-800, progress=lambda d, n: done.append(n))
    labels = inferer(x, bone)
    assert torch.equal(labels, (x > 200).byte())
    assert labels.any()
    whole = []
    SlidingWindowInferer(64, output="labels", progress=lambda d, n: whole.append(n))(x, bone)
    assert done[-1] <= whole[-1] / 2


def test_it_is_a_monai_inferer_that_a_config_can_name():
    from monai.bundle import ConfigParser

    config = {"_target_": "medseg.inferers.SlidingWindowInferer", "roi_size": [16, 16, 8], "output": "labels"}
    parser = ConfigParser({"inferer": config})
    inferer = parser.get_parsed_content("inferer")
    assert isinstance(inferer, Inferer)
    assert inferer(images(1, 1, 20, 20, 20), Pointwise()).shape == (1, 1, 20, 20, 20)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"output": "probabilities"}, "MS-U145 output is 'probabilities'(.|\n)*use one of logits, labels"),
        ({"precision": "fp16"}, "MS-U145 precision is 'fp16'"),
        ({"mode": "linear"}, "MS-U145 mode is 'linear'"),
        ({"sw_batch_size": 0}, "MS-U145 sw_batch_size is 0"),
        ({"sw_batch_size": "many"}, "MS-U145 sw_batch_size is 'many'"),
        ({"regions": [1, 300]}, r"MS-U145 regions is \(1, 300\)"),
    ],
)
def test_wrong_settings_are_refused_at_once(settings, match):
    with pytest.raises(UsageError, match=match):
        SlidingWindowInferer(16, **settings)


def test_a_network_of_another_resolution_is_refused():
    with pytest.raises(UsageError, match="MS-U144"):
        SlidingWindowInferer(16)(images(1, 1, 20, 20, 20), lambda w: w[..., ::2])


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="MS-U142"):
        SlidingWindowInferer(16, output="labels")(images(1, 1, 20, 20, 20), lambda w: w)


def test_a_network_that_returns_nan_is_never_a_label_map(unet):
    with pytest.raises(InputError, match="MS-U143"):
        SlidingWindowInferer(16, output="labels")(images(1, 1, 20, 20, 20), lambda w: unet(w) * torch.nan)
