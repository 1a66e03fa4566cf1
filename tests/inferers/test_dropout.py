"""Monte Carlo dropout: seeds, prefixes, untouched networks, and closed forms."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from medseg.errors import UsageError
from medseg.inferers.dropout import McDropout, channel_mask, dropout_points
from medseg.networks import ChannelDropout, UNet


def unet(**changes) -> UNet:
    torch.manual_seed(0)
    return UNet(**{"in_channels": 1, "out_channels": 3, "features": (4, 6, 8), "dropout": 0.4, **changes}).eval()


@torch.no_grad()
def draws(sampler: McDropout, windows: torch.Tensor) -> list[torch.Tensor]:
    return list(sampler.samples(windows, range(sampler.count)))


X = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(3))


def test_equal_seeds_give_equal_bits_and_the_first_of_many_are_those_of_few():
    net = unet()
    ten, again, five, other = (draws(McDropout(net, n, seed=s), X) for n, s in ((10, 7), (10, 7), (5, 7), (10, 2)))
    assert all(torch.equal(a, b) for a, b in zip(ten, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(ten[:5], five, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(ten, other, strict=True))
    assert len({float(sample.square().sum()) for sample in ten}) == 10


def test_a_sample_is_the_same_network_for_every_window_and_batch():
    net = unet()
    sampler = McDropout(net, 3)
    together = draws(sampler, X)
    apart = [torch.cat(pair) for pair in zip(draws(sampler, X[:1]), draws(sampler, X[1:]), strict=True)]
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_network_is_untouched_and_normalisation_stays_in_eval():
    torch.manual_seed(0)
    net = BasicUNet(3, 1, 2, (4, 4, 8, 8, 8, 4), norm="batch", dropout=0.3).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    draws(McDropout(net, 4), torch.randn(1, 1, 32, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(module.training for module in net.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_probability_zero_gives_the_network_itself():
    net = unet()
    first, *others = draws(McDropout(net, 3, points=dict.fromkeys(dropout_points(net), 0.0)), X)
    with torch.no_grad():  # a skip connection is convolved apart: the same sums in another order
        torch.testing.assert_close(first, net(X), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(first, other) for other in others)


def test_points_are_named_by_module_or_prefix():
    net = unet()
    assert list(dropout_points(net)) == ["dropout_bottleneck", "dropout_decoder.0", "dropout_head"]
    sampler = McDropout(net, 2, points={"dropout_head": 0.5, "dropout_decoder": None})
    assert sampler.points == {"dropout_decoder.0": 0.4, "dropout_head": 0.5}


def test_masks_keep_the_mean_and_drop_the_stated_share():
    masks = torch.stack([channel_mask(0, t, 0, 64, 0.25) for t in range(500)])
    assert masks.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    sigma = (0.25 * 0.75 / masks.numel()) ** 0.5
    assert abs(float((masks == 0).float().mean()) - 0.25) < 4 * sigma


def test_a_linear_head_has_the_mean_and_variance_of_bernoulli_dropout():
    """y = sum w_i x_i m_i: mean sum w_i x_i, variance sum (w_i x_i)^2 p / (1 - p)."""
    p, count = 0.3, 4000
    net = nn.Sequential(ChannelDropout(16, p), nn.Conv3d(16, 1, 1, bias=False)).eval()
    x = torch.rand(1, 16, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    values = torch.cat(draws(McDropout(net, count), x)).flatten().double()
    terms = (net[1].weight.flatten() * x.flatten()).detach().double()
    mean, variance = terms.sum(), (terms**2).sum() * p / (1 - p)
    assert abs(values.mean() - mean) < 4 * (variance / count) ** 0.5
    assert abs(values.var() / variance - 1) < 4 * (2 / count) ** 0.5 + 0.05  # not quite Gaussian


def test_many_samples_approach_the_full_enumeration_of_a_toy_network():
    p, channels, count = 0.5, 4, 3000
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv3d(1, channels, 1), nn.Dropout3d(p), nn.Conv3d(channels, 2, 1)).eval()
    x = torch.randn(1, 1, 2, 2, 2)
    with torch.no_grad():
        hidden = net[0](x)
        exact = torch.zeros(1, 2, 2, 2, 2, dtype=torch.float64)
        for bits in itertools.product((0.0, 1.0), repeat=channels):
            mask = torch.tensor(bits).reshape(1, -1, 1, 1, 1) / (1 - p)
            exact += net[2](hidden * mask).softmax(1).double() * p**channels
    found = torch.stack(draws(McDropout(net, count), x)).softmax(2).double()
    error = found.std(0) / count**0.5
    assert ((found.mean(0) - exact).abs() <= 4 * error + 1e-7).all()


@pytest.mark.parametrize("kind", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_keeps_mean_and_variance(kind):
    """What torch's own gives whole channels of in training: two values of each channel, its affine map of x or of SELU's floor."""
    net = nn.Sequential(kind(0.3), nn.Conv3d(4096, 4096, 1, groups=4096)).eval()
    nn.init.ones_(net[1].weight)
    nn.init.zeros_(net[1].bias)
    x = torch.randn(1, 4096, 1, 1, 2)
    torch.manual_seed(0)
    own = torch.feature_alpha_dropout(x, 0.3, train=True)
    low = own.flatten().mode().values
    for sample in draws(McDropout(net, 3), x):
        assert abs(float(sample.mean())) < 0.1
        assert abs(float(sample.var()) - 1) < 0.1
        dropped = torch.isclose(sample, low)[:, :, 0, 0]
        assert torch.equal(dropped[..., 0], dropped[..., 1])
        assert abs(float(dropped.float().mean()) - 0.3) < 0.05
        both = ~dropped[..., 0] & ~torch.isclose(own, low)[:, :, 0, 0, 0]
        torch.testing.assert_close(sample[both], own[both])


class Tokens(nn.Module):
    """As transformers compute: (B, C, D, H, W) -> (B, N, C), or (B, D, H, W, C), and back."""

    def __init__(self, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        self.linear, self.drop = nn.Linear(8, 8), nn.Dropout(0.5)

    def forward(self, x):
        tokens = self.drop(self.linear(x.movedim(1, -1).flatten(1, 3) if self.flat else x.movedim(1, -1)))
        return tokens.reshape(len(x), *x.shape[2:], 8).movedim(-1, 1)


@pytest.mark.parametrize("flat", [True, False])
def test_among_tokens_features_are_dropped_not_places(flat):
    net = Tokens(flat=flat).eval()
    for t, sample in enumerate(draws(McDropout(net, 4, seed=2), torch.randn(2, 8, 3, 4, 5))):
        assert torch.equal((sample == 0).all(dim=(0, 2, 3, 4)), channel_mask(2, t, 0, 8, 0.5) == 0)
        assert torch.equal((sample == 0).any(dim=(0, 2, 3, 4)), channel_mask(2, t, 0, 8, 0.5) == 0)


def test_a_dropout_that_is_called_twice_draws_twice():
    """One module for all layers, as many networks have it: each call has a mask of its own, in every run the same."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.first, self.last = nn.Dropout3d(0.5), nn.Conv3d(1, 16, 1), nn.Conv3d(16, 16, 1)

        def forward(self, x):
            return {"pred": self.drop(self.last(self.drop(self.first(x))))}

    net, x = Shared().eval(), torch.randn(1, 1, 2, 2, 2)
    one = Shared().eval()
    one.drop = ChannelDropout(16, 0.5, one_mask=True).eval()
    with torch.no_grad():
        same = channel_mask(0, 1, 0, 16, 0.5).reshape(1, -1, 1, 1, 1)
        torch.testing.assert_close(list(draws(McDropout(one, 2), x))[1], one.last(one.first(x) * same) * same)
    assert list(dropout_points(net)) == ["drop"]
    masks = [[channel_mask(0, t, 0, 16, 0.5, call).reshape(1, -1, 1, 1, 1) for call in (0, 1)] for t in range(5)]
    assert not torch.equal(masks[0][0], masks[0][1])
    for (first, last), sample in zip(masks, draws(McDropout(net, 5), x), strict=True):
        with torch.no_grad():
            torch.testing.assert_close(sample, net.last(net.first(x) * first) * last)


@pytest.mark.parametrize(
    ("network", "points", "count", "code", "words"),
    [
        (nn.Conv3d(1, 2, 1), None, 5, "MS-U146", "no dropout"),
        (unet(dropout=0.0), None, 5, "MS-U146", "all 0"),
        (unet(), {"tail": 0.1}, 5, "MS-U146", "no dropout at 'tail'"),
        (unet(), None, 1, "MS-U147", "1 sample"),
        (unet(), {"dropout_head": 1.0}, 5, "MS-U147", "'dropout_head' is 1"),
    ],
)
def test_what_cannot_be_sampled_is_refused(network, points, count, code, words):
    with pytest.raises(UsageError, match=words) as caught:
        McDropout(network, count, points=points)
    assert caught.value.code == code
    assert caught.value.mend


@torch.no_grad()
def test_a_dropout_whose_forward_is_called_past_its_hooks_drops_too():
    class Direct(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.drop = nn.Conv3d(1, 8, 1), nn.Dropout3d(0.5)

        def forward(self, x):
            return self.drop.forward(self.conv(x))

    net, x = Direct().eval(), torch.randn(1, 1, 2, 2, 2)
    for t, sample in enumerate(draws(McDropout(net, 4), x)):
        torch.testing.assert_close(sample, net.conv(x) * channel_mask(0, t, 0, 8, 0.5).reshape(1, -1, 1, 1, 1))
