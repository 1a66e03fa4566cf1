"""The gate at work: hostile bundles are refused before anything of theirs runs, sound ones parse unchanged."""

from __future__ import annotations

import importlib
import inspect
import json
from copy import deepcopy

import pytest
import torch

from medseg.bundle import gate
from medseg.bundle.gate import GatedParser, allowed_targets, full_name, refusals
from medseg.bundle.load import load_bundle
from medseg.bundle.verdict import inspect_bundle
from medseg.errors import BundleError


def put(*path):
    """A function that stores a value deep in a config."""

    def change(value):
        def action(config):
            for key in path[:-1]:
                config = config[key]
            config[path[-1]] = value

        return action

    return change


TOUCH = '__import__("pathlib").Path("{sentinel}").touch()'
STEPS = ("preprocessing", "transforms", 0)

HOSTILE = {
    "target os.system": put("network_def")({"_target_": "os.system", "command": "touch {sentinel}"}),
    "target subprocess": put("network_def")({"_target_": "subprocess.run", "args": ["touch", "{sentinel}"]}),
    "target builtins.exec": put("inferer")({"_target_": "builtins.exec", "__source": "1"}),
    "target monai.bundle.run": put("inferer")({"_target_": "monai.bundle.run"}),
    "target download": put("inferer")({"_target_": "monai.apps.utils.download_url", "url": "http://x"}),
    "target torch.hub": put("network_def")({"_target_": "torch.hub.load", "repo_or_dir": "x", "model": "y"}),
    "target torch.load": put("network_def")({"_target_": "torch.load", "f": "x", "weights_only": False}),
    "target persistent dataset": put("dataset")({"_target_": "PersistentDataset", "data": [], "transform": None}),
    "target scripts": put("network_def")({"_target_": "scripts.net.Net"}),
    "target through medseg": put("network_def")({"_target_": "medseg.bundle.shipped.Path"}),
    "target of another room": put("network_def")({"_target_": "medseg.transforms.reader.np.load"}),
    "target by reference": lambda c: (put("evil")("os.system")(c), put("inferer")({"_target_": "@evil"})(c)),
    "target by expression": put("inferer")({"_target_": "$@network_def.to"}),
    "target not a text": put("inferer")({"_target_": {"_target_": "UNet"}}),
    "expression": put("output_dir")("$" + TOUCH),
    "expression in an unused key": put("note")("$" + TOUCH),
    "expression deep in a list": put(*STEPS)("$" + TOUCH),
    "expression in initialize": put("initialize")(["$" + TOUCH]),
    "attribute chain": put("note")("$().__class__.__base__.__subclasses__()"),
    "f-string made by MONAI's replacement": lambda c: (
        put("f")("x")(c),
        put("note")("$'@f{{" + TOUCH + "}}'")(c),
    ),
    "import": put("imports")(["$import subprocess"]),
    "import of own code": put("imports")(["$import evil_module"]),
    "import under another name": put("imports")(["$import os as torch"]),
    "import from": put("imports")(["$from os import system"]),
    "module by reference": put("note")("$@imports::1.replace('a', 'b')"),
    "all imports by reference": put("note")("$@imports[1].replace('a', 'b')"),
    "macro to a file": put("network_def")("%/etc/other.json#network_def"),
    "macro to the folder above": put("network_def")("%../other.json#network_def"),
    "macro to code in another config": put("note")("%configs/metadata.json#evil"),
    "macro to a file by a relative id": put("x.json")({"y": "%#z"}),
    "debugger": put("network_def", "_mode_")("debug"),
    "mode by reference": put("network_def", "_mode_")("@bundle_root"),
    "debug argument": put("network_def", "_debug_")(True),
    "requires": put("network_def", "_requires_")("$" + TOUCH),
    "disabled": put("network_def", "_disabled_")("$" + TOUCH),
    "reader by dotted name": put(*STEPS, "reader")("os.system"),
    "reader in a list": put(*STEPS, "reader")(["NibabelReader", "os.system"]),
    "reader by reference": put(*STEPS, "reader")("@bundle_root"),
    "writer by dotted name": put("postprocessing", "transforms", -1, "writer")("os.system"),
    "loader as a callable": put(*STEPS, "_mode_")("callable"),
    "weights from the network": put("network_def")({"_target_": "DenseNet121", "pretrained": True}),
}


def fill(node, sentinel):
    """`{sentinel}` in every text of a config replaced."""
    if isinstance(node, dict):
        return {key: fill(value, sentinel) for key, value in node.items()}
    if isinstance(node, list):
        return [fill(value, sentinel) for value in node]
    if isinstance(node, str) and "{sentinel}" in node:
        return node.replace("{sentinel}", sentinel.as_posix()).replace("{{", "{").replace("}}", "}")
    return node


@pytest.mark.parametrize("attack", HOSTILE, ids=list(HOSTILE))
def test_a_hostile_bundle_is_refused_and_nothing_ran(attack, zoo, edit, tmp_path, monkeypatch):
    sentinel = tmp_path / "sentinel"

    def change(config):
        HOSTILE[attack](config)
        filled = fill(config, sentinel)
        config.clear()
        config.update(filled)

    (tmp_path / "evil_module.py").write_text(f"open(r'{sentinel}', 'w').close()", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    edit(zoo, "inference", change)
    edit(zoo, "metadata", lambda c: c.update(evil=fill("$" + TOUCH, sentinel)))
    with pytest.raises(BundleError, match="medseg bundle trust") as caught:
        load_bundle(zoo)
    assert caught.value.code in ("MS-B140", "MS-B141")
    assert not sentinel.exists()


def test_the_same_attack_runs_in_monai(build, tmp_path):
    """The test above can fail: MONAI's own parser does run it."""
    from monai.bundle import ConfigParser

    sentinel = tmp_path / "sentinel"
    config = {"f": "x", "note": fill("$'@f{{" + TOUCH + "}}'", sentinel)}
    ConfigParser(config).get_parsed_content("note")
    assert sentinel.exists()


def test_the_refusal_names_key_and_target(zoo, edit):
    edit(zoo, "inference", put("network_def")({"_target_": "os.system", "command": "x"}))
    with pytest.raises(BundleError, match=r"network_def::_target_ names 'os\.system'"):
        load_bundle(zoo)


def test_what_our_two_bundles_say_passes(build):
    for ours in (False, True):
        for config in (build.inference(ours=ours), build.train(ours=ours)):
            GatedParser(config, None).parse()


def test_macros_within_a_config_are_resolved(build):
    parser = GatedParser(build.train(), None)
    parser.parse()
    assert parser["validate::preprocessing::transforms"] == parser["train::deterministic_transforms"]


def test_macros_take_text_from_configs_inside_the_bundle(zoo, edit):
    (zoo / "configs" / "parts.yaml").write_text("sizes: [{roi: [16, 16, 8]}]\n", encoding="utf-8")
    edit(zoo, "inference", lambda c: c["inferer"].update(roi_size="%configs/parts.yaml#sizes#0#roi"))
    bundle = load_bundle(zoo)
    assert list(bundle.inferer.roi_size) == [16, 16, 8]
    assert "configs/parts.yaml" in bundle.hashes


def test_a_link_in_the_bundle_leads_macros_nowhere_else(zoo, edit, tmp_path):
    (tmp_path / "outside.json").write_text('{"roi": [16, 16, 8]}', encoding="utf-8")
    (zoo / "configs" / "parts.json").symlink_to(tmp_path / "outside.json")
    edit(zoo, "inference", lambda c: c["inferer"].update(roi_size="%configs/parts.json#roi"))
    with pytest.raises(BundleError, match=r"MS-B141 .*parts\.json"):
        load_bundle(zoo)


def test_a_macro_to_a_key_that_is_not_there(zoo, edit):
    edit(zoo, "inference", lambda c: c["inferer"].update(roi_size="%configs/metadata.json#nothing#at#all"))
    with pytest.raises(BundleError, match=r"MS-B141 .*has no nothing::at::all"):
        load_bundle(zoo)


@pytest.mark.parametrize("length", range(1, 10))
def test_a_macro_in_what_a_macro_brings_in_passes_the_gate_too(zoo, edit, length):
    edit(zoo, "inference", lambda c: c["inferer"].update(roi_size="%configs/part_1.json#x"))
    for n in range(1, length + 1):
        last = {"_target_": "os.system", "command": "x"}
        text = json.dumps({"x": last if n == length else f"%configs/part_{n + 1}.json#x"})
        (zoo / "configs" / f"part_{n}.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"MS-B14[01]") as caught:
        load_bundle(zoo)
    assert ("os.system" in caught.value.what) == (caught.value.code == "MS-B140") == (length <= 8)
    assert inspect_bundle(zoo).word == "needs trust"


def test_nothing_is_resolved_behind_the_gate(zoo, monkeypatch):
    for n in range(1, 4):
        (zoo / "configs" / f"part_{n}.json").write_text(f'{{"x": "%configs/part_{n + 1}.json#x"}}', encoding="utf-8")
    (zoo / "configs" / "part_4.json").write_text('{"x": [16, 16, 8]}', encoding="utf-8")
    seen = []
    monkeypatch.setattr(gate, "refusals", lambda config: seen.append(deepcopy(config)) or [])
    parser = GatedParser({"a": "%configs/part_1.json#x"}, zoo)
    assert parser.get_parsed_content("a") == [16, 16, 8]
    assert seen[0] == {"a": [16, 16, 8]}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"a": "%a"}, "macros that lead to macros"),
        ({"a": "%b", "b": "%a"}, "macros that lead to macros"),
        ({f"k{n:02}": [f"%k{n - 1:02}"] * 10 if n else list(range(10)) for n in range(9)}, "more than 100000 values"),
    ],
)
def test_macros_without_an_end(config, said):
    with pytest.raises(BundleError, match=said) as caught:
        GatedParser(config, None).parse()
    assert caught.value.code == "MS-B141"


def test_overrides_pass_the_gate_too(build):
    parser = GatedParser(build.inference(), None)
    parser["inferer"] = {"_target_": "os.system", "command": "x"}
    with pytest.raises(BundleError, match="inferer"):
        parser.get_parsed_content("network_def")
    parser["inferer"] = {"_target_": "SimpleInferer"}
    assert type(parser.get_parsed_content("inferer")).__name__ == "SimpleInferer"


def test_a_change_after_parsing_passes_the_gate_again(build):
    parser = GatedParser(build.inference(), None)
    parser.parse()
    parser["inferer"] = "$__import__('os').getcwd()"
    with pytest.raises(BundleError, match="MS-B140"):
        parser.get_parsed_content("inferer")


def test_every_listed_target_is_there_and_harmless_by_kind():
    dangerous = {"download", "url", "exec", "eval", "hub", "pickle", "script"}
    for full in allowed_targets():
        module, name = full.rsplit(".", 1)
        component = getattr(importlib.import_module(module), name)
        assert callable(component), full
        assert not dangerous & set(name.lower().split("_")), full
        parameters = inspect.signature(component.__init__).parameters if inspect.isclass(component) else {}
        assert parameters.get("pretrained") is None or parameters["pretrained"].default is False, full


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("UNet", "monai.networks.nets.UNet"),
        ("monai.networks.nets.UNet", "monai.networks.nets.UNet"),
        ("monai.networks.nets.unet.UNet", "monai.networks.nets.UNet"),
        ("torch.optim.AdamW", "torch.optim.AdamW"),
        ("AdamW", None),
        ("monai.networks.nets.unet.torch.load", None),
        ("medseg.networks.UNet", "medseg.networks.UNet"),
        ("medseg.networks.unet", None),
        ("medseg.networks.NoSuchNet", None),
        ("medseg.readers.Path", None),
        ("os.system", None),
        ("", None),
    ],
)
def test_names_in_full(name, expected):
    assert full_name(name) == expected


def test_all_refusals_are_listed():
    config = {"a": {"_target_": "os.system"}, "b": ["$eval('1')", {"c": "$open('x')"}], "d": "a $5 bill", "e": "50%"}
    assert [r.key for r in refusals(config)] == ["a::_target_", "b::0", "b::1::c"]


def test_parsing_gives_what_monai_gives(build):
    from monai.bundle import ConfigParser

    config = build.inference()
    torch.manual_seed(0)
    ours = GatedParser(build.inference(), None).get_parsed_content("network_def")
    torch.manual_seed(0)
    theirs = ConfigParser(config).get_parsed_content("network_def")
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
