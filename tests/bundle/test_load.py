"""Loading: what comes out, from where weights and names are taken, and every refusal with its code."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from safetensors.torch import save_file

from medseg.bundle import load as load_module
from medseg.bundle.config import read_file
from medseg.bundle.load import load_bundle, open_config
from medseg.errors import BundleError, MissingExtraError


def types(compose):
    return [type(t).__name__ for t in compose.transforms]


def test_everything_prediction_needs(zoo, build):
    bundle = load_bundle(zoo)
    assert (bundle.name, bundle.version, bundle.channels) == ("blobs_segmentation", "0.1.0", ("T1w",))
    assert [label.name for label in bundle.labels] == ["front", "back"]
    assert bundle.domain is None
    assert not bundle.trusted
    assert types(bundle.preprocessing) == ["Orientationd", "ScaleIntensityd"]
    assert types(bundle.postprocessing) == ["Activationsd", "Invertd", "AsDiscreted"]
    assert set(bundle.hashes) == {
        "configs/inference.json",
        "configs/metadata.json",
        "configs/train.json",
        "models/model.safetensors",
    }
    assert all(len(digest) == 64 for digest in bundle.hashes.values())


def test_the_network_is_fp32_in_eval_mode_with_the_stored_weights(zoo, build):
    state = build.write_weights(zoo, half=True, seed=7)
    network = load_bundle(zoo).network
    assert not network.training
    for key, value in network.state_dict().items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, state[key].float(), rtol=0, atol=0)


def test_nothing_but_prediction_is_built(zoo, edit):
    """A dataset that cannot be built, and an output folder, are no concern of prediction."""

    def change(config):
        config["datalist"] = "$load_me"
        config["datalist"] = "$[] + 1"
        config["output_dir"] = str(zoo / "must_not_appear")

    edit(zoo, "inference", change)
    load_bundle(zoo)
    assert not (zoo / "must_not_appear").exists()


def test_from_any_folder(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(zoo.parent)
    relative = load_bundle(zoo.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert relative.hashes == load_bundle(zoo).hashes


def test_loaders_that_an_expression_adds_are_left_out_too(zoo, edit):
    def change(config):
        steps = config["preprocessing"]["transforms"]
        config["first"], config["rest"] = steps[:1], steps[1:]
        config["preprocessing"]["transforms"] = "$@first + @rest"

    edit(zoo, "inference", change)
    assert types(load_bundle(zoo).preprocessing) == ["Orientationd", "ScaleIntensityd"]


def test_invertd_undoes_the_very_preprocessing(zoo):
    bundle = load_bundle(zoo)
    image = MetaTensor(torch.rand(1, 8, 6, 4), affine=np.diag([-1.0, 1, -1, 1]))
    out = bundle.preprocessing({"image": image})
    out["pred"] = MetaTensor(torch.rand(3, *out["image"].shape[1:]), meta=dict(out["image"].meta))
    assert bundle.postprocessing(out)["pred"].shape == (1, 8, 6, 4)


def test_foreign_bundle_names_from_metadata(zoo, edit):
    def strip(config):
        del config["channels"], config["labels"]

    edit(zoo, "inference", strip)
    bundle = load_bundle(zoo)
    assert bundle.channels == ("T1w",)
    assert {label.value: label.name for label in bundle.labels} == {1: "front", 2: "back"}


def test_foreign_bundle_with_region_channels(zoo, edit):
    def strip(config):
        del config["channels"], config["labels"]

    def regions(metadata):
        described = metadata["network_data_format"]
        described["outputs"]["pred"]["channel_def"] = {"0": "tumour core", "1": "whole tumour", "2": "enhancing"}
        del described["inputs"]["image"]["channel_def"]
        described["inputs"]["image"]["num_channels"] = 4

    edit(edit(zoo, "inference", strip), "metadata", regions)
    bundle = load_bundle(zoo)
    assert bundle.channels == ("channel 0", "channel 1", "channel 2", "channel 3")
    assert [label.value for label in bundle.labels] == [1, 2, 3]


def test_old_names_of_the_transforms(zoo, edit):
    def rename(config):
        config["pre_transforms"] = config.pop("preprocessing")
        config["post_transforms"] = config.pop("postprocessing")
        config["post_transforms"]["transforms"][1]["transform"] = "@pre_transforms"
        config["dataset"]["transform"] = "@pre_transforms"
        config["evaluator"]["postprocessing"] = "@post_transforms"

    bundle = load_bundle(edit(zoo, "inference", rename))
    assert types(bundle.preprocessing) == ["Orientationd", "ScaleIntensityd"]


def test_metadata_references_resolve(zoo, edit):
    def change(config):
        config["network_def"]["out_channels"] = "@_meta_#network_data_format#outputs#pred#num_channels"

    assert load_bundle(edit(zoo, "inference", change)).network


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}], ids=["plain", "wrapped"])
def test_model_pt_alone_will_do(zoo, wrap):
    (zoo / "models" / "model.safetensors").unlink()
    path = zoo / "models" / "model.pt"
    torch.save(wrap(torch.load(path, weights_only=True)), path)
    assert "models/model.pt" in load_bundle(zoo).hashes


class Evil:
    def __init__(self, sentinel):
        self.sentinel = sentinel

    def __reduce__(self):
        return open, (str(self.sentinel), "w")


def test_a_pickle_is_never_run(zoo, tmp_path):
    (zoo / "models" / "model.safetensors").unlink()
    for save in (torch.save, lambda x, p: p.write_bytes(pickle.dumps(x))):
        save({"model": Evil(tmp_path / "sentinel")}, zoo / "models" / "model.pt")
        with pytest.raises(BundleError, match=r"MS-B112 .*model\.pt: the weights cannot be read without running code"):
            load_bundle(zoo)
        assert not (tmp_path / "sentinel").exists()


def spoil(name):
    def missing_key(root, build):
        state = torch.load(root / "models/model.pt")
        state.pop("model.0.conv.weight")
        save_file(state, root / "models/model.safetensors")

    def other_shape(root, build):
        state = torch.load(root / "models/model.pt")
        state["model.0.conv.weight"] = torch.zeros(4, 2, 3, 3, 3)
        save_file(state, root / "models/model.safetensors")

    def nan(root, build):
        state = torch.load(root / "models/model.pt")
        state["model.0.conv.weight"][0] = torch.nan
        save_file(state, root / "models/model.safetensors")

    def truncated(root, build):
        path = root / "models/model.safetensors"
        path.write_bytes(path.read_bytes()[:500])

    def recipe(root, build):
        for path in (root / "models").iterdir():
            path.unlink()

    def torchscript(root, build):
        recipe(root, build)
        (root / "models/model.ts").write_bytes(b"PK")

    return locals()[name]


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("missing_key", "MS-B113", r"missing: model\.0\.conv\.weight"),
        ("other_shape", "MS-B113", r"model\.0\.conv\.weight \(4, 2, 3, 3, 3\) instead of \(4, 1, 3, 3, 3\)"),
        ("nan", "MS-B114", "not finite"),
        ("truncated", "MS-B112", "cannot be read"),
        ("recipe", "MS-B110", r"medseg train .* DATA -o RUN"),
        ("torchscript", "MS-B111", "TorchScript"),
    ],
)
def test_weights_that_are_refused(zoo, build, name, code, words):
    spoil(name)(zoo, build)
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(zoo)
    assert caught.value.code == code
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("name", "change", "code", "words"),
    [
        ("inference", lambda c: c.pop("network_def") and c.pop("network"), "MS-B106", "no `network_def`"),
        ("inference", lambda c: c["network_def"].update(nonsense=1), "MS-B106", "`network_def` cannot be built"),
        ("inference", lambda c: c.update(inferer="@nowhere"), "MS-B106", "`inferer` cannot be built"),
        ("inference", lambda c: c.update(labels=[{"value": 0, "name": "x"}]), "MS-B108", "label values start at 1"),
        ("inference", lambda c: c.update(labels=[{"value": 1}]), "MS-B108", "not readable"),
        ("inference", lambda c: c.update(domain={"modality": ["MR"]}), "MS-B130", "domain"),
        ("metadata", lambda c: c["required_packages_version"].update(medseg="99.0.0"), "MS-B120", "medseg is .* >=99"),
        ("metadata", lambda c: c["required_packages_version"].update(nosuch="1.0"), "MS-B120", r'pip install "nosuch>=1\.0"'),
        ("metadata", lambda c: c.update(monai_version="99.1.0"), "MS-B120", "pip install \"monai>=99.1.0\""),
        ("metadata", lambda c: c.update(pytorch_version="newest"), "MS-B121", "'newest'"),
    ],
)  # fmt: skip
def test_configs_that_are_refused(zoo, edit, name, change, code, words):
    with pytest.raises(BundleError, match=words) as caught:
        load_bundle(edit(zoo, name, change))
    assert caught.value.code == code


def test_nothing_says_what_the_channels_or_labels_are(zoo, edit):
    edit(zoo, "inference", lambda c: c.pop("channels"))
    edit(zoo, "metadata", lambda m: m["network_data_format"]["inputs"].clear())
    with pytest.raises(BundleError, match="MS-B107"):
        load_bundle(zoo)
    edit(zoo, "inference", lambda c: (c.update(channels=["x"]), c.pop("labels")))
    edit(zoo, "metadata", lambda m: m["network_data_format"]["outputs"].clear())
    with pytest.raises(BundleError, match="MS-B108"):
        load_bundle(zoo)


def test_configs_that_are_no_json(zoo):
    path = zoo / "configs" / "inference.json"
    for text in ("{", '{"a": 1, "a": 2}', "[]", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(BundleError, match="MS-B104"):
            load_bundle(zoo)
    path.unlink()
    with pytest.raises(BundleError, match="MS-B103"):
        load_bundle(zoo)


def test_yaml_needs_its_package(zoo, build, monkeypatch):
    path = zoo / "configs" / "inference.yaml"
    (zoo / "configs" / "inference.json").rename(path)  # JSON is YAML
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match="pip install pyyaml"):
        load_bundle(zoo)


def test_yaml(zoo):
    pytest.importorskip("yaml")
    (zoo / "configs" / "inference.json").rename(zoo / "configs" / "inference.yaml")
    assert load_bundle(zoo).channels == ("T1w",)


def test_large_files_are_pointed_to(zoo, build):
    spoil("recipe")(zoo, build)
    (zoo / "large_files.yml").write_text("large_files: []", encoding="utf-8")
    with pytest.raises(BundleError, match=r"fetch the files listed in large_files\.yml"):
        load_bundle(zoo)


def test_open_config_takes_overrides(zoo, build):
    parser = open_config(zoo, build.train(), {}, overrides={"train#trainer#max_epochs": 3, "dataset_dir": "here"})
    assert parser["train::trainer::max_epochs"] == 3
    assert parser.get_parsed_content("bundle_root") == str(zoo)
    assert parser.get_parsed_content("images") == []


def test_finding_bundles_needs_neither_torch_nor_monai():
    code = "import sys, medseg.bundle as b; b.shipped_bundles(); print([m for m in ('torch', 'monai') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_reading_reports_the_file(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": 1}), encoding="utf-8")
    assert read_file(path) == {"a": 1}
    with pytest.raises(BundleError, match=r"x2\.json"):
        read_file(tmp_path / "x2.json")


def test_device(zoo):
    assert load_module.load_bundle(zoo, device=torch.device("cpu")).network.model[0].conv.weight.device.type == "cpu"
