"""What fits of another network's weights is taken, and what does not is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.errors import BundleError
from medseg.networks import Encoder, MaskRCNN, UNet
from medseg.training.transfer import COLUMNS, fit, load_fitting

ANCHORS = [[[4.0, 4.0, 4.0]], [[8.0, 8.0, 8.0]]]
HERE = Path("model.safetensors")


def unet(classes: int = 3, features: tuple[int, ...] = (4, 8, 8), channels: int = 1) -> UNet:
    return UNet(channels, classes, features)


def same(a: nn.Module, b: nn.Module, names) -> list[bool]:
    first, second = a.state_dict(), b.state_dict()
    return [torch.equal(first[name], second[name]) for name in names]


def test_the_same_network_fits_whole():
    one, other = unet(), unet()
    found = load_fitting(other, one.state_dict(), HERE)
    assert found.fits == tuple(one.state_dict())
    assert not found.other_shape
    assert found.missing == found.extra == ()
    assert all(same(one, other, found.fits))
    assert found.words() == f"{len(found.fits)} tensors taken"


def test_other_classes_leave_the_head_out():
    one, other = unet(3), unet(5)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    found = load_fitting(other, one.state_dict(), HERE)
    heads = {name for name in before if name.startswith(("head", "supervision"))}
    assert set(found.other_shape) == heads
    assert found.other_shape["head.conv.conv.weight"] == ((3, 4, 1, 1, 1), (5, 4, 1, 1, 1))
    assert all(same(one, other, found.fits))
    assert all(torch.equal(other.state_dict()[name], before[name]) for name in heads), "drawn anew, not touched"
    assert "of another shape (head.conv.conv" in found.words()


def test_the_encoder_of_a_unet_feeds_a_mask_rcnn():
    one = unet()
    other = MaskRCNN(1, 2, ANCHORS, (4, 8, 8), channels=8, fine_channels=8, width=8, mask_width=8, mask_size=4)
    found = load_fitting(other, one.state_dict(), HERE)
    encoder = {name for name in other.state_dict() if name.startswith("encoder.")}
    assert set(found.fits) == encoder
    assert all(same(one, other, encoder))
    assert {name.split(".")[0] for name in found.missing} >= {"fpn", "rpn", "box_head", "mask_head"}
    assert {name.split(".")[0] for name in found.extra} == {"stages", "head"}
    x = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        ours, theirs = other.eval().encoder(x), one.eval().encoder(x)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_more_channels_leave_the_first_convolution_out():
    found = fit(unet(channels=2), unet().state_dict())
    assert list(found.other_shape) == ["encoder.levels.0.conv1.conv.weight"]


def test_a_leading_name_is_exchanged_for_all():
    one, other = unet(), unet()
    found = load_fitting(other, {f"module.{name}": value for name, value in one.state_dict().items()}, HERE)
    assert found.renamed == ("module.", "")
    assert all(same(one, other, one.state_dict()))
    assert not found.extra

    encoder, third = Encoder(1, (4, 8, 8)), unet()
    found = load_fitting(third, encoder.state_dict(), HERE)
    assert found.renamed == ("", "encoder.")
    assert found.fits == tuple(f"encoder.{name}" for name in encoder.state_dict())
    assert all(torch.equal(third.state_dict()[f"encoder.{name}"], v) for name, v in encoder.state_dict().items())


def test_half_precision_becomes_the_networks_own():
    one, other = unet(), unet()
    load_fitting(other, {name: value.half() for name, value in one.state_dict().items()}, HERE)
    assert {value.dtype for value in other.state_dict().values()} == {torch.float32}


def test_a_table_counts_by_part():
    found = fit(unet(5), unet(3).state_dict())
    rows = {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in found.rows()}
    assert rows["encoder.levels"] == {
        "part": "encoder.levels",
        "fits": str(sum(name.startswith("encoder.levels") for name in found.fits)),
        "other shape": "",
        "missing": "",
        "left over": "",
    }
    assert rows["head.conv"]["other shape"] == "2"
    assert found.to_json()["missing"] == ()


def test_where_nothing_fits_nothing_is_begun():
    network = unet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BundleError, match=r"MS-T170[\s\S]*0 tensors taken"):
        load_fitting(network, nn.Conv3d(3, 5, 7).state_dict(), HERE)
    with pytest.raises(BundleError, match="MS-T170"):
        load_fitting(network, {}, HERE)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_statistics_alone_are_no_fit():
    """Running statistics without any weight say nothing of what was learnt."""

    class Named(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv = nn.Conv3d(1, width, 1)
            self.norm = nn.BatchNorm3d(4, affine=False)

    with pytest.raises(BundleError, match="MS-T170"):
        load_fitting(Named(4), Named(5).state_dict(), HERE)


def test_a_weight_that_is_not_finite_is_refused():
    state = unet().state_dict()
    state["encoder.levels.0.conv1.conv.weight"] = state["encoder.levels.0.conv1.conv.weight"] * float("nan")
    with pytest.raises(BundleError, match="MS-B114"):
        load_fitting(unet(), state, HERE)
