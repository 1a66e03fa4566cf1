"""`network_def` from plans; that its logits are nnU-Net's is tested against nnU-Net (test_trained.py)."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from medseg.bundle.nnunet.architecture import network_def
from medseg.errors import BundleError
from medseg.networks import NnunetUNet
from tests.bundle.nnunet.made import CONFIGURATION, network

ROOT = Path("model")


def changed(**arguments):
    configuration = copy.deepcopy(CONFIGURATION)
    configuration["architecture"]["arch_kwargs"] |= arguments
    return configuration


def built(configuration, weights=()):
    defined = network_def(configuration, 1, 3, weights, ROOT)
    assert defined.pop("_target_") == "medseg.networks.NnunetUNet"
    return NnunetUNet(**defined)


def test_the_network_of_the_plans():
    ours, want = built(CONFIGURATION), network()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in want.state_dict().items()}
    assert ours.divisor == (2, 4, 4)
    assert ours.deep_supervision == 1


def test_a_number_stands_for_every_stage():
    every = changed(kernel_sizes=3, n_conv_per_stage=2, n_conv_per_stage_decoder=1, strides=[1, 2, 2])
    defined = network_def(every, 1, 3, (), ROOT)
    assert defined["kernel_sizes"] == [[3, 3, 3]] * 3
    assert defined["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
    assert (defined["convolutions"], defined["decoder_convolutions"]) == ([2, 2, 2], [1, 1])


def test_a_trainer_that_took_batch_norm_shows_in_its_weights():
    assert network_def(CONFIGURATION, 1, 3, ["encoder.stages.0.0.convs.0.norm.running_mean"], ROOT)["norm"] == "batch"
    assert network_def(CONFIGURATION, 1, 3, ["encoder.stages.0.0.convs.0.norm.weight"], ROOT)["norm"] == "instance"


def test_old_plans_say_the_same_in_other_words():
    old = {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 2,
        "unet_max_num_features": 5,
        "n_conv_per_stage_encoder": [2, 2, 2],
        "n_conv_per_stage_decoder": [2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    }
    defined = network_def(old, 1, 3, (), ROOT)
    assert defined["features"] == [2, 4, 5]
    assert defined == network_def(changed(features_per_stage=[2, 4, 5]), 1, 3, (), ROOT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm_op": "torch.nn.GroupNorm"}, "the norm GroupNorm"),
        ({"norm_op": None}, "the norm None"),
        ({"nonlin": "torch.nn.GELU"}, "the activation GELU"),
        ({"squeeze_excitation": True}, "squeeze_excitation of the network"),
        ({"block": "BottleneckD", "bottleneck_channels": 4}, "block, bottleneck_channels of the network"),
    ],
)
def test_what_medseg_does_not_have(arguments, message):
    with pytest.raises(BundleError, match=message) as caught:
        network_def(changed(**arguments), 1, 3, (), ROOT)
    assert caught.value.code == "MS-B155"


def test_a_network_of_another_kind():
    configuration = {"architecture": {"network_class_name": "x.y.PrimusM", "arch_kwargs": {}}}
    with pytest.raises(BundleError, match="the network PrimusM") as caught:
        network_def(configuration, 1, 3, (), ROOT)
    assert caught.value.code == "MS-B155"
