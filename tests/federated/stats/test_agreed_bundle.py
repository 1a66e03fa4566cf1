"""What was agreed stands in both configs, the bundle keeps its promises, and a site with partial labels trains with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch

from medseg.bundle.check import check_bundle
from medseg.bundle.config import read_config
from medseg.bundle.described import read_labels
from medseg.errors import BundleError, InputError, OutputError
from medseg.federated.algorithm import Algorithm
from medseg.federated.exchange import travelling
from medseg.federated.initial import initial_state
from medseg.federated.label_union import site_labels
from medseg.federated.local_training import LocalTraining
from medseg.federated.site_recipe import SiteRecipe
from medseg.federated.stats.agreed_bundle import AGREED, write_agreed
from medseg.federated.stats.agreement import agree, bins_for
from medseg.federated.stats.fingerprint import fingerprint_of
from medseg.federated.stats.fingerprint_json import from_json
from medseg.federated.stats.survey import survey
from medseg.losses.marginal import labelled_classes

SITES = {"a": range(6), "b": range(10, 16)}


@pytest.fixture(scope="module")
def labels(small_recipe):
    config, metadata = read_config(small_recipe, "inference"), read_config(small_recipe, "metadata")
    return read_labels(config, metadata, small_recipe)


@pytest.fixture(scope="module")
def folders(cubes, tmp_path_factory):
    return {name: cubes(tmp_path_factory.mktemp(name), numbers) for name, numbers in SITES.items()}


@pytest.fixture(scope="module")
def surveys(folders, labels):
    return {name: survey(folder, labels=labels) for name, folder in folders.items()}


def agreed(surveys, labels):
    first = {name: fingerprint_of(one) for name, one in surveys.items()}
    bins = bins_for(list(first.values()))
    return agree({name: fingerprint_of(one, bins) for name, one in surveys.items()}, labels)


def image_steps(config):
    steps = config["train"]["deterministic_transforms"] if "train" in config else config["preprocessing"]["transforms"]
    return [one for one in steps if "image" in one["keys"]]


def test_both_configs_hold_what_was_agreed(small_recipe, surveys, labels, tmp_path):
    coarse = {
        name: replace(one, seen=tuple(replace(s, facts=replace(s.facts, spacing_mm=(1.5, 1.5, 2.0))) for s in one.seen))
        for name, one in surveys.items()
    }
    found = agreed(coarse, labels)
    bundle = write_agreed(small_recipe, found, tmp_path / "agreed_segmentation")
    assert [p for p in check_bundle(bundle) if not p.warning] == []
    for name in ("train", "inference"):
        steps = image_steps(read_config(bundle, name))
        assert [one["_target_"].rsplit(".", 1)[-1] for one in steps] == [
            "LoadImaged", "EnsureChannelFirstd", "ToNetworkGridd", "ScaleIntensityRangePercentilesd", "NormalizeIntensityd",
        ]  # fmt: skip
        assert steps[2]["spacing_mm"] == [1.5, 1.5, 2.0]
    train, inference = read_config(bundle, "train"), read_config(bundle, "inference")
    assert train["base_loss"] == read_config(small_recipe, "train")["base_loss"]
    assert "labels_present" not in train, "all label the same"
    assert inference["domain"]["cases"] == 12
    assert inference["domain"]["spacing_mm"] == [[1.5, 1.5], [1.5, 1.5], [2.0, 2.0]]
    assert "ensemble" not in inference["uncertainty"]
    assert not (bundle / "models").exists()
    assert from_json(json.loads((bundle / "configs" / AGREED).read_text("utf-8"))["pooled"]).cases == 12


@pytest.fixture(scope="module")
def partial(surveys, labels, small_recipe, folders, tmp_path_factory):
    """Site b labels one structure only, the bundle's second, as its 1; and has a third that nobody else labels."""
    root = tmp_path_factory.mktemp("partial")
    said = {"background": 0, "Hippocampus, posterior": 1, "cyst": 2}
    (folders["b"] / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "T1w"}, "labels": said}), encoding="utf-8"
    )
    found = agreed({"a": surveys["a"], "b": survey(folders["b"])}, labels)
    return write_agreed(small_recipe, found, root / "partial_segmentation"), found


def test_the_union_of_labels_is_written_with_a_loss_for_partial_labels(partial):
    bundle, found = partial
    assert found.union.present == {"a": (1, 2), "b": (2, 3)}
    assert found.union.values["b"] == {1: 2, 2: 3}
    assert [p for p in check_bundle(bundle) if not p.warning] == []
    train = read_config(bundle, "train")
    assert [row["name"] for row in train["labels"]] == ["Anterior hippocampus", "Posterior hippocampus", "cyst"]
    assert train["network_def"]["out_channels"] == 4
    assert train["base_loss"] == "@losses#partial"
    assert (train["labels_present"], train["site_values"], train["union_values"]) == (None, [0], [0])


def test_a_site_trains_with_the_structures_that_it_labels(partial, folders, tmp_path):
    bundle, found = partial
    own = site_labels(folders["b"], found.union.table)
    assert own == {"labels_present": [2, 3], "site_values": [0, 1, 2], "union_values": [0, 2, 3]}
    state = initial_state(bundle).state
    changed = {}
    for name, overrides in (("partial", own), ("whole", {})):
        how = Algorithm("test", rounds=1, local_epochs=1)
        local = LocalTraining(SiteRecipe(bundle, folders["b"], tmp_path / name, how, overrides=overrides))
        if name == "partial":
            batch = next(iter(local.recipe.build("train#dataloader")))
            assert labelled_classes(batch["label"][:, 1:], 4) == [(0, 2, 3)] * len(batch["label"])
            assert set(batch["label"][:, 0].unique().tolist()) == {0, 2, 3}
            scores = local.validate(travelling(state))
            assert scores
        trained = local.round(travelling(state), 0)
        assert trained.metrics["loss"] > 0
        changed[name] = trained.state
        local.close()
    assert any(not torch.equal(changed["partial"][key], changed["whole"][key]) for key in state)


def test_what_a_site_says_itself_counts_more_than_its_names(partial, folders):
    _, found = partial
    assert site_labels(folders["b"], found.union.table, present=(2,))["labels_present"] == [2]
    assert site_labels(folders["a"], found.union.table) == {
        "labels_present": [1, 2, 3], "site_values": [0], "union_values": [0],
    }  # fmt: skip


def test_a_structure_that_the_bundle_does_not_have_is_background(labels, folders):
    assert site_labels(folders["b"], labels) == {
        "labels_present": [2], "site_values": [0, 1, 2], "union_values": [0, 2, 0],
    }  # fmt: skip


def test_too_few_cases_agree_on_nothing(small_recipe, surveys, labels, tmp_path):
    few = {name: replace(one, seen=one.seen[:3]) for name, one in surveys.items()}
    with pytest.raises(InputError, match="too few cases") as raised:
        write_agreed(small_recipe, agreed(few, labels), tmp_path / "out")
    assert raised.value.code == "MS-J171"
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(small_recipe, surveys, labels, tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="not empty") as raised:
        write_agreed(small_recipe, agreed(surveys, labels), tmp_path)
    assert raised.value.code == "MS-J172"


def test_a_bundle_of_another_form_is_refused(toy_bundle, small_recipe, surveys, labels, tmp_path):
    found = agreed(surveys, labels)
    with pytest.raises(BundleError):  # it has no train.json
        write_agreed(toy_bundle, found, tmp_path / "toy")
    other = tmp_path / "other_segmentation"
    shutil.copytree(small_recipe, other)
    path = other / "configs" / "train.json"
    config = json.loads(path.read_text("utf-8"))
    config["train"]["deterministic_transforms"].append({"_target_": "HistogramNormalized", "keys": "image"})
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BundleError, match="HistogramNormalized") as raised:
        write_agreed(other, found, tmp_path / "out")
    assert raised.value.code == "MS-J173"
    assert not (tmp_path / "out").exists()


def test_a_job_trains_each_site_with_what_that_site_labels(partial, folders, tmp_path):
    """The executor fills in what the job cannot know; other bundles have no such entries and get none."""
    from types import SimpleNamespace

    from medseg.federated.bundle_hash import bundle_hash
    from medseg.federated.executor import MedsegExecutor

    bundle, _ = partial
    (tmp_path / "local").mkdir()
    said = f"data: {folders['b']}\nbundle: {bundle}\n"
    (tmp_path / "local" / "medseg_site.yaml").write_text(said, encoding="utf-8")
    workspace = SimpleNamespace(get_root_dir=lambda: str(tmp_path), get_site_config_dir=lambda: str(tmp_path / "local"))
    context = SimpleNamespace(get_prop=lambda key: workspace)
    executor = MedsegExecutor(bundle.name, bundle_hash(bundle), Algorithm("test").to_json())
    local = executor._open(context)
    assert {key: local.recipe.build(key) for key in ("labels_present", "site_values", "union_values")} == {
        "labels_present": [2, 3], "site_values": [0, 1, 2], "union_values": [0, 2, 3],
    }  # fmt: skip
