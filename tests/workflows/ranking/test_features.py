"""A case's vector: the bottleneck of medseg's U-Net and of MONAI's networks, averaged by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, SEResNet50
from monai.networks.nets import UNet as MonaiUNet
from torch import nn

from medseg.inferers.sliding import SlidingWindowInferer
from medseg.networks import UNet
from medseg.workflows.ranking.features import activation, case_features, deepest


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


@pytest.fixture(scope="module")
def unet():
    return seeded(lambda: UNet(1, 3, features=(4, 8, 12), dropout=0.1, deep_supervision=1))


def image(*shape, seed=0):
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_the_bottleneck_of_medsegs_own_network(unet):
    window = image(16, 16, 16)
    place = deepest(unet, window)
    assert place.module is unet.dropout_bottleneck
    assert torch.equal(activation(unet, place, window), unet.encoder(window)[-1])


@torch.no_grad()
def test_the_vector_is_mean_and_deviation_over_all_windows(unet):
    whole = image(16, 28, 10)  # two windows along the second axis, the last one pulled back; padded along the third
    windows = [nn.functional.pad(whole, (3, 3))[..., start : start + 16, :] for start in (0, 12)]
    seen = np.concatenate([unet.encoder(w)[-1].numpy()[0].reshape(12, -1) for w in windows], axis=1).astype(float)
    found = case_features(whole, unet, SlidingWindowInferer((16, 16, 16), overlap=0.75))
    assert found.dtype == np.float64
    assert found == pytest.approx(np.concatenate([seen.mean(1), seen.std(1)]), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "channels", "edge"),
    [
        (
            lambda: MonaiUNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1),
            8 + 16,
            8,
        ),  # beside its skip connection
        (lambda: BasicUNet(3, 1, 2, features=(4, 4, 8, 8, 16, 4)), 16, 2),
        (lambda: SegResNet(3, 8, 1, 2, blocks_down=(1, 2, 2), blocks_up=(1, 1)), 32, 8),
        (lambda: DynUNet(3, 1, 2, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 12)), 12, 8),
    ],
    ids=["UNet", "BasicUNet", "SegResNet", "DynUNet"],
)
def test_the_bottleneck_of_monais_networks(make, channels, edge):
    network = seeded(make)
    window = image(32, 32, 32)
    with torch.no_grad():
        found = activation(network, deepest(network, window), window)
    assert found.shape == (1, channels, edge, edge, edge)


@torch.no_grad()
def test_a_gate_of_one_voxel_is_not_the_bottleneck():
    network = seeded(lambda: SEResNet50(spatial_dims=3, in_channels=1, num_classes=2))
    window = image(48, 48, 48)
    assert activation(network, deepest(network, window), window).shape == (1, 2048, 2, 2, 2)


class Shared(nn.Module):
    """One activation at two levels, the deep one in between; the last level is never reached by `activation`."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.down, self.up = nn.ReLU(), nn.Conv3d(1, 5, 2, 2), nn.Upsample(scale_factor=2)
        self.head = nn.Conv3d(5, 2, 1)
        self.heads = 0

    def forward(self, x):
        deep = self.act(self.down(self.act(x)))
        self.heads += 1
        return {"pred": self.head(self.act(self.up(deep)))}


@torch.no_grad()
def test_a_module_that_is_used_at_several_levels():
    network, window = seeded(Shared), image(8, 8, 8)
    place = deepest(network, window)
    assert (place.module, place.call) == (network.act, 2)
    assert torch.equal(activation(network, place, window), network.down(window.relu()).relu())
    assert network.heads == 1, "the network ran no further than to the activation"
    assert not any(module._forward_hooks for module in network.modules())


@torch.no_grad()
def test_a_network_without_modules_that_return_volumes():
    class Plain(nn.Module):
        def forward(self, x):
            return [torch.cat([x, -x], 1)]

    found = case_features(image(8, 8, 8), Plain(), SlidingWindowInferer((8, 8, 8)))
    x = image(8, 8, 8).numpy().astype(float)
    assert found == pytest.approx([x.mean(), -x.mean(), x.std(), x.std()], rel=1e-5)


def test_only_the_body_counts(unet):
    small = image(16, 16, 16)
    large = torch.full((1, 1, 64, 16, 16), -9.0)
    large[:, :, 32:48] = small.clamp(min=-3.0)
    inferer = SlidingWindowInferer((16, 16, 16), body_threshold=-5.0)
    assert case_features(large, unet, inferer).shape == (24,)
    assert not np.allclose(case_features(large, unet, inferer), case_features(large, unet, SlidingWindowInferer(16)))


def test_the_same_case_gives_the_same_bits_and_another_one_others(unet):
    inferer = SlidingWindowInferer((16, 16, 16))
    first = case_features(image(20, 20, 20), unet, inferer)
    assert np.array_equal(case_features(image(20, 20, 20), unet, inferer), first)
    assert not np.allclose(case_features(image(20, 20, 20, seed=1), unet, inferer), first)


@torch.no_grad()
def test_a_network_that_does_not_come_by_is_an_error(unet):
    place = deepest(seeded(lambda: UNet(1, 3, features=(4, 8))), image(8, 8, 8))
    with pytest.raises(ValueError, match="does not give the activation"):
        activation(unet, place, image(16, 16, 16))
