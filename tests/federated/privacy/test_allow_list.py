"""The list of what may leave a site is made of the site's own bundle, and can be read and shortened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

from medseg.bundle.shipped import shipped_bundles
from medseg.federated.privacy.allow_list import (
    FILE,
    SITE_FILE,
    OutgoingError,
    allow_list_of,
    allow_list_of_bundle,
    read_allow_list,
    site_allow_list,
    write_allow_list,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = "phantom_instance_segmentation"


def stored(root: Path) -> dict[str, tuple[int, ...]]:
    """An oracle: the names and shapes in the bundle's own weights."""
    with safe_open(root / "models" / "model.safetensors", "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def test_a_bundles_list_is_what_its_weights_are():
    root = shipped_bundles()[NAME]
    found = allow_list_of_bundle(NAME)
    assert dict(found.parameters) == stored(root)
    assert found.metrics == {"val_mask_ap50"}
    labels = json.loads((root / "configs" / "train.json").read_text())["labels"]
    assert found.structures == {label["name"] for label in labels}


def test_it_is_written_for_people_and_read_back(tmp_path):
    allowed = allow_list_of({"a": (2, 3), "s": ()}, metrics=["m"], structures=["Left lung"], statistics=False)
    write_allow_list(tmp_path / FILE, allowed)
    assert read_allow_list(tmp_path / FILE) == allowed
    assert json.loads((tmp_path / FILE).read_text())["parameters"] == {"a": [2, 3], "s": []}


def test_a_site_without_a_list_gets_one_of_its_own_bundle(tmp_path):
    (tmp_path / SITE_FILE).write_text(f"data: nowhere\nbundle: {shipped_bundles()[NAME]}\n")
    assert site_allow_list(tmp_path) == allow_list_of_bundle(NAME)


def test_the_sites_own_list_goes_before_its_bundle(tmp_path):
    (tmp_path / SITE_FILE).write_text(f"bundle: {NAME}\n")
    write_allow_list(tmp_path / FILE, allow_list_of({"a": (1,)}))
    assert site_allow_list(tmp_path) == allow_list_of({"a": (1,)})


@pytest.mark.parametrize("text", [None, "", "data: here\n", "bundle: no-such-bundle\n", "[", "bundle: 3\n"])
def test_without_list_and_bundle_nothing_may_leave(tmp_path, text):
    if text is not None:
        (tmp_path / SITE_FILE).write_text(text)
    with pytest.raises(OutgoingError, match="MS-J110"):
        site_allow_list(tmp_path)


GOOD = {"statistics": True, "metrics": [], "structures": [], "parameters": {"a": [1]}}


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        GOOD | {"more": 1},
        GOOD | {"statistics": "yes"},
        GOOD | {"parameters": {}},
        GOOD | {"parameters": {"a": 3}},
        GOOD | {"parameters": {"a": ["x"]}},
        GOOD | {"parameters": [1]},
        GOOD | {"metrics": None},
    ],
)
def test_a_damaged_list_lets_nothing_out(tmp_path, content):
    (tmp_path / FILE).write_text(json.dumps(content))
    with pytest.raises(OutgoingError, match=r"MS-J110 [\s\S]*join again"):
        read_allow_list(tmp_path / FILE)


def test_to_make_it_of_a_bundle_leaves_the_trainings_random_numbers_alone(small_recipe):
    import torch

    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    allow_list_of_bundle(small_recipe)
    assert torch.equal(torch.rand(4), wanted)
