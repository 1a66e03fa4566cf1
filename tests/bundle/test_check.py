"""check_bundle: nothing to say of a sound bundle, and each broken promise by its code."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from safetensors.torch import save_file

from medseg.bundle.check import check_bundle
from medseg.bundle.metadata import fake_shape


def codes(root):
    return [problem.code for problem in check_bundle(root) if not problem.warning]


def warnings(root):
    return [problem.code for problem in check_bundle(root) if problem.warning]


def test_sound_bundles(zoo, ours):
    for root in (zoo, ours):
        assert codes(root) == []
        assert warnings(root) == ["MS-B304"]  # the small bundles declare no domain


def test_a_bundle_of_instances_is_sound(build, tmp_path):
    root = build.write_instance_bundle(tmp_path / "blobs_instance_segmentation")
    assert [str(problem) for problem in check_bundle(root) if not problem.warning] == []
    assert warnings(root) == ["MS-B304"]
    recipe = build.write_instance_bundle(tmp_path / "recipe_instance_segmentation", weights=False)
    assert codes(recipe) == []


def pred(change):
    return lambda m: m["network_data_format"]["outputs"]["pred"].update(change)


@pytest.mark.parametrize(
    ("name", "change", "code", "says"),
    [
        ("metadata", pred({"format": "segmentation"}), "MS-B317", "the format of metadata.json's output is not"),
        ("inference", lambda c: c["inferer"].update(_target_="medseg.inferers.SlidingWindowInferer"), "MS-B317", "is not"),
        ("inference", lambda c: c["labels"][1].update(value=3), "MS-B317", r"values \[1, 3\]"),
        ("inference", lambda c: c.pop("labels"), "MS-B317", "no `labels`"),
        ("both", lambda c: c["network_def"].update(in_channels=2), "MS-B307", "does not take the smallest shape"),
    ],
)  # fmt: skip
def test_a_broken_promise_of_instances(build, tmp_path, edit, name, change, code, says):
    root = build.write_instance_bundle(tmp_path / "blobs_instance_segmentation", weights=False)
    for one in ("inference", "train") if name == "both" else (name,):
        edit(root, one, change)
    assert any(re.search(says, p.message) for p in check_bundle(root) if p.code == code)


def test_a_network_without_instances_in_a_bundle_of_them(build, zoo, edit):
    edit(zoo, "metadata", pred({"format": "instances", "num_channels": 1}))
    edit(zoo, "inference", lambda c: c.update(inferer={"_target_": "medseg.inferers.InstanceInferer"}))
    messages = [p.message for p in check_bundle(zoo) if p.code == "MS-B307"]
    assert any("no boxes, scores, classes, masks" in message for message in messages)


def test_a_recipe_is_accepted(build, tmp_path):
    assert codes(build.write_bundle(tmp_path / "recipe_segmentation", weights=False)) == []


def change_train_network(root, edit):
    edit(root, "train", lambda c: c["network_def"].update(dropout=0.2))


def change_train_preprocessing(root, edit):
    edit(root, "train", lambda c: c["train"]["deterministic_transforms"][3].update(maxv=2.0))


def drop_reader(root, edit):
    for name, path in (
        ("inference", ("preprocessing", "transforms")),
        ("train", ("train", "deterministic_transforms")),
    ):
        edit(root, name, lambda c, path=path: c[path[0]][path[1]][0].pop("reader"))


def meta_reference(root, edit):
    edit(root, "inference", lambda c: c.update(note="@_meta_#version"))


def file_macro(root, edit):
    edit(root, "inference", lambda c: c.update(note="%configs/other.json#x"))


def string_handler(root, edit):
    edit(root, "train", lambda c: (c.update(stats=c["train"]["handlers"][0]), c["train"].update(handlers=["@stats"])))


def no_dataset_dir(root, edit):
    edit(root, "inference", lambda c: (c.pop("dataset_dir"), c.update(datalist=[])))


def prefixed_key(root, edit):
    step = {"_target_": "CopyItemsd", "keys": "image", "names": "image_copy"}
    later = {"_target_": "ScaleIntensityd", "keys": "image_copy"}
    edit(root, "inference", lambda c: c["preprocessing"]["transforms"].extend([step, later]))


def hostile(root, edit):
    edit(root, "inference", lambda c: c.update(note="$__import__('os')"))


def channels_differ(root, edit):
    edit(root, "metadata", lambda m: m["network_data_format"]["outputs"]["pred"].update(num_channels=4))


def no_card(root, edit):
    (root / "docs" / "README.md").unlink()


def weights_differ(root, edit):
    state = torch.load(root / "models" / "model.pt")
    state["model.0.conv.weight"] += 1
    save_file(state, root / "models" / "model.safetensors")


def weights_misfit(root, edit):
    save_file({"x": torch.zeros(1)}, root / "models" / "model.safetensors")


def too_new(root, edit):
    edit(root, "metadata", lambda m: m.update(monai_version="99.0.0"))


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (change_train_network, "MS-B315"),
        (change_train_preprocessing, "MS-B315"),
        (drop_reader, "MS-B314"),
        (meta_reference, "MS-B311"),
        (file_macro, "MS-B311"),
        (string_handler, "MS-B312"),
        (no_dataset_dir, "MS-B312"),
        (prefixed_key, "MS-B313"),
        (hostile, "MS-B140"),
        (channels_differ, "MS-B307"),
        (no_card, "MS-B301"),
        (weights_differ, "MS-B310"),
        (weights_misfit, "MS-B113"),
        (too_new, "MS-B120"),
    ],
)
def test_a_broken_promise(spoil, code, zoo, edit):
    spoil(zoo, edit)
    assert code in codes(zoo)


def test_a_wrong_preprocessing_is_seen_through_a_macro(zoo, edit):
    edit(zoo, "train", lambda c: c["validate"].update(preprocessing={"_target_": "Compose", "transforms": []}))
    assert codes(zoo) == ["MS-B315"]


def test_labels_that_metadata_calls_otherwise(zoo, edit):
    edit(zoo, "metadata", lambda m: m["network_data_format"]["outputs"]["pred"]["channel_def"].update({"1": "other"}))
    assert "MS-B316" in warnings(zoo)


def test_heavy_weights(zoo, build):
    state = torch.load(zoo / "models" / "model.pt") | {"pad": torch.zeros(6_000_000)}
    torch.save(state, zoo / "models" / "model.pt")
    assert "MS-B309" in warnings(zoo)


def test_a_name_that_says_nothing(build, tmp_path):
    assert "MS-B303" in warnings(build.write_bundle(tmp_path / "blobs"))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("schema"),
        lambda m: m.update(version="one"),
        lambda m: m.update(changelog={}),
        lambda m: m.update(authors=""),
        lambda m: m.pop("intended_use"),
        lambda m: m.update(optional_packages_version=m.pop("required_packages_version")),
        lambda m: m.pop("network_data_format"),
        lambda m: m["network_data_format"]["outputs"].update(pred={}),
        lambda m: m["network_data_format"]["inputs"]["image"].update(spatial_shape=["__import__('os')", 16, 16]),
        lambda m: m["network_data_format"]["inputs"]["image"].update(spatial_shape=[16, 16]),
        lambda m: m["network_data_format"]["outputs"].update({"pred": None}),
        lambda m: m["network_data_format"]["inputs"]["image"].update(channel_def={"1": "x"}),
    ],
)
def test_metadata_departures(change, zoo, edit):
    edit(zoo, "metadata", change)
    assert "MS-B302" in codes(zoo)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([96, 96, 96], (96, 96, 96)),
        (["*", "16*n", "2**p"], (1, 16, 2)),
        (["8*n + 4", "2**p*n", "p-n+5"], (12, 2, 5)),
    ],
)
def test_smallest_shape(given, expected):
    assert fake_shape(given) == expected


@pytest.mark.parametrize("bad", ["open('x')", "n.real", "2**99", "9**9**9", "x", "1.5", "n if p else 1", ""])
def test_shapes_that_are_no_arithmetic(bad):
    with pytest.raises((ValueError, SyntaxError)):
        fake_shape([bad])


def test_members_of_the_ensemble_are_loaded(ours, edit):
    edit(ours, "inference", lambda c: c.update(uncertainty={"ensemble": {"weights": ["models/member_1.safetensors"]}}))
    assert codes(ours) == ["MS-B116"]
    shutil.copy(ours / "models" / "model.safetensors", ours / "models" / "member_1.safetensors")
    assert codes(ours) == []
    save_file({"w": torch.zeros(2)}, ours / "models" / "member_1.safetensors")
    assert codes(ours) == ["MS-B113"]
    edit(ours, "inference", lambda c: c.update(uncertainty={"mirrors": "LR"}))
    assert codes(ours) == ["MS-B115"]


def test_exported_files_of_other_weights_are_told(zoo, build):
    from medseg.bundle.export_record import add_exported
    from medseg.writers.atomic import sha256

    (zoo / "models" / "model.onnx").write_bytes(b"graph")
    weights = zoo / "models" / "model.safetensors"
    row = {
        "sha256": {"models/model.onnx": sha256(zoo / "models" / "model.onnx")},
        "weights": "models/model.safetensors",
        "weights_sha256": sha256(weights),
    }
    add_exported(zoo, {"models/model.onnx": row})
    assert warnings(zoo) == ["MS-B304"]
    build.write_weights(zoo, seed=3)
    (told,) = [problem for problem in check_bundle(zoo) if problem.code == "MS-B123"]
    assert (told.warning, told.file) == (True, "models/model.onnx")
    assert "other weights than models/model.safetensors" in told.message
    (zoo / "models" / "exported.json").write_text("{", encoding="utf-8")
    assert "MS-B123" in warnings(zoo)
