"""Oracle: MONAI's DynUNet, which is nnU-Net's plain U-Net without biases. nnU-Net itself: tests/bundle/nnunet."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import DynUNet
from torch import nn

from medseg.networks import NnunetUNet

FEATURES, STRIDES, KERNELS = [4, 6, 8], [[1, 1, 1], [1, 2, 2], [2, 2, 2]], [[1, 3, 3], [3, 3, 3], [3, 3, 3]]


def make(**changed) -> NnunetUNet:
    arguments = {"kernel_sizes": KERNELS, "convolutions": [2, 2, 2], "decoder_convolutions": [2, 2], **changed}
    torch.manual_seed(0)
    return NnunetUNet(2, 3, FEATURES, STRIDES, **arguments).eval()


@torch.no_grad()
def test_it_equals_monais_dynunet():
    kernels = [3, 3, 3]  # its decoder takes the kernels of the stage below, ours those of the stage that it reaches
    ours = make(bias=False, kernel_sizes=kernels)
    theirs = DynUNet(
        3, 2, 3, kernels, STRIDES, STRIDES[1:], filters=FEATURES, norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"negative_slope": 0.01}),
    ).eval()  # fmt: skip
    for weight in ours.parameters():
        nn.init.normal_(weight, 0.1, 0.5)
    pairs = []
    for n, block in enumerate([theirs.input_block, *theirs.downsamples, theirs.bottleneck]):
        pairs += [(layer, block, m) for m, layer in enumerate(ours.encoder.stages[n][0].convs)]
    for stage, up, block in zip(ours.decoder.stages, ours.decoder.transpconvs, theirs.upsamples, strict=True):
        block.transp_conv.conv.weight.copy_(up.weight)
        pairs += [(layer, block.conv_block, m) for m, layer in enumerate(stage.convs)]
    for layer, block, m in pairs:
        conv, norm = (block.conv1, block.norm1) if m == 0 else (block.conv2, block.norm2)
        conv.conv.weight.copy_(layer.conv.weight)
        norm.weight.copy_(layer.norm.weight)
        norm.bias.copy_(layer.norm.bias)
    theirs.output_block.conv.conv.load_state_dict(ours.decoder.seg_layers[-1].state_dict())
    image = torch.randn(2, 2, 4, 8, 12)
    torch.testing.assert_close(ours(image), theirs(image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("residual", [False, True])
@torch.no_grad()
def test_in_training_coarser_stages_predict_too(residual):
    network = make(residual=residual, deep_supervision=1)
    image = torch.randn(1, 2, 4, 8, 8)
    assert network(image).shape == (1, 3, 4, 8, 8)
    outputs = network.train()(image)
    assert [tuple(out.shape[2:]) for out in outputs] == [(4, 8, 8), (4, 4, 4)]
    torch.testing.assert_close(outputs[0], network.eval()(image))  # instance norm keeps no statistics


def test_every_weight_learns():
    network = make(residual=True, deep_supervision=1).train()
    sum(output.square().mean() for output in network(torch.randn(1, 2, 4, 8, 8))).backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert without == []


def test_a_residual_block_adds_its_averaged_and_projected_input():
    block = make(residual=True).encoder.stages[1].blocks[0]
    nn.init.zeros_(block.conv2.norm.weight)
    nn.init.zeros_(block.conv2.norm.bias)
    x = torch.randn(1, 4, 4, 8, 8)
    averaged = nn.functional.avg_pool3d(x, (1, 2, 2))
    want = nn.functional.leaky_relu(block.skip[1].norm(block.skip[1].conv(averaged)), 0.01)
    torch.testing.assert_close(block(x), want)


def test_norm_and_activation_can_trade_places():
    layer = make(activation_first=True).encoder.stages[0][0].convs[0]
    x = torch.randn(1, 2, 4, 6, 6)
    torch.testing.assert_close(layer(x), layer.norm(nn.functional.leaky_relu(layer.conv(x), 0.01)))


def test_divisor():
    assert make().divisor == (2, 4, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"convolutions": [2, 2]}, "3 stages need as many"),
        ({"decoder_convolutions": [2, 2, 2]}, "one less in the decoder"),
        ({"deep_supervision": 2}, "at most 1 coarser predictions, got 2"),
    ],
)
def test_what_does_not_fit_together(changed, message):
    with pytest.raises(ValueError, match=message):
        make(**changed)
