from __future__ import annotations

import pytest
import yaml

from medseg.errors import UsageError
from medseg.workflows.evaluation.protocol import Instances, Protocol, load_protocol, shipped_protocols


def test_every_shipped_protocol_loads_and_the_default_is_the_default():
    assert set(shipped_protocols()) == {"default", "brats", "lesion", "lung_nodule", "instances"}
    for name in shipped_protocols():
        assert load_protocol(name).name == name
    assert load_protocol(None) == Protocol()


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "definition: surfel\ntolerances_mm: 3\ncentreline: [vessels]\ninstances: {iou: [0.3], buckets_mm3: [10]}\n"
    )
    found = load_protocol(path)
    assert (found.name, found.definition, found.tolerances_mm, found.centreline) == (
        "mine",
        "surfel",
        (3.0,),
        ("vessels",),
    )
    assert found.instances == Instances(iou=(0.3,), buckets_mm3=(10.0,))
    assert list(found.instances.buckets().values()) == [(0.0, 10.0), (10.0, float("inf"))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tolerance_mm": [1]}, r"'tolerance_mm' is no key of it\n  -> did you mean tolerances_mm\?"),
        ({"definition": "mean"}, "definition is one of border, surfel, pooled, not 'mean'"),
        ({"percentiles": ["a"]}, "percentiles are numbers of 0 or more"),
        ({"tolerances_mm": [-1]}, "tolerances_mm are numbers of 0 or more"),
        ({"centreline": [3]}, "centreline are names"),
        ({"instances": {"iuo": [1]}}, r"did you mean iou\?"),
        ({"instances": {"connectivity": 7}}, "connectivity is 6, 18 or 26, not 7"),
        ({"structures": ["liver"]}, "structures maps a name"),
        ({"structures": {}}, "structures maps a name"),
        ({"instances": True}, "instances has keys of its own"),
        ({"instances": {"iou": [1.5]}}, "iou lies in"),
        ({"instances": {"minimum_mm3": "big"}}, "minimum_mm3 is a number"),
        ({"instances": {"buckets_mm3": [100, 10]}}, "buckets_mm3 rise"),
        ({"percentiles": [150]}, "percentiles lie in"),
        ({"percentiles": [float("nan")]}, "percentiles are numbers"),
        ({"growth": None}, "growth is a number"),
        ({"level": 95}, "level lies between"),
        ({"draws": "many"}, "draws is a whole number"),
        ({"draws": 0}, "draws is a whole number"),
        ({"maps": "boxes"}, "maps is structures or instances, not 'boxes'"),
        ({"maps": "instances", "centreline": ["vessels"]}, "no structure is scored as a whole, got vessels"),
        ({"maps": "instances", "instances": {"structures": ["a"]}}, "no structure is scored as a whole, got a"),
        ({"instances": {"iou": []}}, "iou names one threshold or more"),
        ({"seed": "x"}, "seed is a whole number"),
        (["liver"], "no mapping"),
    ],
)
def test_what_is_refused(tmp_path, content, message):
    path = tmp_path / "p.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=rf"MS-U162 [^:]*p\.yaml: (?s:.*){message}"):
        load_protocol(path)


def test_no_yaml(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("a: [1")
    with pytest.raises(UsageError, match=r"MS-U162.*it cannot be read"):
        load_protocol(path)


def test_an_unknown_name():
    with pytest.raises(UsageError, match=r"MS-U161 no protocol is called 'lesions'(?s:.*)type -c lesion"):
        load_protocol("lesions")
