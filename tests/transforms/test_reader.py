import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, PersistentDataset, decollate_batch
from monai.transforms import Compose, LoadImaged, Orientationd

from medseg.errors import InputError, UsageError
from medseg.geometry import Grid, reorientation
from medseg.transforms import VolumeReader, to_metatensor, to_volume
from medseg.volume import Volume

AFFINE = np.array([[0, 0, 1.2, 3], [-0.8, 0, 0, 50], [0, 0.9, 0, -20], [0, 0, 0, 1]])


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)


def nifti(path, array, affine=AFFINE):
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def loader(**options):
    name = "medseg.transforms.VolumeReader"
    return LoadImaged("image", reader=name, ensure_channel_first=True, image_only=True, **options)


def test_load_image_by_name_gives_the_volume_and_its_place(tmp_path):
    array = noise((12, 10, 8))
    path = nifti(tmp_path / "scan.nii.gz", array)
    image = loader()({"image": str(path)})["image"]
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy()[0], array)
    assert image.affine.dtype == torch.float64
    np.testing.assert_allclose(image.affine.numpy(), AFFINE, atol=1e-6)
    assert image.meta["filename_or_obj"] == str(path)
    assert image.meta["space"] == "RAS"
    np.testing.assert_allclose(image.meta["original_affine"], AFFINE, atol=1e-6)
    assert image.meta["spatial_shape"].tolist() == [12, 10, 8]


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "SAR", "PIL"])
def test_monai_orientation_turns_it_as_medseg_does(tmp_path, axcodes):
    array = noise((12, 10, 8))
    path = nifti(tmp_path / "scan.nii", array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turned = Compose([loader(), Orientationd("image", axcodes=axcodes)])({"image": str(path)})["image"]
    turn = reorientation(Grid(array.shape, AFFINE), axcodes)
    np.testing.assert_array_equal(turned.numpy()[0], turn.apply(array))
    np.testing.assert_allclose(turned.affine, turn.apply_grid(Grid(array.shape, AFFINE)).affine, atol=1e-6)


def test_several_files_become_channels(tmp_path):
    arrays = [noise((12, 10, 8), seed) for seed in range(3)]
    paths = [str(nifti(tmp_path / f"scan_{n:04}.nii", a)) for n, a in enumerate(arrays)]
    image = loader()({"image": paths})["image"]
    np.testing.assert_array_equal(image.numpy(), np.stack(arrays))
    assert image.meta["original_channel_dim"] == 0


def test_what_medseg_refuses_is_not_handed_to_monais_readers(tmp_path):
    array = noise((12, 10, 8)).astype(np.float32)
    array[3, 4, 5] = np.nan
    path = nifti(tmp_path / "holes.nii", array)
    with pytest.raises(InputError, match=r"holes\.nii"):
        loader()({"image": str(path)})
    image = loader(nonfinite="fill:-5")({"image": str(path)})["image"]
    assert image[0, 3, 4, 5] == -5


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="colour"):
        VolumeReader(colour="red")
    with pytest.raises(UsageError, match="MS-U110"):
        VolumeReader(assume_orientation="up")


def test_suffixes_do_not_matter_but_the_file_must_be_there(tmp_path):
    path = nifti(tmp_path / "scan.nii", noise((4, 4, 4)))
    renamed = path.rename(tmp_path / "scan.dat")
    assert VolumeReader().verify_suffix(str(renamed))
    assert not VolumeReader().verify_suffix([str(renamed), str(path)])


def test_meta_survives_collation(tmp_path):
    cases = [{"image": str(nifti(tmp_path / f"{n}.nii", noise((6, 5, 4), n)))} for n in range(2)]
    batch = next(iter(DataLoader(Dataset(cases, loader()), batch_size=2)))
    for case, item in zip(cases, decollate_batch(batch), strict=True):
        assert item["image"].meta["filename_or_obj"] == case["image"]
        assert item["image"].meta["space"] == "RAS"
        np.testing.assert_allclose(item["image"].affine, AFFINE, atol=1e-6)
        assert item["image"].affine.dtype == torch.float64


def test_persistent_dataset_finds_its_cache(tmp_path):
    path = nifti(tmp_path / "scan.nii", noise((6, 5, 4)))
    reads = []

    class Counted(VolumeReader):
        def read(self, data, **kwargs):
            reads.append(data)
            return super().read(data, **kwargs)

    chain = Compose([LoadImaged("image", reader=Counted(), ensure_channel_first=True, image_only=True)])
    dataset = PersistentDataset([{"image": str(path)}], chain, tmp_path / "cache", track_meta=True)
    first, second = dataset[0]["image"], dataset[0]["image"]
    assert len(reads) == 1
    assert isinstance(second, MetaTensor)
    assert torch.equal(first.affine, second.affine)
    assert second.meta["filename_or_obj"] == str(path)


@pytest.mark.parametrize("shape", [(6, 5, 4), (2, 6, 5, 4)])
def test_volume_to_metatensor_and_back(shape):
    volume = Volume(np.asfortranarray(noise(shape)), AFFINE)
    image = to_metatensor(volume)
    assert image.shape == (shape if len(shape) == 4 else (1, *shape))
    assert image.dtype == torch.float32
    back = to_volume(image)
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.affine, AFFINE)


def test_to_metatensor_gives_what_load_image_gives(tmp_path):
    from medseg.readers.open import read

    path = nifti(tmp_path / "scan.nii.gz", noise((6, 5, 4)))
    loaded, made = loader()({"image": str(path)})["image"], to_metatensor(read(path))
    assert torch.equal(loaded.as_tensor(), made.as_tensor())
    assert loaded.meta.keys() == made.meta.keys()
    assert torch.equal(loaded.affine, made.affine)
    assert loaded.meta["original_affine"].tolist() == made.meta["original_affine"].tolist()
    assert str(made.meta["filename_or_obj"]) == loaded.meta["filename_or_obj"]


def test_the_volume_is_not_changed_through_the_tensor():
    volume = Volume(np.zeros((4, 4, 4), np.float32), AFFINE)
    to_metatensor(volume).fill_(7)
    assert not volume.array.any()


@pytest.mark.parametrize("wrong", [torch.zeros(1, 4, 4, 4), MetaTensor(torch.zeros(4, 4, 4))])
def test_to_volume_says_what_it_needs(wrong):
    with pytest.raises(UsageError, match=r"MS-U150 a MetaTensor \(C, I, J, K\) with a 4x4 affine is needed"):
        to_volume(wrong)


def test_dicom_folders_are_read(data):
    folder = data("dicom") / "dev" / "mr_hippocampus_crop_13"
    image = loader()({"image": str(folder)})["image"]
    from medseg.readers.open import read

    volume = read(folder)
    np.testing.assert_array_equal(image.numpy()[0], volume.array)
    np.testing.assert_array_equal(image.affine.numpy(), volume.affine)
    assert image.meta["filename_or_obj"] == str(folder)
