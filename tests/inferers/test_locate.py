"""Windows where a locator sees something: fewer of them and the same labels, and the whole image wherever that is in doubt.

The networks are closed forms: the fine one tells classes by grey value, the locator says how bright a cell is.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from torch import nn

from medseg.errors import UsageError
from medseg.inferers import Ensemble, Locate, McDropout, Mirror, Mirrored, SlidingWindowInferer, UncertainInferer
from medseg.networks import ChannelDropout
from medseg.networks.located import Locator

SHAPE = (96, 80, 64)
FACTORS = (8, 8, 4)  # cells of an anisotropic grid: 1 x 1 x 2 mm


class Bright(Locator):
    """A cell that is on average brighter than `level` is surely a structure; probability 0.5 there."""

    def __init__(self, level: float = 0.1, slope: float = 40.0) -> None:
        super().__init__(1, FACTORS, (8, 8, 8), features=(4, 8))
        self.level, self.slope = level, slope

    def forward(self, x):
        return self.slope * (x - self.level)


class Grey(nn.Module):
    """Background, ball or core by grey value; counts the windows that it sees."""

    def __init__(self, locator: Locator | None = None) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1, 1, 1))
        self.offset = nn.Parameter(torch.tensor([0.0, -0.5, -2.0]).reshape(1, 3, 1, 1, 1))
        self.dropout = ChannelDropout(1, 0.3)
        if locator is not None:
            self.locator = locator
        self.windows = 0

    def forward(self, x):
        self.windows += len(x)
        return self.dropout(x[:, :1]) * self.slope + self.offset


def ball(centre=(60, 30, 40), radius_mm=7.0, value=1.0, core=2.0) -> torch.Tensor:
    """A small ball with a core in a large volume of 1 x 1 x 2 mm."""
    axes = [torch.arange(n, dtype=torch.float32) - c for n, c in zip(SHAPE, centre, strict=True)]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    distance = (i**2 + j**2 + (2 * k) ** 2).sqrt()
    image = torch.zeros(1, 1, *SHAPE)
    image[0, 0][distance <= radius_mm] = value
    image[0, 0][distance <= radius_mm / 2] = core
    return image


def inferer(locate: Locate | None, output: Literal["labels", "logits"] = "labels", **more) -> SlidingWindowInferer:
    return SlidingWindowInferer((16, 16, 16), 0.5, output=output, precision="fp32", locate=locate, **more)


LOCATE = Locate(margin=(8, 8, 4))


def codes(one) -> list[str]:
    return [event.code for event in one.events]


@pytest.mark.parametrize("output", ["labels", "logits"])
def test_far_fewer_windows_and_the_same_labels(output):
    image = ball()
    plain, located = Grey().eval(), Grey(Bright()).eval()
    whole = inferer(None, output)(image, plain)
    look = inferer(LOCATE, output)
    found = look(image, located)
    assert codes(look) == ["MS-M223"]
    assert located.windows * 10 < plain.windows
    if output == "logits":
        outside = found[:, :, :20].softmax(1)
        assert (outside[:, 0] > 1 - 1e-6).all()
        whole, found = whole.argmax(1), found.argmax(1)
    assert set(found.unique().tolist()) == {0, 1, 2}
    assert torch.equal(found, whole)
    assert f"{located.windows} windows instead of {plain.windows}" in look.events[0].message


def test_the_box_holds_the_ball_and_its_margin_along_every_axis():
    image = ball()
    box, _ = LOCATE(image, [Grey(Bright())], (16, 16, 16), 0.5)
    assert box is not None
    held = image[0, 0].nonzero()
    cells = [
        (lo // f * f, (hi // f + 1) * f)
        for lo, hi, f in zip(held.amin(0).tolist(), held.amax(0).tolist(), FACTORS, strict=True)
    ]
    for side, size, (low, high), margin in zip(box, SHAPE, cells, LOCATE.margin, strict=True):
        # A cell that holds only a rim is too dim to be seen, and the margin of a cell makes it good.
        assert side.start <= low
        assert side.stop >= high
        assert high - low + 2 * margin <= size
    for corner in [(0, 0, 0), (88, 72, 56), (0, 72, 30)]:  # at the edges of the volume
        clipped, _ = LOCATE(ball(corner), [Grey(Bright())], (16, 16, 16), 0.5)
        assert clipped is not None
        assert all(0 <= side.start < side.stop <= size for side, size in zip(clipped, SHAPE, strict=True))


@pytest.mark.parametrize("level", [5.0, float("nan")])
def test_an_unsure_locator_loses_nothing(level):
    image = ball()
    unsure = inferer(LOCATE)
    found = unsure(image, Grey(Bright(level)).eval())
    assert codes(unsure) == ["MS-M224"]
    assert torch.equal(found, inferer(None)(image, Grey().eval()))


def test_what_may_be_a_structure_is_segmented_beside_what_surely_is_one():
    dim = ball((20, 60, 12), value=0.6, core=0.6)
    image = ball() + dim
    whole = inferer(None)(image, Grey().eval())
    dimmest = float(torch.nn.functional.avg_pool3d(dim, FACTORS).max())
    locator = Bright(level=dimmest + 0.02, slope=50.0)  # the dim ball: sigmoid(-1), neither sure nor impossible
    look = inferer(LOCATE)
    found = look(image, Grey(locator).eval())
    assert codes(look) == ["MS-M223"]
    assert torch.equal(found, whole)
    deaf = inferer(Locate(margin=(8, 8, 4), maybe=0.5))
    assert not torch.equal(deaf(image, Grey(locator).eval()), whole)  # so it is `maybe` that keeps it


def test_a_structure_that_the_box_cuts_is_done_again_whole():
    tube = torch.zeros(1, 1, *SHAPE)
    tube[..., 8:88, 32:40, 28:32] = 1.0
    tube[..., 40:56, 32:40, 28:32] = 3.0  # the locator sees the middle alone
    whole = inferer(None)(tube, Grey().eval())
    look = inferer(Locate(margin=(0, 0, 0), maybe=0.5))
    found = look(tube, Grey(Bright(level=2.0)).eval())
    assert codes(look) == ["MS-M223", "MS-M226"]
    assert torch.equal(found, whole)


def test_a_box_in_which_nothing_is_found_is_not_the_last_word():
    image = torch.zeros(1, 1, *SHAPE)
    image[..., 8:16, 8:16, 8:12] = 0.4  # bright enough for the locator, not for the network
    image[..., 80, 60, 50] = 1.0  # which sees this voxel, the locator does not
    look = inferer(Locate(margin=(0, 0, 0)))
    found = look(image, Grey(Bright(level=0.2)).eval())
    assert codes(look) == ["MS-M223", "MS-M226"]
    assert found.nonzero().tolist() == [[0, 0, 80, 60, 50]]


def test_every_image_of_a_batch_must_be_located():
    image = torch.cat([ball(), ball((20, 60, 20))])
    look = inferer(LOCATE)
    found = look(image, Grey(Bright()).eval())
    assert codes(look) == ["MS-M223"]
    assert torch.equal(found, inferer(None)(image, Grey().eval()))
    image[1] = 0
    look(image, Grey(Bright()).eval())
    assert codes(look) == ["MS-M224"]


def test_regions_and_meta_data_come_along():
    image = MetaTensor(ball(), affine=torch.diag(torch.tensor([-1.0, 1, 2, 1])))
    network = Grey(Bright()).eval()
    plain = inferer(None, regions=(3, 1, 2))(image, network)
    look = inferer(LOCATE, regions=(3, 1, 2))
    found = look(image, network)
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, image.affine)
    inside = plain > 0
    assert torch.equal(found[inside], plain[inside])


def test_a_network_without_locator_is_said_and_done_whole():
    image = ball()
    look = inferer(LOCATE)
    assert torch.equal(look(image, Grey().eval()), inferer(None)(image, Grey().eval()))
    assert codes(look) == ["MS-M225"]


def test_in_doubt_the_body_is_still_cropped():
    image = ball() - 1
    look = inferer(LOCATE, body_threshold=-0.5)
    look(image, Grey(Bright(level=9.0)).eval())
    assert codes(look) == ["MS-M224", "MS-M221"]


def samplers():
    return {
        "mc": lambda made: McDropout(made(), 4),
        "ensemble": lambda made: Ensemble([made(), made()]),
        "tta": lambda made: Mirrored(Ensemble([made()]), [Mirror((0,))]),
    }


@pytest.mark.parametrize("kind", samplers())
def test_uncertainty_is_that_of_the_whole_image_inside_and_none_outside(kind):
    image = ball()
    sampler = samplers()[kind]
    whole = UncertainInferer(inferer(None))(image, sampler(lambda: Grey().eval()))
    look = UncertainInferer(inferer(LOCATE))
    seen = [Grey(Bright()).eval() for _ in range(2)]
    found = look(image, sampler(iter(seen).__next__))
    assert codes(look) == ["MS-M223"]
    assert torch.equal(found.labels, whole.labels)
    assert torch.equal(found.voxels, whole.voxels)
    box, _ = LOCATE(image, seen[:1], (16, 16, 16), 0.5)
    torch.testing.assert_close(found.entropy[box], whole.entropy[box])
    outside = torch.ones(SHAPE, dtype=torch.bool)
    outside[box] = False
    assert not found.entropy[outside].any()


def test_members_that_see_different_places_are_both_heard():
    image = ball() + ball((20, 60, 12), value=0.6, core=0.6)
    keen, dull = Grey(Bright(0.05)).eval(), Grey(Bright(0.7)).eval()
    one, _ = LOCATE(image, [keen], (16, 16, 16), 0.5)
    both, _ = LOCATE(image, [dull, keen], (16, 16, 16), 0.5)
    assert one == both
    look = UncertainInferer(inferer(LOCATE))
    look(image, Ensemble([keen, Grey(Bright(9.0)).eval()]))  # one finds nothing: nobody is sure
    assert codes(look) == ["MS-M224"]


def test_samples_that_reach_the_edge_of_the_box_are_taken_again_whole():
    tube = torch.zeros(1, 1, *SHAPE)
    tube[..., 8:88, 32:40, 28:32] = 1.0
    tube[..., 40:56, 32:40, 28:32] = 3.0
    look = UncertainInferer(inferer(Locate(margin=(0, 0, 0), maybe=0.5)))
    found = look(tube, Ensemble([Grey(Bright(level=2.0)).eval()] * 2))
    assert codes(look) == ["MS-M223", "MS-M226"]
    assert torch.equal(found.labels > 0, tube[0, 0] > 0)


@pytest.mark.parametrize("wrong", [{"margin": (1, 2)}, {"margin": (-1, 2, 3)}, {"margin": (1, 1, 1), "maybe": 0.9}])
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="MS-U145"):
        Locate(**wrong)
