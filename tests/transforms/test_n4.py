"""N4: SimpleITK's own result where nothing is shrunk, and shading gone where it is."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor

from medseg.errors import UsageError
from medseg.transforms import N4Biasd
from medseg.transforms.n4 import log_bias_n4


def shaded(shape=(40, 36, 32)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image, field, tissue): two tissues in air, shaded by a slow wave along the first axes."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    tissue = np.where(radius < 0.5, 2, np.where(radius < 0.85, 1, 0))
    field = 0.35 * np.sin(1.5 * grid[0]) - 0.25 * grid[1]
    noise = np.random.default_rng(0).normal(1, 0.02, shape)
    return (np.array([0.0, 100, 180])[tissue] * np.exp(field) * noise).astype(np.float32), field, tissue


def spread(image: np.ndarray, tissue: np.ndarray) -> float:
    """Coefficient of variation within the tissues."""
    return float(np.mean([image[tissue == t].std() / image[tissue == t].mean() for t in (1, 2)]))


def test_without_shrinking_it_is_simpleitks():
    image, _, tissue = shaded((20, 18, 16))
    volume = SimpleITK.GetImageFromArray(image)
    volume.SetSpacing((3.0, 2.0, 1.0))
    mask = SimpleITK.GetImageFromArray((tissue > 0).astype(np.uint8))
    mask.CopyInformation(volume)
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([10, 10])
    expected = SimpleITK.GetArrayFromImage(n4.Execute(volume, mask))
    field = log_bias_n4(image, (1.0, 2.0, 3.0), tissue, shrink=1, iterations=(10, 10), threads=1)
    np.testing.assert_allclose(image / np.exp(field), expected, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize("with_mask", [False, True])
def test_shading_goes(with_mask):
    image, field, tissue = shaded()
    data = {"image": MetaTensor(torch.from_numpy(image)[None]), "mask": torch.from_numpy(tissue > 0)[None]}
    out = N4Biasd("image", mask_key="mask" if with_mask else None, shrink=2, iterations=(30, 30))(data)["image"]
    corrected = out.as_tensor()[0].numpy()
    assert spread(corrected, tissue) < 0.4 * spread(image, tissue)
    inside = tissue > 0
    found = np.log(image[inside] / corrected[inside])
    assert np.corrcoef(found, field[inside])[0, 1] > 0.95
    assert out.dtype == torch.float32


def test_channels_and_meta_stay_apart():
    image, _, _ = shaded((24, 20, 16))
    affine = torch.diag(torch.tensor([1.0, 2, 3, 1], dtype=torch.float64))
    both = MetaTensor(torch.from_numpy(np.stack([image, np.full_like(image, 7)])), affine=affine, meta={"who": "me"})
    out = N4Biasd("image", iterations=(5,))({"image": both})["image"]
    assert torch.equal(out.affine, affine)
    assert out.meta["who"] == "me"
    assert torch.equal(out[1], both[1])  # of one value: nothing to fit
    assert not torch.equal(out[0], both[0])


def test_an_empty_mask_changes_nothing():
    image, _, _ = shaded((20, 20, 20))
    assert not log_bias_n4(image, (1, 1, 1), np.zeros(image.shape)).any()


def test_a_mask_of_another_grid_is_refused():
    with pytest.raises(UsageError, match="mask") as caught:
        N4Biasd("image", mask_key="mask")({"image": torch.rand(1, 8, 8, 8), "mask": torch.ones(1, 8, 8, 7)})
    assert caught.value.code == "MS-U157"
