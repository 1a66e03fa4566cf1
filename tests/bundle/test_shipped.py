"""Finding bundles by folder and by name."""

from __future__ import annotations

import pytest

from medseg.bundle import shipped
from medseg.bundle.shipped import find_bundle, shipped_bundles
from medseg.errors import BundleError


@pytest.fixture
def catalogue(build, tmp_path, monkeypatch):
    """An installation that ships two bundles."""
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "site" / "medseg")
    for name in ("liver_ct_segmentation", "spleen_ct_segmentation"):
        build.write_bundle(tmp_path / "site" / "bundles" / name, weights=False)
    (tmp_path / "site" / "bundles" / "not_a_bundle").mkdir()
    return tmp_path / "site"


def test_the_checkout_ships_bundles():
    assert "hippocampus_mri_segmentation" in shipped_bundles()


def test_by_name(catalogue):
    assert list(shipped_bundles()) == ["liver_ct_segmentation", "spleen_ct_segmentation"]
    assert find_bundle("liver_ct_segmentation") == catalogue / "bundles" / "liver_ct_segmentation"


def test_the_wheel_has_them_inside(catalogue, build):
    inside = catalogue / "medseg" / "_shipped" / "bundles" / "wheel_segmentation"
    build.write_bundle(inside, weights=False)
    assert shipped_bundles() == {"wheel_segmentation": inside}


def test_by_folder(zoo, monkeypatch):
    assert find_bundle(zoo) == find_bundle(str(zoo)) == zoo
    monkeypatch.chdir(zoo.parent)
    assert find_bundle(zoo.name) == zoo


def test_a_folder_of_one_s_own_goes_before_a_shipped_name(catalogue, build, tmp_path, monkeypatch):
    own = build.write_bundle(tmp_path / "liver_ct_segmentation", weights=False)
    monkeypatch.chdir(tmp_path)
    assert find_bundle("liver_ct_segmentation") == own


def test_unknown_names_the_closest(catalogue):
    with pytest.raises(
        BundleError, match=r"liver_ct_segmentation, spleen_ct_segmentation[\s\S]*-b spleen_ct"
    ) as caught:
        find_bundle("splen_ct_segmentation")
    assert (caught.value.code, caught.value.exit_code) == ("MS-B101", 4)


def test_unknown_and_nothing_close(catalogue):
    with pytest.raises(BundleError, match="medseg bundles"):
        find_bundle("xyz")


def test_a_folder_without_configs(tmp_path):
    with pytest.raises(BundleError, match=r"MS-B102 .*configs/metadata\.json is missing"):
        find_bundle(tmp_path)
