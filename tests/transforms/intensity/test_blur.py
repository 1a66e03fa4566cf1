from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from medseg.transforms.intensity import Blur, blur
from medseg.transforms.intensity.blur import TRUNCATE


@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    sigma=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5, 0.9, 2.0])] * 3),
    seed=st.integers(0, 99),
)
def test_blur_is_scipys(shape, sigma, seed):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    expected = gaussian_filter(image.double().numpy(), sigma, mode="mirror", truncate=TRUNCATE)
    np.testing.assert_allclose(blur(image, Blur(sigma)).numpy(), expected, atol=1e-5)


def test_no_blur_is_a_copy():
    image = torch.rand(3, 4, 5)
    found = blur(image, Blur((0.0, 0.0, 0.0)))
    assert torch.equal(found, image)
    assert found.data_ptr() != image.data_ptr()
