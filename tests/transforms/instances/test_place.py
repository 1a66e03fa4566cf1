"""Where patches lie: in the image, around the box, everywhere equally likely."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.transforms.instances import IGNORE, STUFF
from medseg.transforms.instances.place import draw_box, draw_start

SHAPE = st.tuples(*[st.integers(1, 12)] * 3)


@given(shape=SHAPE, size=SHAPE, seed=st.integers(0, 99), data=st.data())
def test_a_patch_lies_in_the_image_and_holds_the_box_or_lies_in_it(shape, size, seed, data):
    low = [data.draw(st.integers(0, n - 1)) for n in shape]
    high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, shape, strict=True)]
    start = draw_start(np.random.RandomState(seed), shape, size, [*low, *high])
    for s, n, m, a, b in zip(start, shape, size, low, high, strict=True):
        if n <= m:
            assert s == (n - m) // 2
            continue
        assert 0 <= s <= n - m
        assert (s <= a and b <= s + m) if b - a <= m else (a <= s and s + m <= b)


def test_every_allowed_place_is_drawn_about_equally_often():
    rng = np.random.RandomState(0)
    free = np.bincount([draw_start(rng, (8, 4, 4), (3, 4, 4))[0] for _ in range(1200)], minlength=6)
    assert free.min() > 150
    assert len(free) == 6
    held = np.bincount([draw_start(rng, (8, 4, 4), (3, 4, 4), [4, 0, 0, 6, 4, 4])[0] for _ in range(600)])
    assert held[:3].sum() == 0
    assert held[3:].min() > 240


def test_without_a_box_the_draws_are_monais_randint_so_that_old_seeds_stay():
    start = draw_start(np.random.RandomState(7), (9, 5, 12), (4, 6, 12))
    assert list(start) == [np.random.RandomState(7).randint(0, 6), -1, 0]


def test_boxes_are_drawn_among_instances_that_count():
    labels = torch.zeros(6, 6, 6, dtype=torch.int16)
    labels[0, 0, 0], labels[3:5, 2, 2], labels[5, 5, 5] = 1, 2, 4
    flags = torch.tensor([0, IGNORE, 0, 0, 0], dtype=torch.uint8)
    rng = np.random.RandomState(0)
    drawn = {tuple(draw_box(rng, labels, flags)) for _ in range(50)}
    assert drawn == {(3, 2, 2, 5, 3, 3), (5, 5, 5, 6, 6, 6)}
    assert draw_box(rng, torch.zeros(3, 3, 3, dtype=torch.int16)) is None
    assert draw_box(rng, (labels == 1).short(), flags) is None


def test_no_patch_is_drawn_around_stuff():
    labels = torch.zeros(6, 6, 6, dtype=torch.int16)
    labels[1:3, 1:3, 1:3], labels[:, :, 5] = 1, 2
    rng = np.random.RandomState(0)
    drawn = {tuple(draw_box(rng, labels, torch.tensor([0, 0, STUFF]).byte())) for _ in range(20)}
    assert drawn == {(1, 1, 1, 3, 3, 3)}
