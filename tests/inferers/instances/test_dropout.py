from __future__ import annotations

import torch
from torch import nn

from medseg.inferers.dropout import McDropout, channel_mask
from medseg.inferers.instances.dropout import Dropped
from medseg.networks import MaskRCNN
from medseg.networks.detections import Detections


class Boxes(nn.Module):
    """Eight boxes side by side, of which dropout takes some away."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.dropout = nn.Identity(), nn.Dropout(0.5)

    def forward(self, images):
        there = self.dropout(self.encoder(torch.ones(len(images), 8)))[0] > 0
        edges = torch.tensor([[0, 0, 2 * n, 2, 2, 2 * n + 2] for n in range(8)], dtype=torch.float32)
        scores = torch.linspace(0.9, 0.2, 8)
        masks = torch.ones(8, 2, 2, 2)
        return [Detections(edges[there], scores[there], torch.zeros(8).long()[there], masks[there])]


def test_each_sample_has_the_mask_of_its_seed_in_every_tile():
    source = Dropped(McDropout(Boxes().eval(), 6, seed=5))
    for _ in range(2):
        samples = source(torch.zeros(1, 1, 2, 2, 16))
        assert len(samples) == 6
        for t, sample in enumerate(samples):
            kept = channel_mask(5, t, 0, 8, 0.5) > 0
            assert torch.equal(sample.scores, torch.linspace(0.9, 0.2, 8)[kept])
            assert [mask.low[2] for mask in sample.masks] == (2 * kept.nonzero()[:, 0]).tolist()


def test_a_mask_r_cnn_runs_its_encoder_once_and_gives_what_plain_passes_give():
    torch.manual_seed(0)
    network = MaskRCNN(
        1, 2, [[[4.0, 4, 4]], [[8.0, 8, 8]]], (4, 8, 8), channels=8, fine_channels=8, width=8, mask_width=8, mask_size=4,
        dropout=0.3, min_score=0.3, proposals=30,
    ).eval()  # fmt: skip
    tile, times = torch.rand(1, 1, 16, 16, 16), []
    forward = network.encoder.forward
    network.encoder.forward = lambda x: (times.append(1), forward(x))[1]
    sampler = McDropout(network, 4)
    with torch.no_grad():
        samples = Dropped(sampler)(tile)
        assert len(times) == 1
        apart = [Dropped(McDropout(network, 4))(tile)[t] for t in range(4)]
    for one, other in zip(samples, apart, strict=True):
        assert len(one)
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)
    assert not torch.equal(samples[0].scores, samples[1].scores)


def test_samples_are_those_of_plain_passes_with_the_same_masks():
    """Without replay: every dropout module is replaced by its mask."""
    torch.manual_seed(1)
    network = MaskRCNN(
        1, 1, [[[4.0, 4, 4]]], (4, 8), channels=8, fine_channels=8, width=8, mask_width=8, mask_size=4, dropout=0.3,
        min_score=0.3, proposals=20,
    ).eval()  # fmt: skip
    tile = torch.rand(1, 1, 16, 16, 16)
    sampler = McDropout(network, 3, seed=2)
    with torch.no_grad():
        outputs = list(sampler.outputs(tile, range(3)))
        for t, ((found,),) in enumerate(zip(outputs, strict=True)):
            hooks = [
                network.get_submodule(name).register_forward_hook(_masked(t, place, p))
                for place, (name, p) in enumerate(sampler.points.items())
            ]
            (plain,) = network(tile)
            for hook in hooks:
                hook.remove()
            torch.testing.assert_close(found.boxes, plain.boxes)
            torch.testing.assert_close(found.scores, plain.scores)
            torch.testing.assert_close(found.masks, plain.masks)


def _masked(sample, place, p):
    def hook(module, args, output):
        del module, args
        mask = channel_mask(2, sample, place, output.shape[1], p)
        return output * mask.reshape(1, -1, *[1] * (output.ndim - 2))

    return hook
