from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import AdjustContrast

from medseg.transforms import RandGammad
from medseg.transforms.intensity import Gamma, bend_gamma


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("gamma", [0.7, 1.0, 1.5])
def test_gamma_is_monais(gamma, invert, retain):
    image = torch.randn(8, 9, 10) * 2 - 1
    expected = AdjustContrast(gamma, invert_image=invert, retain_stats=retain)(image[None].clone())[0]
    found = bend_gamma(image, Gamma(gamma, invert, retain))
    torch.testing.assert_close(found, expected.as_tensor(), atol=1e-4, rtol=0)


@given(
    gamma=st.floats(0.5, 2.0), invert=st.booleans(), seed=st.integers(0, 99), scale=st.floats(0.01, 1000)
)  # fmt: skip
def test_order_mean_and_spread_stay(gamma, invert, seed, scale):
    image = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(seed)) * scale + 3
    found = bend_gamma(image, Gamma(gamma, invert))
    assert found.mean().item() == pytest.approx(image.mean().item(), abs=1e-3 * scale)
    assert found.std().item() == pytest.approx(image.std().item(), rel=1e-3)
    order = image.flatten().argsort()
    assert (found.flatten()[order].diff() >= -1e-5 * scale).all()


def test_below_and_above_1_are_equally_likely():
    transform = RandGammad("x", gamma=(0.7, 1.5)).set_random_state(0)
    drawn = [transform.draw().gamma for _ in range(1000)]
    assert sum(g < 1 for g in drawn) / 1000 == pytest.approx(0.5, abs=0.05)
    assert min(drawn) >= 0.7
    assert max(drawn) <= 1.5
    assert all(1.1 <= RandGammad("x", gamma=(1.1, 1.5)).draw().gamma <= 1.5 for _ in range(20))
    assert all(0.5 <= RandGammad("x", gamma=(0.5, 0.9)).draw().gamma <= 0.9 for _ in range(20))
