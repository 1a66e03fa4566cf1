"""Uncertainty over a volume: equal to storing every sample and reducing it, for every kind of sample and walk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference

from medseg.errors import UsageError
from medseg.inferers import uncertain as module
from medseg.inferers.dropout import McDropout
from medseg.inferers.ensemble import Ensemble
from medseg.inferers.mirrored import Mirror, Mirrored
from medseg.inferers.sliding import SlidingWindowInferer
from medseg.inferers.uncertain import UncertainInferer
from medseg.networks import UNet

if TYPE_CHECKING:
    from medseg.inferers.sampler import Sampler


def unet(seed: int = 0, **changes) -> UNet:
    torch.manual_seed(seed)
    return UNet(**{"in_channels": 1, "out_channels": 3, "features": (4, 6, 8), "dropout": 0.4, **changes}).eval()


def image(*space: int) -> torch.Tensor:
    return torch.randn(1, 1, *space, generator=torch.Generator().manual_seed(5))


class WritesItsInput(UNet):
    """As networks do that normalise in place: the next sample must not see it."""

    def forward(self, x):
        return super().forward(x.mul_(2).sub_(0.5))


def writing(seed: int) -> UNet:
    torch.manual_seed(seed)
    return WritesItsInput(in_channels=1, out_channels=3, features=(4, 6, 8), dropout=0.4).eval()


SAMPLERS = {
    "mc everywhere": lambda: McDropout(unet(), 7),
    "mc bottleneck": lambda: McDropout(unet(), 7, points={"dropout_bottleneck": None}),
    "mc head": lambda: McDropout(unet(), 7, points={"dropout_head": 0.5}),
    "ensemble": lambda: Ensemble([unet(1), unet(2), unet(3, features=(4, 8))]),
    "writing mc": lambda: McDropout(writing(0), 7, points={"dropout_decoder": None}),
    "writing ensemble": lambda: Ensemble([writing(1), writing(2)]),
    "tta": lambda: Mirrored(Ensemble([unet()]), [Mirror((0,)), Mirror((0, 2), (0, 2, 1))]),
    "ensemble+tta": lambda: Mirrored(Ensemble([unet(1), unet(2)]), [Mirror((1,))]),
}


@torch.no_grad()
def stored(x: torch.Tensor, sampler: Sampler, roi: tuple[int, ...], overlap: float) -> np.ndarray:
    """(T, K, *space) probabilities: each sample blended by MONAI as a prediction of its own."""
    out = []
    for t in range(sampler.count):

        def network(windows, t=t):
            return next(sampler.samples(windows.clone(), range(t, t + 1)))

        out.append(sliding_window_inference(x, roi, 1, network, overlap, mode="gaussian")[0].softmax(0))
    return torch.stack(out).double().numpy()


def entropy(p: np.ndarray, axis: int) -> np.ndarray:
    return -(p * np.log(np.maximum(p, 1e-38))).sum(axis)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("space", [(16, 16, 16), (12, 16, 20), (40, 24, 16)])
def test_equal_to_storing_every_sample(kind, space, monkeypatch):
    monkeypatch.setattr(module, "RING_BYTES", 4 * 3 * 2 * 16 * 24 * 16)  # two samples at a time: several walks
    sampler, x = SAMPLERS[kind](), image(*space)
    settings = SlidingWindowInferer((16, 16, 16), 0.5, precision="fp32")
    calls = []
    settings.progress = lambda done, of: calls.append((done, of))
    found = UncertainInferer(settings, variance=True)(x, sampler)
    p = stored(x, sampler, (16, 16, 16), 0.5)
    mean = p.mean(0)
    np.testing.assert_allclose(found.mean, mean, atol=2e-5)
    np.testing.assert_allclose(found.entropy, entropy(mean, 0) / np.log(3), atol=5e-5)
    information = (entropy(mean, 0) - entropy(p, 1).mean(0)) / np.log(3)
    np.testing.assert_allclose(found.mutual_information, information, atol=5e-5)
    assert found.variance is not None
    np.testing.assert_allclose(found.variance, p.var(0), atol=2e-5)
    top = np.sort(mean, 0)
    clear = top[-1] - top[-2] > 1e-4
    assert np.array_equal(found.labels.numpy()[clear], mean.argmax(0)[clear])
    assert found.samples == sampler.count
    assert calls[-1][0] == calls[-1][1]
    assert calls == sorted(calls)


def test_no_dropout_is_the_single_pass():
    net, x = unet(), image(40, 24, 16)
    settings = SlidingWindowInferer((16, 16, 16), 0.5, precision="fp32")
    points = dict.fromkeys(("dropout_bottleneck", "dropout_decoder", "dropout_head"), 0.0)
    for chosen in (points, {"dropout_head": 0.0}):
        found = UncertainInferer(settings)(x, McDropout(net, 5, points=chosen))
        single = UncertainInferer(settings)(x, Ensemble([net]))
        assert not found.mutual_information.any()
        torch.testing.assert_close(found.entropy, single.entropy, atol=2e-6, rtol=0)
        logits = SlidingWindowInferer((16, 16, 16), 0.5, output="labels", precision="fp32")(x, net)
        assert torch.equal(found.labels, logits[0, 0])


def test_the_first_samples_are_those_of_fewer_and_walks_change_nothing(monkeypatch):
    net, x = unet(), image(40, 24, 16)
    settings = SlidingWindowInferer((16, 16, 16), 0.25, precision="fp32")
    ten = UncertainInferer(settings)(x, McDropout(net, 10))
    monkeypatch.setattr(module, "RING_BYTES", 0)
    monkeypatch.setattr(module, "RING_SHARE", 10**9)
    one_by_one = UncertainInferer(settings)(x, McDropout(net, 10))
    assert torch.equal(ten.entropy, one_by_one.entropy)
    assert torch.equal(ten.mutual_information, one_by_one.mutual_information)
    five = UncertainInferer(settings)(x, McDropout(net, 5))
    assert torch.equal(five.voxels, ten.voxels[:5])


@pytest.mark.parametrize("kind", ["mc everywhere", "mc head", "ensemble"])
def test_regions_and_body_box(kind):
    sampler = SAMPLERS[kind]()
    x = image(80, 16, 16)
    x[:, :, 20:] = -9.0
    settings = SlidingWindowInferer((16, 16, 16), 0.5, precision="fp32", regions=(1, 2, 4), body_threshold=-5.0)
    found = UncertainInferer(settings)(x, sampler)
    assert set(found.labels.unique().tolist()) <= {0, 1, 2, 4}
    assert not found.votes[:, 79].any()
    assert not found.entropy[79].any()
    assert found.entropy.max() <= 1


def test_a_bfloat16_walk_is_near(monkeypatch):
    net, x = unet(), image(40, 24, 16)
    exact = UncertainInferer(SlidingWindowInferer((16, 16, 16), 0.5, precision="fp32"))(x, McDropout(net, 5))
    half = UncertainInferer(SlidingWindowInferer((16, 16, 16), 0.5, precision="bf16"))(x, McDropout(net, 5))
    torch.testing.assert_close(half.entropy, exact.entropy, atol=0.05, rtol=0)


def test_out_of_memory_goes_down_the_ladder():
    class Hungry(UNet):
        def forward(self, x):
            if len(x) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x)

    torch.manual_seed(0)
    net = Hungry(1, 3, (4, 6, 8), dropout=0.4).eval()
    inferer = UncertainInferer(SlidingWindowInferer((16, 16, 16), 0.5, sw_batch_size=2, precision="fp32"))
    found = inferer(image(40, 24, 16), McDropout(net, 3))
    assert [event.code for event in inferer.events] == ["MS-M201"]
    plain = UncertainInferer(SlidingWindowInferer((16, 16, 16), 0.5, sw_batch_size=1, precision="fp32"))
    torch.testing.assert_close(found.entropy, plain(image(40, 24, 16), McDropout(net, 3)).entropy)


def test_an_ensemble_says_how_all_of_it_was_computed(monkeypatch):
    """One member that must stay in fp32 decides for all: nothing says that bf16 was used."""
    from medseg.inferers import precision

    monkeypatch.setattr(precision, "has_native_bf16", lambda device: True)
    monkeypatch.setattr(precision, "MIN_WINDOWS", 1)
    net, said = unet(1), iter([(unet(2), "near"), (None, "far")])
    monkeypatch.setattr(precision, "bf16_or_reason", lambda *_: next(said))
    inferer = UncertainInferer(SlidingWindowInferer((16, 16, 16), 0.5))
    inferer(image(24, 16, 16), Ensemble([net, unet(3)]))
    assert [event.code for event in inferer.events] == ["MS-M212"]


def test_more_classes_than_bytes_count_are_refused():
    net = torch.nn.Conv3d(1, 300, 1).eval()
    with pytest.raises(UsageError, match="300 classes") as caught:
        UncertainInferer(SlidingWindowInferer((8, 8, 8)))(image(8, 8, 8), Ensemble([net, net]))
    assert caught.value.code == "MS-U142"
    assert "without --uncertainty" in caught.value.mend


def test_two_images_and_a_temperature_of_zero_are_refused():
    with pytest.raises(UsageError, match="2 images") as caught:
        UncertainInferer(SlidingWindowInferer(16))(torch.zeros(2, 1, 16, 16, 16), McDropout(unet(), 2))
    assert caught.value.code == "MS-U141"
    with pytest.raises(UsageError, match="temperature") as caught:
        UncertainInferer(SlidingWindowInferer(16), temperature=0.0)
    assert caught.value.code == "MS-U145"


def test_an_ensemble_and_a_mirror_need_something_to_work_with():
    with pytest.raises(UsageError) as caught:
        Ensemble([])
    assert caught.value.code == "MS-U148"
    with pytest.raises(UsageError) as caught:
        Mirrored(Ensemble([unet()]), [])
    assert caught.value.code == "MS-U149"
