"""An instance cut out and put down: exact inside, fading outside, others left alone."""

from __future__ import annotations

import numpy as np
import torch

from medseg.transforms.instances.snippet import cut_snippet, hidden_share, put_snippet


def scene():
    labels = torch.zeros(12, 12, 12, dtype=torch.int32)
    labels[4:7, 4:7, 4:7], labels[7:9, 4:7, 4:7] = 1, 2
    image = torch.rand(2, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    return image, labels


def cut(soft_mm=2.0, spacing=(1.0, 1.0, 1.0)):
    image, labels = scene()
    return cut_snippet(image, labels, 1, [4, 4, 4, 7, 7, 7], spacing_mm=spacing, soft_mm=soft_mm, kind=3, flags=0)


def test_the_border_fades_by_distance_in_mm_and_spares_neighbours():
    snippet = cut(2.0, (1.0, 1.0, 0.5))
    assert snippet.box == ((2, 2, 4), (5, 5, 7))
    assert snippet.mask.sum() == 27
    line = snippet.weight[3, 3]  # along the last axis, voxels of 0.5 mm
    np.testing.assert_allclose(line.numpy(), [0, 0.25, 0.5, 0.75, 1, 1, 1, 0.75, 0.5, 0.25, 0], atol=1e-6)
    np.testing.assert_allclose(snippet.weight[:, 3, 5].numpy(), [0, 0.5, 1, 1, 1, 0, 0], atol=1e-6)


def test_without_a_soft_border_only_the_instance_is_copied():
    image, labels = torch.zeros(2, 12, 12, 12), torch.zeros(12, 12, 12, dtype=torch.int32)
    put_snippet(image, labels, cut(0.0), (0, 9, 5), 4)
    here = (slice(0, 3), slice(9, 12), slice(5, 8))
    assert (labels == 4).sum() == (labels[here] == 4).sum() == 27
    assert torch.equal(image[:, *here], scene()[0][:, 4:7, 4:7, 4:7])
    assert image.count_nonzero() == image[:, *here].count_nonzero()


def test_a_soft_border_mixes_both_images_by_weight_and_is_cut_at_the_border():
    image, labels = torch.full((2, 12, 12, 12), 5.0), torch.zeros(12, 12, 12, dtype=torch.int32)
    snippet, source = cut(2.0), scene()[0]
    put_snippet(image, labels, snippet, (0, 0, 0), 1)
    assert (labels == 1).sum() == 27
    assert torch.equal(image[:, :3, :3, :3], source[:, 4:7, 4:7, 4:7])
    torch.testing.assert_close(image[:, 1, 1, 3], (5 + source[:, 5, 5, 7]) / 2)
    torch.testing.assert_close(image[:, 1, 1, 5:], torch.full((2, 7), 5.0))


def test_instances_beneath_the_soft_border_keep_their_voxels():
    image, labels = torch.full((2, 12, 12, 12), 5.0), torch.zeros(12, 12, 12, dtype=torch.int32)
    labels[3:, :3, :3] = 9
    put_snippet(image, labels, cut(2.0), (0, 0, 0), 1)
    assert (image[:, 3:, :3, :3] == 5).all()
    assert (labels == 9).sum() == 9 * 9


def test_the_hidden_share_is_that_of_the_worst_hit_instance():
    labels = torch.zeros(12, 12, 12, dtype=torch.int32)
    labels[0, 0, 0:4], labels[2, 2, 2:12] = 1, 2
    assert hidden_share(labels, cut(), (0, 0, 0)) == 0.75
    assert hidden_share(labels, cut(), (5, 5, 5)) == 0.0
