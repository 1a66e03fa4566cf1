"""The hash of a bundle changes with every byte and name of it, and with nothing else."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError
from medseg.federated.bundle_hash import bundle_hash, require_hash


def test_it_is_what_the_docstring_says(toy_bundle):
    lines = [
        f"{path.relative_to(toy_bundle).as_posix()}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for path in toy_bundle.rglob("*")
        if path.is_file()
    ]
    assert bundle_hash(toy_bundle) == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def test_a_copy_is_the_same_and_leftovers_do_not_count(toy_bundle, tmp_path):
    copy = tmp_path / "other_name"
    shutil.copytree(toy_bundle, copy)
    (copy / "scripts" / "__pycache__").mkdir(parents=True)
    (copy / "scripts" / "__pycache__" / "x.pyc").write_bytes(b"1")
    (copy / ".DS_Store").write_bytes(b"1")
    assert bundle_hash(copy) == bundle_hash(toy_bundle)
    require_hash(copy, bundle_hash(toy_bundle))


@pytest.mark.parametrize("edit", ["byte", "name", "added"])
def test_another_bundle_is_refused(toy_bundle, tmp_path, edit):
    copy = tmp_path / "copy"
    shutil.copytree(toy_bundle, copy)
    config = copy / "configs" / "inference.json"
    if edit == "byte":
        config.write_bytes(config.read_bytes().replace(b"bright", b"Bright", 1))
    elif edit == "name":
        config.rename(config.with_name("inference2.json"))
    else:
        (copy / "configs" / "evaluate.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError, match="MS-J010"):
        require_hash(copy, bundle_hash(toy_bundle))


def test_a_shipped_name_is_its_folder():
    name = "hippocampus_mri_segmentation"
    assert bundle_hash(name) == bundle_hash(find_bundle(name))
