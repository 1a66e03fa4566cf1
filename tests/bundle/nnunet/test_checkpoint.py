"""Checkpoints are read without running what they hold."""

from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from medseg.bundle.nnunet.checkpoint import read_checkpoint, without_duplicates
from medseg.errors import BundleError
from tests.bundle.nnunet.made import checkpoint, network


class Planted:
    """What an attacker would put into a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def save(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "checkpoint_final.pth")
        return tmp_path / "checkpoint_final.pth"

    return write


def test_what_nnunet_writes_is_read(save):
    net = network()
    found = read_checkpoint(save(checkpoint(net)))
    assert (found.configuration, found.trainer, found.mirror_axes) == ("3d_fullres", "nnUNetTrainer", (0, 1, 2))
    assert list(found.weights) == list(net.state_dict())
    assert all(torch.equal(found.weights[key], value) for key, value in net.state_dict().items())


def test_numbers_and_arrays_of_numpy_in_the_log_are_data(save):
    log = {"a": [np.float64(1), np.float32(2), np.int32(3), np.bool_(True)], "b": np.arange(3.0), "c": np.float16(1)}
    assert read_checkpoint(save(checkpoint(network(), logging=log))).trainer == "nnUNetTrainer"


def test_names_of_numpy_1_are_read_too(save, tmp_path):
    path = save(checkpoint(network()))
    old = tmp_path / "old.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            target.writestr(name, content)
    assert read_checkpoint(old).trainer == "nnUNetTrainer"


def test_no_mirror_axes(save):
    assert read_checkpoint(save(checkpoint(network(), inference_allowed_mirroring_axes=None))).mirror_axes == ()


def test_planted_code_does_not_run(save, tmp_path):
    path = save(checkpoint(network(), logging=Planted(str(tmp_path / "planted"))))
    with pytest.raises(BundleError, match=r"cannot be read without running code: .*mkdir") as caught:
        read_checkpoint(path)
    assert caught.value.code == "MS-B112"
    assert not (tmp_path / "planted").exists()


def test_a_plain_pickle_does_not_run_either(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps(Planted(str(tmp_path / "planted"))))
    with pytest.raises(BundleError) as caught:
        read_checkpoint(path)
    assert caught.value.code == "MS-B112"
    assert not (tmp_path / "planted").exists()


def test_the_named_types_are_allowed_for_this_file_only(save):
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(save(checkpoint(network())))
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"network_weights": {}, "init_args": {}}])
def test_what_is_no_checkpoint_of_nnunet(save, content):
    with pytest.raises(BundleError, match="no checkpoint of nnU-Net v2") as caught:
        read_checkpoint(save(content))
    assert caught.value.code == "MS-B152"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_a_damaged_file(tmp_path, content):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        read_checkpoint(path)
    assert caught.value.code == "MS-B112"


def test_duplicates_and_prefixes_go():
    one = torch.zeros(1)
    keys = [
        "_orig_mod.encoder.stages.0.0.convs.0.conv.weight",
        "_orig_mod.encoder.stages.0.0.convs.0.all_modules.0.weight",
        "_orig_mod.decoder.encoder.stages.0.0.convs.0.conv.weight",
        "_orig_mod.decoder.seg_layers.0.bias",
    ]
    assert list(without_duplicates(dict.fromkeys(keys, one))) == [
        "encoder.stages.0.0.convs.0.conv.weight",
        "decoder.seg_layers.0.bias",
    ]
