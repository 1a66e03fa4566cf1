"""Finer masks where a coarse one is unsure (PointRend, Kirillov et al., CVPR 2020), in 3D.

A mask of 28^3 cells is smooth: the edge of an object larger than that is rounded off. Here single points of a box are
asked again, with the features of the image at that very place and the coarse answer. In training these are random
points, most of them where the coarse mask is near 1/2. For a result the mask is doubled, its least certain cells are
asked, and so on until a cell is no larger than a voxel or the mask has `MOST_CELLS` along an axis. A mask that is fine
enough already is asked once as it is.

Points are in the unit cube of their box, axis order as the array's; the centre of cell k of m is at (k + 1/2) / m.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate

MOST_CELLS = 112
# In training: candidates for each point that is asked, and the share of points taken for being uncertain.
OVERSAMPLED = 3
UNCERTAIN_SHARE = 0.75
# For a result: at most this share of a mask's cells is asked at each resolution.
ASKED_SHARE = 0.15


class PointHead(nn.Module):
    """A small perceptron over the features of single points.

    Args:
        channels: of the features at a point, the coarse logit apart.
        width: channels of the two hidden layers; each is given the coarse logit again.
        points: how many are asked for each box in training.
    """

    def __init__(self, channels: int, width: int = 48, points: int = 256) -> None:
        super().__init__()
        self.points = points
        self.first = nn.Linear(channels + 1, width)
        self.second = nn.Linear(width + 1, width)
        self.last = nn.Linear(width + 1, 1)
        self.activation = nn.LeakyReLU(0.01)

    def forward(self, features: Tensor, coarse: Tensor) -> Tensor:
        """Features (R, N, channels) and coarse logits (R, N) -> logits (R, N)."""
        logit = coarse[..., None].to(features.dtype)
        x = self.activation(self.first(torch.cat([features, logit], -1)))
        x = self.activation(self.second(torch.cat([x, logit.to(x.dtype)], -1)))
        return self.last(torch.cat([x, logit.to(x.dtype)], -1))[..., 0].float()


@torch.no_grad()
def uncertain_points(logits: Tensor, count: int) -> Tensor:
    """Random points, most of them where a mask is unsure: (R, d, h, w) logits -> (R, count, 3) in [0, 1)."""
    candidates = torch.rand(len(logits), OVERSAMPLED * count, 3, device=logits.device)
    doubt = -at_points(logits[:, None], candidates)[..., 0].abs()
    unsure = int(count * UNCERTAIN_SHARE)
    best = doubt.topk(unsure, dim=1).indices
    chosen = candidates.gather(1, best[..., None].expand(-1, -1, 3))
    return torch.cat([chosen, torch.rand(len(logits), count - unsure, 3, device=logits.device)], 1)


def at_points(values: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation of (R, F, d, h, w) at (R, N, 3) points of the unit cube -> (R, N, F)."""
    where = (points.flip(-1) * 2 - 1)[:, :, None, None]
    found = grid_sample(values.float(), where.float(), padding_mode="border", align_corners=False)
    return found[:, :, :, 0, 0].transpose(1, 2)


def at_places(features: Tensor, images: Tensor, boxes: Tensor, points: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Features of images at points of boxes.

    Args:
        features: (B, F, d, h, w) of whole images, at any stride.
        images: (R,) which image each box is of.
        boxes: (R, 6) voxels of the image.
        points: (R, N, 3) in the unit cube of each box.
        shape: (D, H, W) of the images.

    Returns:
        (R, N, F) float32.
    """
    low, size = boxes[:, None, :3], (boxes[:, 3:] - boxes[:, :3])[:, None]
    places = (low + points * size) / torch.tensor(shape, dtype=boxes.dtype, device=boxes.device)
    out = features.new_zeros((*points.shape[:2], features.shape[1]), dtype=torch.float32)
    for image in images.unique().tolist():
        here = (images == image).nonzero()[:, 0]
        flat = places[here].reshape(1, -1, 3)
        found = at_points(features[image : image + 1], flat)[0]
        out = out.index_copy(0, here, found.reshape(len(here), points.shape[1], -1))
    return out


def labels_at(labels: Tensor, ids: Tensor, boxes: Tensor, points: Tensor) -> Tensor:
    """Whether points of boxes lie in their instances: map (D, H, W), (R,) ids, (R, 6), (R, N, 3) -> (R, N) 0 or 1."""
    places = boxes[:, None, :3] + points * (boxes[:, 3:] - boxes[:, :3])[:, None]
    voxels = places.floor().long()
    shape = torch.tensor(labels.shape, device=labels.device)
    inside = ((voxels >= 0) & (voxels < shape)).all(-1)
    i, j, k = voxels.clamp(min=0).minimum(shape - 1).unbind(-1)
    return ((labels[i, j, k].long() == ids[:, None]) & inside).float()


@torch.no_grad()
def refine(logits: Tensor, box: Tensor, ask) -> Tensor:
    """One mask (d, h, w) of a box (6,), asked again where it is unsure.

    Args:
        logits: of the coarse mask.
        box: voxels of the image.
        ask: points (N, 3) and the logits there (N,) -> better logits (N,).

    Returns:
        Logits of the same mask, or of twice or four times as many cells along the axes along which the box needs them.
    """
    size = (box[3:] - box[:3]).tolist()
    logits = _asked(logits, ask)
    while True:
        finer = [2 * m if n > m and 2 * m <= MOST_CELLS else m for n, m in zip(size, logits.shape, strict=True)]
        if finer == list(logits.shape):
            return logits
        logits = interpolate(logits[None, None], size=finer, mode="trilinear", align_corners=False)[0, 0]
        logits = _asked(logits, ask)


def _asked(logits: Tensor, ask) -> Tensor:
    flat = logits.flatten()
    which = flat.abs().topk(max(1, int(ASKED_SHARE * flat.numel())), largest=False).indices
    cell = torch.stack(torch.unravel_index(which, logits.shape), -1)
    points = (cell + 0.5) / torch.tensor(logits.shape, device=logits.device)
    better = flat.clone()
    better[which] = ask(points, flat[which]).to(flat.dtype)
    return better.view_as(logits)
