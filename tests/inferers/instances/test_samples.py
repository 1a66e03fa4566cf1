from __future__ import annotations

import torch
from torch import nn

from medseg.inferers import InstanceInferer
from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.samples import samples_of


class Stride(nn.Module):
    divisor = (4, 4, 4)


def knowing(score):
    """A source of two samples: both see bright voxels as one box, the second with a lower score."""

    def source(tile):
        where = (tile[0, 0] > 0.5).nonzero()
        if not len(where):
            return [_nothing(), _nothing()]
        low, high = where.min(0).values, where.max(0).values + 1
        mask = MaskCrop(tuple(low.tolist()), torch.ones((high - low).tolist()))
        box = torch.cat([low, high])[None].float()
        return [Instances(box, torch.tensor([s]), torch.tensor([0]), [mask]) for s in score]

    return source


def _nothing():
    return Instances(torch.zeros(0, 6), torch.zeros(0), torch.zeros(0).long(), [])


def test_each_sample_is_united_over_tiles_and_cut_at_the_score_on_its_own():
    image = torch.zeros(1, 1, 40, 16, 16)
    image[0, 0, 14:24, 4:9, 5:12] = 1
    inferer = InstanceInferer((24, 16, 16), (12, 0, 0), min_score=0.5, precision="fp32")
    calls = []
    inferer.progress = lambda done, total: calls.append((done, total))
    first, second = samples_of(image, inferer, knowing((0.9, 0.6)), Stride())
    assert len(inferer.tiles_over((40, 16, 16), Stride())) > 1
    assert calls[-1][0] == calls[-1][1] > 1
    for sample, score in ((first, 0.9), (second, 0.6)):
        assert len(sample) == 1
        assert sample.boxes[0].tolist() == [14, 4, 5, 24, 9, 12]
        assert sample.scores[0].item() <= score + 1e-6
    first, second = samples_of(image, inferer, knowing((0.9, 0.4)), Stride())
    assert (len(first), len(second)) == (1, 0)
