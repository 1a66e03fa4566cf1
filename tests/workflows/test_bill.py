"""The software bill of materials: complete, sound by CycloneDX's own schema, the same again."""

from __future__ import annotations

import json
from importlib import metadata, resources
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry

from medseg.cli.app import run
from medseg.workflows.bill import NIIVUE, bill_of_materials
from medseg.writers.atomic import sha256

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bill():
    return bill_of_materials()


def named(bill) -> dict[str, dict]:
    return {one["name"]: one for one in bill["components"]}


def test_it_holds_what_is_installed(bill):
    found = named(bill)
    for name in ("torch", "monai", "numpy", "nibabel", "pydicom", "highdicom", "safetensors", "simpleitk", "pillow"):
        assert found[name]["version"] == metadata.version(name), name
        assert found[name]["purl"] == f"pkg:pypi/{name}@{metadata.version(name)}"
    assert len(found) > 60
    assert bill["metadata"]["component"]["name"] == "medseg"


def test_it_holds_the_viewer_and_every_weight_with_its_sum(bill):
    _, name, version = NIIVUE
    readme = (ROOT / "medseg" / "reports" / "niivue" / "README.md").read_text(encoding="utf-8")
    assert f"`{name}` {version}" in readme
    assert named(bill)[name]["hashes"][0]["content"] in readme
    weights = sorted((ROOT / "bundles").glob("*/models/*.safetensors"))
    sums = [o["hashes"][0]["content"] for o in bill["components"] if o["type"] == "machine-learning-model"]
    assert sorted(sums) == sorted(map(sha256, weights))
    assert weights


def test_references_lead_somewhere_and_everything_is_reached_from_medseg(bill):
    graph = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    refs = [one["bom-ref"] for one in bill["components"]]
    assert len(refs) == len(set(refs))
    top = bill["metadata"]["component"]["bom-ref"]
    reached, waiting = {top}, [top]
    while waiting:
        fresh = set(graph[waiting.pop()]) - reached
        reached |= fresh
        waiting += fresh
    assert reached - {top} == {ref for ref in refs if ref.startswith("pkg:pypi/")}


def test_it_is_the_same_again(bill):
    assert json.dumps(bill) == json.dumps(bill_of_materials())


def test_it_is_sound_by_cyclonedx_own_schema(bill):
    folder = Path(str(resources.files("cyclonedx.schema") / "_res"))
    files = [f"{name}.SNAPSHOT.schema.json" for name in ("bom-1.6", "spdx", "jsf-0.82")]
    schemas = {file: json.loads((folder / file).read_text(encoding="utf-8")) for file in files}
    places = ("", "http://cyclonedx.org/schema/")
    known = Registry().with_contents([(place + file, one) for place in places for file, one in schemas.items()])
    validator = jsonschema.Draft7Validator(schemas[files[0]], registry=known)
    validator.validate(bill)
    bill = {**bill, "components": [{"name": "nothing more"}]}
    assert not validator.is_valid(bill)


def test_the_doctor_prints_it(capsys, bill):
    assert run(["doctor", "--sbom"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(bill))
