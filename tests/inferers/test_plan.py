from __future__ import annotations

import torch

from medseg.inferers import SlidingWindowInferer


def test_windows_and_bytes_of_a_known_case():
    plan = SlidingWindowInferer(96, 0.25, 1, output="labels").plan((256, 256, 160), channels=1, classes=3)
    assert plan.windows == 32
    assert plan.batch == 1
    assert plan.slab_bytes == 4 * 3 * 96 * 256 * 160
    assert plan.output_bytes == 256 * 256 * 160
    assert plan.full_volume_bytes == 4 * 4 * 256 * 256 * 160
    assert plan.peak_bytes == plan.slab_bytes + plan.output_bytes + plan.network_bytes


def test_logits_cost_the_volume_and_the_weights():
    plan = SlidingWindowInferer(96, output="logits").plan((480, 160, 160), channels=1, classes=24, items=2)
    assert plan.slab_bytes == 4 * 25 * 96 * 160 * 160
    assert plan.output_bytes == 2 * 4 * 24 * 480 * 160 * 160


def test_the_planned_windows_are_those_that_run():
    seen = []
    inferer = SlidingWindowInferer((16, 8, 12), 0.5, output="labels", regions=[1], progress=lambda d, n: seen.append(n))
    inferer(torch.zeros(1, 1, 33, 21, 9), lambda w: w)
    assert inferer.plan((33, 21, 9), 1, 1).windows == seen[-1]
