"""Points of boxes: where they are, what is true there, and that asking again helps."""

from __future__ import annotations

import torch

from medseg.networks.point_rend import MOST_CELLS, at_places, at_points, labels_at, refine, uncertain_points


def test_interpolation_is_exact_at_centres_and_on_a_ramp():
    values = torch.randn(1, 2, 4, 5, 6)
    centres = torch.stack(torch.meshgrid(*[(torch.arange(n) + 0.5) / n for n in (4, 5, 6)], indexing="ij"), -1)
    found = at_points(values, centres.reshape(1, -1, 3))
    torch.testing.assert_close(found[0].T.reshape(2, 4, 5, 6), values[0])


def test_a_place_of_a_box_is_a_place_of_the_image_at_any_stride():
    """Features that are their own coordinates in voxels of the image."""
    shape, stride = (16, 24, 32), 4
    cells = [(torch.arange(n // stride) + 0.5) * stride for n in shape]
    features = torch.stack(torch.meshgrid(*cells, indexing="ij"))[None].repeat(2, 1, 1, 1, 1)
    features[1] += 100
    boxes = torch.tensor([[4.0, 6, 8, 12, 18, 24], [3, 3, 3, 9, 9, 9]])
    points = torch.tensor([[[0.5, 0.5, 0.5], [0.25, 0.5, 1.0]]]).repeat(2, 1, 1)
    found = at_places(features, torch.tensor([0, 1]), boxes, points, shape)
    expected = (
        boxes[:, None, :3] + points * (boxes[:, 3:] - boxes[:, :3])[:, None] + torch.tensor([0, 100])[:, None, None]
    )
    torch.testing.assert_close(found, expected.float())


def test_what_is_true_at_a_point():
    labels = torch.zeros(8, 8, 8, dtype=torch.int16)
    labels[2:6, 2:6, 2:6] = 3
    boxes = torch.tensor([[2.0, 2, 2, 6, 6, 6], [-4, 2, 2, 4, 6, 6]])
    points = torch.tensor([[[0.01, 0.5, 0.99], [0.5, 0.5, 0.5]], [[0.1, 0.5, 0.5], [0.8, 0.5, 0.5]]])
    assert labels_at(labels, torch.tensor([3, 3]), boxes, points).tolist() == [[1, 1], [0, 1]]
    assert not labels_at(labels, torch.tensor([4, 4]), boxes, points).any()


def test_most_points_lie_where_the_mask_is_unsure():
    torch.manual_seed(0)
    logits = ((torch.arange(28) + 0.5) / 28 * 40 - 20)[None, :, None, None].expand(1, 28, 28, 28)
    points = uncertain_points(logits, 200)
    assert points.shape == (1, 200, 3)
    assert ((points[0, :, 0] - 0.5).abs() < 0.2).float().mean() > 0.6


def test_asking_an_oracle_gives_the_object_as_fine_as_its_voxels():
    """A ball in a box of 96 voxels, of which the coarse mask is a blurred and smaller one; the oracle knows the truth."""
    box = torch.tensor([0.0, 0, 0, 96, 96, 96])

    def oracle(points, coarse):
        return torch.where((points - 0.5).norm(dim=-1) < 0.4, 8.0, -8.0)

    def ball(m):
        c = torch.stack(torch.meshgrid(*[(torch.arange(m) + 0.5) / m] * 3, indexing="ij"), -1) - 0.5
        return c.norm(dim=-1)

    coarse = (0.37 - ball(28)) * 20  # it thinks the ball smaller
    fine = refine(coarse, box, oracle)
    assert fine.shape == (112, 112, 112)
    assert max(fine.shape) <= MOST_CELLS
    truth = ball(112) < 0.4
    blurred = torch.nn.functional.interpolate(coarse[None, None], size=(112,) * 3, mode="trilinear")[0, 0] > 0
    wrong, before = (fine > 0).ne(truth).sum(), blurred.ne(truth).sum()
    assert wrong < 0.2 * before
    small = refine(coarse, torch.tensor([0.0, 0, 0, 20, 20, 20]), oracle)
    assert small.shape == (28, 28, 28)
    long = refine(coarse, torch.tensor([0.0, 0, 0, 60, 5, 5]), oracle)
    assert long.shape == (112, 28, 28)
