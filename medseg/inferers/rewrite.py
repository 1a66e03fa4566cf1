"""3D convolutions with few output channels, computed several output voxels at a time.

A CPU computes 16 output channels of a convolution at once. A layer that ends in 3 classes leaves 13 of these lanes
idle, and it is at full resolution, where layers take longest: in MONAI's UNet (16..256 channels, 3 classes) the last
two convolutions took 38 % of the time. Here the lanes are filled with neighbouring voxels: one kernel for each voxel
of a block, which become the output channels of one convolution over blocks, whose channels are put back as voxels.
For a convolution the kernels are the same one, shifted; a transposed convolution with stride s has a kernel for each
of the s voxels between two input voxels already (sub-pixel convolution, Shi et al. 2016).

The same products are summed, only in another order. Measured on a Zen 4 core, bf16, CPU ms before and after: 3 -> 3
channels at 96^3, kernel 3: 18.4, 10.0; 32 -> 3 channels from 48^3 to 96^3, kernel 3: 24.9, 15.1. With more than 4
channels, with small images and in 2D there is little to gain or something to lose. Blocks extend along the first two
axes, so that rows are moved whole.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import conv3d, conv_transpose3d, pad

if TYPE_CHECKING:
    from collections.abc import Sequence

# Output channels that a CPU computes at once: the fp32 sums in a 512-bit register.
LANES = 16

# Voxels along each of the first two axes that a convolution computes at once.
BLOCK = 2

# Voxels of an output from which the gain exceeds the cost of moving voxels.
MIN_VOXELS = 32**3


def fill_lanes(network: nn.Module) -> None:
    """Let the 3D convolutions of a network that fit compute several voxels at a time; leave all others as they are.

    Only the class of the modules that fit changes, to one derived from it: weights, hooks and names remain.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            in_blocks = IN_BLOCKS.get(type(module))  # a derived type may compute something else
            if in_blocks is not None and _fits(module):
                module.__class__ = in_blocks


class ConvInBlocks(nn.Conv3d):
    """A convolution of stride 1, two voxels at a time along the axes of even size."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the name in torch
        """(N, C, *space) -> (N, K, *space); see `nn.Conv3d`."""
        kernel = self.kernel_size
        shape = [n + 2 * int(p) - k + 1 for n, p, k in zip(input.shape[2:], self.padding, kernel, strict=False)]
        block = [BLOCK if k > 1 and n % BLOCK == 0 else 1 for n, k in zip(shape[:2], kernel, strict=False)]
        if input.ndim != 5 or prod(block) == 1 or prod(shape) < MIN_VOXELS:
            return super().forward(input)
        rows, columns = block
        weight = self.weight.new_zeros(
            (rows, columns, *self.weight.shape[:2], kernel[0] + rows - 1, kernel[1] + columns - 1, kernel[2])
        )
        for row in range(rows):
            for column in range(columns):
                weight[row, column, :, :, row : row + kernel[0], column : column + kernel[1]] = self.weight
        bias = None if self.bias is None else self.bias.repeat(rows * columns)
        blocks = conv3d(input, weight.flatten(0, 2), bias, stride=(rows, columns, 1), padding=self.padding)
        return _as_voxels(blocks, shape, block, (0, 0))


class ConvTransposeInBlocks(nn.ConvTranspose3d):
    """A transposed convolution whose channels are the voxels between two input voxels of the first two axes.

    Output voxel o along an axis with stride s is the sum over t of input[j - t] * kernel[r + s t], where
    o + padding = s j + r: for each r = 0 .. s - 1 a transposed convolution of stride 1 with every s-th kernel element.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002 -- as in torch
        """(N, C, *space) -> (N, K, *space); see `nn.ConvTranspose3d`."""
        kernel, stride, cut, extra = self.kernel_size, self.stride, self.padding, self.output_padding
        shape = [
            (n - 1) * s - 2 * int(p) + k + e
            for n, s, p, k, e in zip(input.shape[2:], stride, cut, kernel, extra, strict=False)
        ]
        if input.ndim != 5 or output_size is not None or prod(shape) < MIN_VOXELS:
            return super().forward(input, output_size)
        bias = None if self.bias is None else self.bias.repeat(stride[0] * stride[1])
        blocks = conv_transpose3d(
            input, _every_nth(self.weight, stride), bias, (1, 1, stride[2]), (0, 0, int(cut[2])), (0, 0, extra[2])
        )
        return _as_voxels(blocks, shape, stride[:2], [int(p) for p in cut[:2]])


IN_BLOCKS: dict[type, type] = {nn.Conv3d: ConvInBlocks, nn.ConvTranspose3d: ConvTransposeInBlocks}


def _fits(module: nn.Conv3d | nn.ConvTranspose3d) -> bool:
    """True where blocks give the module's own result and its channels leave lanes for them."""
    if module.groups != 1 or set(module.dilation) != {1} or module.padding_mode != "zeros":
        return False
    if not module.transposed:
        stride_one = set(module.stride) == {1} and not isinstance(module.padding, str)
        return stride_one and max(module.kernel_size[:2]) > 1 and module.out_channels * BLOCK**2 <= LANES
    # Output padding may ask for voxels behind the last that a kernel reaches.
    reached = all(
        k - int(p) + e <= -(-k // s) * s
        for k, p, e, s in zip(
            module.kernel_size[:2], module.padding[:2], module.output_padding[:2], module.stride[:2], strict=True
        )
    )
    # Of stride 1 along all axes, as blocks would be where stride[2] is 1, they take 3 times as long.
    return reached and module.stride[2] > 1 and 1 < prod(module.stride[:2]) <= LANES // module.out_channels


def _every_nth(weight: Tensor, stride: Sequence[int]) -> Tensor:
    """Kernels (C, K, *kernel) of a stride as (C, s x s x K, ceil(kernel / s), ceil(kernel / s), kernel[2])."""
    taps = [-(-k // s) for k, s in zip(weight.shape[2:4], stride, strict=False)]
    behind = [t * s - k for t, s, k in zip(taps, stride, weight.shape[2:4], strict=False)]
    weight = pad(weight, (0, 0, 0, behind[1], 0, behind[0]))
    weight = weight.unflatten(3, (taps[1], stride[1])).unflatten(2, (taps[0], stride[0]))  # C K t0 s0 t1 s1 k2
    return weight.permute(0, 3, 5, 1, 2, 4, 6).flatten(1, 3)


def _as_voxels(blocks: Tensor, shape: Sequence[int], block: Sequence[int], cut: Sequence[int]) -> Tensor:
    """Channels of blocks put back as voxels.

    Args:
        blocks: (N, rows x columns x K, *space of blocks).
        shape: of the result, 3 axes.
        block: rows and columns, voxels of a block along the first two axes.
        cut: voxels to leave out in front of these axes.

    Returns:
        (N, K, *shape).
    """
    rows, columns = block
    blocks = blocks.unflatten(1, (rows, columns, -1))
    voxels = blocks.new_empty((blocks.shape[0], blocks.shape[3], *shape))
    for row in range(rows):
        to_i, from_i = _places(row, rows, cut[0], shape[0])
        for column in range(columns):
            to_j, from_j = _places(column, columns, cut[1], shape[1])
            voxels[:, :, to_i, to_j] = blocks[:, row, column, :, from_i, from_j]
    return voxels


def _places(offset: int, block: int, cut: int, size: int) -> tuple[slice, slice]:
    """Along one axis: where in the result the voxels at `offset` in their blocks lie, and which blocks these are."""
    first = (offset - cut) % block
    begin = (first + cut - offset) // block
    return slice(first, None, block), slice(begin, begin + len(range(first, size, block)))
