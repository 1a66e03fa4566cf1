"""nnU-Net's networks, so that its trained weights run here: PlainConvUNet and ResidualEncoderUNet.

    image -> encoder stage 0 -> ... -> stage S-1 (bottleneck) -> transposed convolution, skip, block -> ... -> logits

The arithmetic is that of `dynamic_network_architectures` 0.4 (Isensee et al., Nature Methods 2021; MICCAI 2024 for the
residual encoder, whose blocks are those of ResNet-D, He et al., CVPR 2019). The parts keep its names, so that its state
dict fits as soon as its duplicates are left out (`medseg.bundle.nnunet`). medseg's own `UNet` and MONAI's DynUNet cannot
stand in: their convolutions have no bias and each stage has two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medseg.networks.encoder import triple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medseg.networks.encoder import Triple

#: Norms that its plans name.
NORMS = {"instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}


class NnunetUNet(nn.Module):
    """A U-Net as nnU-Net v2 builds it.

    Args:
        in_channels: channels of the image.
        out_channels: classes including background, or regions.
        features: channels of each stage, finest first.
        strides: stride into each stage.
        kernel_sizes: kernel of each stage; the decoder takes those of the stage it reaches.
        convolutions: of each encoder stage; residual blocks of each where `residual`.
        decoder_convolutions: of each decoder stage, coarsest first.
        residual: ResNet-D blocks behind a stem in the encoder.
        norm: "instance" or "batch".
        eps: of the norms.
        affine: whether norms have a scale and an offset.
        bias: of the convolutions.
        slope: of the leaky ReLU; 0 is a ReLU.
        activation_first: convolution, activation, norm, instead of norm before activation.
        deep_supervision: how many coarser decoder stages also predict in training; each stage has its head either way.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[Triple],
        kernel_sizes: Sequence[Triple],
        convolutions: Sequence[int],
        decoder_convolutions: Sequence[int],
        *,
        residual: bool = False,
        norm: str = "instance",
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        slope: float = 0.01,
        activation_first: bool = False,
        deep_supervision: int = 0,
    ) -> None:
        super().__init__()
        stages = len(features)
        counts = (len(strides), len(kernel_sizes), len(convolutions), len(decoder_convolutions) + 1)
        if any(n != stages for n in counts):
            msg = (
                f"{stages} stages need as many strides, kernels and convolutions, and one less in the decoder: {counts}"
            )
            raise ValueError(msg)
        if not 0 <= deep_supervision <= stages - 2:
            msg = f"{stages} stages have at most {stages - 2} coarser predictions, got {deep_supervision}"
            raise ValueError(msg)

        def layer(n_in: int, n_out: int, kernel: Triple, stride: Triple = 1, **changed: bool) -> _Layer:
            of_norm = NORMS[norm](n_out, eps=eps, affine=affine)
            return _Layer(
                n_in, n_out, kernel, stride, of_norm, slope, **{"bias": bias, "first": activation_first, **changed}
            )

        self.strides = tuple(triple(s) for s in strides)
        self.deep_supervision = deep_supervision
        self.encoder = _Encoder(in_channels, features, self.strides, kernel_sizes, convolutions, layer, slope, residual)
        self.decoder = _Decoder(out_channels, features, self.strides, kernel_sizes, decoder_convolutions, layer, bias)

    @property
    def divisor(self) -> tuple[int, int, int]:
        """A window's size along each axis must be a multiple of this."""
        d, h, w = torch.tensor(self.strides).prod(0).tolist()
        return d, h, w

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """(B, C, D, H, W), each size a multiple of `divisor` -> logits (B, K, D, H, W).

        In training mode with deep supervision: a list of logits, each coarser one at its own resolution.
        """
        coarser = self.deep_supervision if self.training else 0
        outputs = self.decoder(self.encoder(x), 1 + coarser)
        return outputs if coarser else outputs[0]


class _Encoder(nn.Module):
    def __init__(
        self,
        in_channels: int,
        features: Sequence[int],
        strides: Sequence[Triple],
        kernels: Sequence[Triple],
        counts: Sequence[int],
        layer: Callable[..., _Layer],
        slope: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.stem = _Chain([layer(in_channels, features[0], kernels[0], first=False)]) if residual else nn.Identity()
        n_in = features[0] if residual else in_channels
        self.stages = nn.ModuleList()
        for n_out, stride, kernel, count in zip(features, strides, kernels, counts, strict=True):
            widths = [n_in, *[n_out] * (count - 1)]
            steps = [stride, *[1] * (count - 1)]
            if residual:
                pairs = zip(widths, steps, strict=True)
                stage: nn.Module = _Blocks([_Block(w, n_out, kernel, step, layer, slope) for w, step in pairs])
            else:
                pairs = zip(widths, steps, strict=True)
                stage = nn.Sequential(_Chain([layer(w, n_out, kernel, step) for w, step in pairs]))
            self.stages.append(stage)
            n_in = n_out

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out


class _Decoder(nn.Module):
    def __init__(
        self,
        out_channels: int,
        features: Sequence[int],
        strides: Sequence[tuple[int, int, int]],
        kernels: Sequence[Triple],
        counts: Sequence[int],
        layer: Callable[..., _Layer],
        bias: bool,
    ) -> None:
        super().__init__()
        self.transpconvs, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for at, count in zip(range(len(features) - 2, -1, -1), counts, strict=True):
            below, here = features[at + 1], features[at]
            self.transpconvs.append(nn.ConvTranspose3d(below, here, strides[at + 1], strides[at + 1], bias=bias))
            widths = [2 * here, *[here] * (count - 1)]
            self.stages.append(_Chain([layer(w, here, kernels[at]) for w in widths]))
            self.seg_layers.append(nn.Conv3d(here, out_channels, 1))

    def forward(self, levels: list[Tensor], outputs: int) -> list[Tensor]:
        """Logits of the `outputs` finest stages, finest first."""
        *skips, x = levels
        out = []
        parts = zip(self.transpconvs, self.stages, self.seg_layers, skips[::-1], strict=True)
        for n, (up, stage, head, skip) in enumerate(parts):
            x = stage(torch.cat((up(x), skip), 1))
            if n >= len(skips) - outputs:
                out.append(head(x))
        return out[::-1]


class _Layer(nn.Module):
    """Convolution, norm and leaky ReLU."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: Triple,
        stride: Triple,
        norm: nn.Module,
        slope: float,
        *,
        bias: bool,
        first: bool,
        active: bool = True,
    ) -> None:
        super().__init__()
        d, h, w = triple(kernel)
        padding = ((d - 1) // 2, (h - 1) // 2, (w - 1) // 2)
        self.conv = nn.Conv3d(n_in, n_out, (d, h, w), triple(stride), padding, bias=bias)
        self.norm = norm
        self.slope, self.first, self.active = slope, first, active

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if not self.active:
            return self.norm(x)
        return self.norm(_leaky(x, self.slope)) if self.first else _leaky(self.norm(x), self.slope)


class _Chain(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.convs = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class _Blocks(nn.Module):
    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class _Block(nn.Module):
    """Two convolutions, added to their input: averaged down where they stride, projected where channels change."""

    def __init__(
        self, n_in: int, n_out: int, kernel: Triple, stride: Triple, layer: Callable[..., _Layer], slope: float
    ) -> None:
        super().__init__()
        self.conv1 = layer(n_in, n_out, kernel, stride, first=False)
        self.conv2 = layer(n_out, n_out, kernel, first=False, active=False)
        steps: list[nn.Module] = [nn.AvgPool3d(triple(stride), triple(stride))] if set(triple(stride)) != {1} else []
        if n_in != n_out:
            steps.append(layer(n_in, n_out, 1, bias=False, first=False, active=False))
        self.skip = nn.Sequential(*steps)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return _leaky(self.conv2(self.conv1(x)) + self.skip(x), self.slope)


def _leaky(x: Tensor, slope: float) -> Tensor:
    return nn.functional.leaky_relu(x, slope, inplace=True)
