"""Channel dropout: whole channels, right mean."""

from __future__ import annotations

import pytest
import torch

from medseg.networks import ChannelDropout


def test_training_drops_whole_channels_and_keeps_the_mean():
    torch.manual_seed(0)
    out = ChannelDropout(1000, 0.3).train()(torch.ones(4, 1000, 2, 2, 2))
    per_channel = out.flatten(2)
    assert torch.equal(per_channel.amin(-1), per_channel.amax(-1))
    kept = (per_channel[..., 0] > 0).float().mean().item()
    assert abs(kept - 0.7) < 4 * (0.21 / 4000) ** 0.5  # 4 sigma of a binomial share
    torch.testing.assert_close(per_channel.amax(), torch.tensor(1 / 0.7))


def test_evaluation_is_the_identity_and_there_is_no_state():
    drop = ChannelDropout(3, 0.5).eval()
    x = torch.randn(2, 3, 2, 2, 2)
    assert drop(x) is x
    assert not drop.state_dict()


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_a_probability_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        ChannelDropout(1, p)
