"""The network as a whole: shapes, what it learns from, weights of a U-Net, other encoders, and that it learns."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures

from medseg.boxes.overlap import iou_matrix
from medseg.inferers import InstanceInferer
from medseg.inferers.instances.of_network import instances_of
from medseg.inferers.instances.paste import label_map
from medseg.losses import DetectionLoss
from medseg.networks import MaskRCNN, MonaiEncoder, UNet, mask_rcnn
from medseg.networks.mask_rcnn import cumulative
from medseg.networks.truth import STUFF, Truth, truth_of

ANCHORS = [[[6, 6, 6]], [[12, 12, 12]]]


def network(**options) -> MaskRCNN:
    torch.manual_seed(0)
    return MaskRCNN(1, 2, ANCHORS, (4, 8, 16), **({"channels": 8, "fine_channels": 4, "width": 16} | options))


def truth(kinds=(0, 0, 0)) -> Truth:
    labels = torch.zeros(24, 24, 24, dtype=torch.int16)
    labels[3:9, 4:10, 5:11] = 1
    labels[12:22, 11:21, 10:20] = 2
    return truth_of(labels, torch.tensor([-1, 0, 1]), torch.tensor(kinds))


def images(*of: Truth) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.stack([(t.labels > 0).float()[None] for t in of]) + 0.1 * torch.randn(len(of), 1, 24, 24, 24)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"refined": True},
        {"mask_per_class": True},
        {"first_level": 0, "mask_size": (7, 14, 14), "mask_scale": (1, 2, 2)},
    ],
)
def test_every_weight_learns(options):
    net = network(**options)
    nothing = truth_of(torch.zeros(24, 24, 24, dtype=torch.int16), torch.tensor([-1]), torch.tensor([0]))
    sampled = net(images(truth(), nothing), [truth(), nothing])
    loss = DetectionLoss()(sampled)
    loss.backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    expected = {"mask_size": (7, 28, 28)} if "mask_size" in options else {"mask_size": (28, 28, 28)}
    assert sampled.mask_logits.shape[1:] == expected["mask_size"]
    assert len(sampled.true_classes) >= int((sampled.true_classes > 0).sum()) > 0
    assert set(sampled.true_classes.tolist()) == {0, 1, 2}


def test_what_is_sampled_is_what_is_true():
    net = network()
    sampled = net(images(truth()), [truth()])
    boxes = {tuple(b) for b in truth().boxes.tolist()}
    assert {tuple(b) for b in sampled.true_boxes.tolist()} == boxes
    assert {tuple(b) for b in sampled.true_anchor_boxes.tolist()} <= boxes
    whole = (sampled.boxes.shape[0], *sampled.mask_logits.shape[1:])
    assert sampled.true_masks.shape == whole
    assert ((sampled.true_masks >= 0) & (sampled.true_masks <= 1)).all()


def test_ignored_regions_and_boxes_without_masks_are_passed_on():
    sampled = network()(images(truth()), [truth((0, 1, 2))])
    assert not sampled.has_mask.any()
    assert set(sampled.true_classes.tolist()) <= {0, 1}
    assert (sampled.true_semantic == -1).sum() == 6**3 + 10**3


@pytest.mark.parametrize("refined", [False, True])
@torch.no_grad()
def test_any_size_goes_in_and_boxes_stay_inside(refined, monkeypatch):
    net = network(refined=refined, min_score=0.0).eval()
    monkeypatch.setattr(mask_rcnn, "proposals", partial(mask_rcnn.proposals, before=20))
    for shape in ((24, 24, 24), (21, 18, 30)):
        (found,) = net(torch.randn(1, 1, *shape))
        assert len(found.boxes) == len(found.scores) == len(found.classes) == len(found.masks) > 0
        assert (found.boxes[:, :3] >= 0).all()
        assert (found.boxes[:, 3:] <= torch.tensor(shape)).all()
        assert (found.scores.diff() <= 0).all()
        assert all(((m >= 0) & (m <= 1)).all() for m in found.masks)


@torch.no_grad()
def test_a_validation_looks_at_the_best_alone(monkeypatch):
    net = network(min_score=0.0).eval()
    monkeypatch.setattr(mask_rcnn, "proposals", partial(mask_rcnn.proposals, before=20))
    one, x = truth(), images(truth())
    (everything,) = net(x)
    assert len(everything.boxes) > 12
    for most, per_object, wanted in ((5, 1, 5), (5, 6, 12), (100, 4, len(everything.boxes))):
        monkeypatch.setattr(mask_rcnn, "VALIDATED", most)
        monkeypatch.setattr(mask_rcnn, "VALIDATED_PER_OBJECT", per_object)
        (best,) = net(x, [one])
        for name in ("boxes", "scores", "classes", "masks"):
            torch.testing.assert_close(getattr(best, name), getattr(everything, name)[:wanted])


@torch.no_grad()
def test_more_objects_than_the_heads_are_trained_on_are_found():
    """512 cubes, each with a perfect anchor: all are proposed when the network is asked for a result."""
    from medseg.networks.rpn import Proposed, proposals

    c = torch.stack(torch.meshgrid(*[torch.arange(8) * 4.0 + 2] * 3, indexing="ij"), -1).reshape(-1, 3)
    proposed = Proposed(torch.cat([c - 1.5, c + 1.5], 1), (512,), torch.zeros(1, 512), torch.zeros(1, 512, 6))
    assert len(proposals(proposed, (32, 32, 32))[0][0]) == 512
    assert len(proposals(proposed, (32, 32, 32), after=100)[0][0]) == 100


def test_misuse_says_what_is_wanted():
    with pytest.raises(ValueError, match="what is true"):
        network()(torch.zeros(1, 1, 24, 24, 24))
    with pytest.raises(ValueError, match="multiples of"):
        network()(torch.zeros(1, 1, 22, 24, 24), [truth()])
    with pytest.raises(ValueError, match="anchors for 4 levels"):
        MaskRCNN(1, 1, [[[4, 4, 4]]] * 4, (4, 8, 16))
    with pytest.raises(ValueError, match="equally many"):
        MaskRCNN(1, 1, [[[4, 4, 4]], [[4, 4, 4]] * 2], (4, 8, 16))


@torch.no_grad()
def test_the_encoder_takes_a_u_nets_weights():
    unet = UNet(1, 3, (4, 8, 16))
    net = network()
    net.encoder.load_state_dict(unet.encoder.state_dict())
    x = torch.randn(1, 1, 16, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(net.encoder(x), unet.encoder(x), strict=True))


def test_an_encoder_of_monai_takes_its_place():
    encoder = MonaiEncoder(ResNetFeatures("resnet18", pretrained=False, spatial_dims=3, in_channels=1))
    assert cumulative(encoder.strides)[:3] == [(2, 2, 2), (4, 4, 4), (8, 8, 8)]
    net = MaskRCNN(1, 2, ANCHORS, encoder=encoder, channels=8, fine_channels=4)
    sampled = net(images(truth(), truth())[..., :24], [truth(), truth()]) if net.divisor == (8, 8, 8) else None
    if sampled is None:  # it divides by 32
        labels = torch.zeros(32, 32, 32, dtype=torch.int16)
        labels[4:14, 4:14, 4:14] = 1
        one = truth_of(labels, torch.tensor([-1, 0]), torch.tensor([0, 0]))
        sampled = net(torch.randn(2, 1, 32, 32, 32), [one, one])
    assert sampled.semantic.shape[2:] == sampled.true_semantic.shape[1:]
    DetectionLoss()(sampled).backward()
    assert encoder.network.conv1.weight.grad.any()
    with pytest.raises(ValueError, match="several resolutions"):
        MonaiEncoder(torch.nn.Conv3d(1, 4, 3))


def with_stuff() -> Truth:
    """Two cubes of one class, one of them half in a slab of stuff that reaches the border."""
    labels = torch.zeros(24, 24, 24, dtype=torch.int16)
    labels[:, :, 14:] = 3
    labels[3:9, 4:10, 5:11] = 1
    labels[13:21, 12:20, 11:19] = 2
    return truth_of(labels, torch.tensor([-1, 0, 0, 1]), torch.tensor([0, 0, 0, STUFF]))


SMALL = {"dropout": 0.0, "mask_size": 7, "mask_width": 8, "per_image": 8}


def panoptic(**options) -> MaskRCNN:
    torch.manual_seed(0)
    how = {"channels": 8, "fine_channels": 4, "width": 16} | SMALL | options
    return MaskRCNN(1, 1, [[[6, 6, 6]], [[8, 8, 8]]], (4, 8, 16), **how)


def test_stuff_adds_channels_to_the_semantic_head_and_nothing_else():
    plain, more = panoptic().state_dict(), panoptic(stuff=2).state_dict()
    unlike = {name for name in more if more[name].shape != plain[name].shape}
    assert plain.keys() == more.keys()
    assert unlike == {"semantic_head.classes.weight", "semantic_head.classes.bias"}
    sampled = panoptic(stuff=2)(images(with_stuff()), [with_stuff()])
    assert sampled.semantic.shape[1] == 1 + 1 + 2
    assert torch.equal(sampled.true_semantic[0] == 2, with_stuff().labels == 3)
    assert set(sampled.true_classes.tolist()) <= {0, 1}


@torch.no_grad()
def test_a_result_says_the_stuff_of_the_image_and_not_of_what_fills_it_up(monkeypatch):
    monkeypatch.setattr(mask_rcnn, "proposals", partial(mask_rcnn.proposals, before=5))
    net = panoptic(stuff=1, min_score=0.0).eval()
    net.semantic_head.classes.weight.zero_()
    for likeliest, value in ((0, 0), (1, 0), (2, 2)):
        net.semantic_head.classes.bias.copy_(torch.eye(3)[likeliest])
        for found in net(torch.randn(2, 1, 21, 18, 23)):
            assert found.stuff.shape == (21, 18, 23)
            assert (found.stuff == value).all()
    assert panoptic().eval()(torch.randn(1, 1, 16, 16, 16))[0].stuff is None


def test_stuff_that_the_network_does_not_know_is_refused():
    for net in (panoptic(), MaskRCNN(1, 2, [[[6, 6, 6]]], (4, 8, 16), channels=8, stuff=1)):
        with pytest.raises(ValueError, match="a region without instances has class 1, and the network knows"):
            net(images(with_stuff()), [with_stuff()])
    for classes, stuff in ((1, -1), (250, 6)):
        with pytest.raises(ValueError, match="together at most 255"):
            MaskRCNN(1, classes, ANCHORS, (4, 8, 16), stuff=stuff)


def test_things_and_stuff_are_learned_together():
    torch.manual_seed(0)
    one = with_stuff()
    level = torch.tensor([0.0, 1, 1, -1])[one.labels.long()][None, None]
    x = level + 0.1 * torch.randn(level.shape)
    net, loss = panoptic(stuff=1), DetectionLoss()
    optimizer = torch.optim.AdamW(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=300)
    for _ in range(300):
        optimizer.zero_grad()
        loss(net(x, [one])).backward()
        optimizer.step()
        rate.step()
    inferer = InstanceInferer(precision="fp32")
    inferer(x, net.eval())
    there, true = inferer.stuff == 2, one.labels == 3
    assert (there & true).sum() / (there | true).sum() > 0.97
    assert set(inferer.stuff.unique().tolist()) == {0, 2}
    assert set(inferer.found.classes.tolist()) == {0}
    assert (iou_matrix(inferer.found.boxes, one.boxes).amax(0) > 0.5).all()


@pytest.mark.slow
def test_it_learns_one_image_by_heart():
    net = network()
    one = truth()
    x = images(one)
    optimizer = torch.optim.AdamW(net.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=250)  # its end is calm
    loss = DetectionLoss()
    for _ in range(250):
        optimizer.zero_grad()
        loss(net(x, [one])).backward()
        optimizer.step()
        rate.step()
    net.eval()
    with torch.no_grad():
        found = instances_of(net(x)[0], one.labels.shape)
    assert found.classes[:2].sort().values.tolist() == [0, 1]
    assert (found.scores[:2] > 0.8).all()
    order = found.classes[:2].argsort()
    assert (found.boxes[:2][order] - one.boxes).abs().max() < 1.5
    ids = label_map(found, one.labels.shape).ids
    for instance, value in enumerate(found.classes[:2].tolist()):
        mask, true = ids == instance + 1, one.labels.numpy() == value + 1
        assert (mask & true).sum() / (mask | true).sum() > 0.85
