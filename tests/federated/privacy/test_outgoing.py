"""What may leave is made anew of what is known; one unknown thing stops the whole message."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor
from torch import nn

from medseg.federated.exchange import CASES, METRICS, ROUND
from medseg.federated.privacy.allow_list import OutgoingError, allow_list_of
from medseg.federated.privacy.manifest import append_row, read_rows
from medseg.federated.privacy.outgoing import released
from medseg.federated.privacy.packing import LAYOUT, PACKING, POSITIONS, VALUES, pack
from medseg.federated.stats.fingerprint import Fingerprint, Structure
from medseg.federated.stats.fingerprint_json import to_json
from medseg.federated.stats.sketch import PROBS, Sketch

ALLOWED = allow_list_of({"a": (2, 3), "b": (4,)}, metrics=["val_mean_dice"], structures=["Left lung", "lung/right"])
STEPS = "NUM_STEPS_CURRENT_ROUND"


def weights(**more):
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4), **more}


def told(**metrics):
    return {STEPS: 20, CASES: 8, METRICS: metrics}


def test_a_known_update_leaves_with_its_values():
    data = weights()
    found = released("WEIGHT_DIFF", data, told(loss=0.5), ALLOWED)
    assert found.kind == "WEIGHT_DIFF"
    assert found.data.keys() == data.keys()
    assert all(torch.equal(found.data[name], value) for name, value in data.items())
    assert found.meta == told(loss=0.5)
    assert found.row["arrays"] == 2
    assert found.row["values"] == 10
    assert found.row["bytes"] == 40
    assert found.row["types"] == ["float32"]
    assert found.row["norm"] == pytest.approx(np.linalg.norm([*range(6), 1, 1, 1, 1]))
    assert found.row["scalars"] == {STEPS: 20, CASES: 8, "loss": 0.5}


def test_nothing_is_passed_on_as_it_came():
    whole = torch.arange(100.0)
    carried = whole[:4]
    carried.note = "patient-0815"
    found = released("WEIGHT_DIFF", {"b": carried}, {}, ALLOWED).data["b"]
    assert not hasattr(found, "note")
    assert found.untyped_storage().nbytes() == 16  # not the 400 bytes behind the slice
    whole[0] = 7
    assert found[0] == 0


def test_control_variates_and_a_part_of_the_weights_may_leave():
    data = {"a": torch.zeros(2, 3), "control/a": torch.ones(2, 3)}
    assert released("WEIGHT_DIFF", data, {}, ALLOWED).row["arrays"] == 2


def test_scores_leave_alone_and_by_structure():
    numbers = {"val_mean_dice": 0.9, "val_mean_dice/Left lung": 0.8, "dice/lung/right": 1, "loss": 0.1}
    found = released("METRICS", numbers, {ROUND: 3}, ALLOWED)
    assert found.data == numbers
    assert found.row == {"scalars": numbers | {ROUND: 3}}


def fingerprint(cases=6):
    sketch = Sketch(cases, tuple(map(float, range(len(PROBS)))))
    lung = Structure("Left lung", 1, cases, sketch, None, None, 0.5)
    one = Fingerprint(cases, 5, 0, {"MR": cases}, (sketch,) * 3, None, (), (lung,))
    return {"fingerprint": to_json(one), "held_out": False}


def test_the_row_of_a_fingerprint_holds_all_that_was_told(tmp_path):
    told = fingerprint()
    found = released("STATISTICS", told, {}, ALLOWED)
    assert found.row == {"scalars": {}, "fingerprint_cases": 6, **told}
    assert json.loads(json.dumps(found.row, allow_nan=False)) == found.row
    append_row(tmp_path / "audit.jsonl", found.row)
    (row,), broken = read_rows(tmp_path / "audit.jsonl")
    assert ({key: row[key] for key in found.data}, broken) == (found.data, 0)


META = MetaTensor(torch.ones(4), meta={"filename_or_obj": "patient-0815.nii.gz"})


@pytest.mark.parametrize(
    ("code", "data"),
    [
        ("MS-J112", weights(image=torch.ones(4))),
        ("MS-J112", {"control/image": torch.ones(4)}),
        ("MS-J112", {"control/control/b": torch.ones(4)}),
        ("MS-J112", {1: torch.ones(4)}),
        ("MS-J112", {b"b": torch.ones(4)}),
        ("MS-J112", {}),
        ("MS-J113", {"b": torch.ones(5)}),
        ("MS-J113", {"b": torch.ones(4, 1)}),
        ("MS-J113", {"b": torch.ones(())}),
        ("MS-J113", {"a": torch.ones(3, 2)}),
        ("MS-J114", {"b": META}),
        ("MS-J114", {"b": nn.Parameter(torch.ones(4))}),
        ("MS-J114", {"b": torch.ones(4).double()}),
        ("MS-J114", {"b": torch.ones(4).half()}),
        ("MS-J114", {"b": torch.ones(4).int()}),
        ("MS-J114", {"b": torch.ones(4).to_sparse()}),
        ("MS-J114", {"b": np.ones(4, np.float32)}),
        ("MS-J114", {"b": "patient-0815"}),
        ("MS-J114", {"b": b"\x01" * 16}),
        ("MS-J114", {"b": [1.0, 1.0, 1.0, 1.0]}),
        ("MS-J114", {"b": {"image": torch.ones(4)}}),
        ("MS-J114", {"b": None}),
        ("MS-J115", {"b": torch.tensor([1.0, 1.0, float("nan"), 1.0])}),
        ("MS-J115", {"b": torch.tensor([1.0, 1.0, 1.0, -float("inf")])}),
        ("MS-J111", [torch.ones(4)]),
        ("MS-J111", None),
    ],
)
def test_an_unknown_name_shape_or_type_stops_the_update(code, data):
    with pytest.raises(OutgoingError, match=code):
        released("WEIGHT_DIFF", data, told(), ALLOWED)


@pytest.mark.parametrize(
    ("code", "meta"),
    [
        ("MS-J116", {"patient": 4}),
        ("MS-J116", {4: 4}),
        ("MS-J116", {"filter_history": ["a"]}),
        ("MS-J116", {METRICS: {"age": 47.0}}),
        ("MS-J116", {METRICS: {"loss/patient-0815": 0.5}}),
        ("MS-J116", {METRICS: {"loss/": 0.5}}),
        ("MS-J116", {METRICS: {("loss",): 0.5}}),
        ("MS-J116", {PACKING: "fp16"}),
        ("MS-J116", {LAYOUT: []}),
        ("MS-J117", {CASES: 8.0}),
        ("MS-J117", {CASES: True}),
        ("MS-J117", {CASES: -1}),
        ("MS-J117", {CASES: 2**40}),
        ("MS-J117", {STEPS: "20"}),
        ("MS-J117", {METRICS: {"loss": "0.5"}}),
        ("MS-J117", {METRICS: {"loss": torch.ones(1)}}),
        ("MS-J117", {METRICS: {"loss": np.float64(0.5)}}),
        ("MS-J117", {METRICS: {"loss": [0.5]}}),
        ("MS-J117", {METRICS: {"loss": None}}),
        ("MS-J117", {METRICS: {"loss": True}}),
        ("MS-J117", {METRICS: "loss"}),
        ("MS-J115", {METRICS: {"loss": float("nan")}}),
        ("MS-J111", None),
        ("MS-J111", "note"),
    ],
)
def test_an_unknown_metric_string_or_entry_stops_the_update_and_the_scores(code, meta):
    with pytest.raises(OutgoingError, match=code):
        released("WEIGHT_DIFF", weights(), meta, ALLOWED)
    if meta is None or PACKING not in meta:
        with pytest.raises(OutgoingError, match=code):
            released("METRICS", {"loss": 0.5}, meta, ALLOWED)


@pytest.mark.parametrize("kind", ["WEIGHTS", "FL_MODEL", "APP_DEFINED", "COLLECTION", "ANALYTIC", "", None, 3])
def test_an_unknown_kind_of_message_is_stopped(kind):
    with pytest.raises(OutgoingError, match="MS-J111"):
        released(kind, {"loss": 0.5}, {}, ALLOWED)


def test_the_refusal_does_not_repeat_what_would_have_left():
    with pytest.raises(OutgoingError) as caught:
        released("WEIGHT_DIFF", {"b": "patient-0815"}, {}, ALLOWED)
    assert "0815" not in str(caught.value)


@pytest.mark.parametrize("packing", ["fp16", "top_k"])
def test_a_packed_update_leaves_in_the_sites_own_packing_alone(packing):
    packed, _ = pack(weights(), packing, keep=0.3)
    data, meta = dict(packed.data), {**told(), **packed.meta}
    found = released("WEIGHT_DIFF", data, meta, ALLOWED, packing=packing)
    assert found.data.keys() == data.keys()
    assert all(torch.equal(found.data[name], value) for name, value in data.items())
    assert found.meta == meta
    for other in {"none", "fp16", "top_k"} - {packing}:
        with pytest.raises(OutgoingError, match=r"MS-J11[46]"):
            released("WEIGHT_DIFF", data, meta, ALLOWED, packing=other)
        with pytest.raises(OutgoingError, match="MS-J116"):
            released("WEIGHT_DIFF", weights(), told(), ALLOWED, packing=packing)


HALF = torch.ones(3, dtype=torch.float16)


@pytest.mark.parametrize(
    ("code", "data", "meta"),
    [
        ("MS-J112", {"image": torch.ones(4)}, {}),
        ("MS-J112", {}, {LAYOUT: [["image", [10]]]}),
        ("MS-J113", {}, {LAYOUT: [["a", [3, 2]], ["b", [4]]]}),
        ("MS-J113", {POSITIONS: torch.tensor([0, 1, 10], dtype=torch.int32)}, {}),
        ("MS-J113", {POSITIONS: torch.tensor([2, 1, 0], dtype=torch.int32)}, {}),
        ("MS-J113", {VALUES: HALF[:2]}, {}),
        ("MS-J114", {POSITIONS: torch.tensor([0, 1, 2])}, {}),
        ("MS-J114", {VALUES: HALF.float()}, {}),
        ("MS-J114", {VALUES: "patient-0815"}, {}),
        ("MS-J115", {VALUES: HALF * float("inf")}, {}),
        ("MS-J116", {}, {LAYOUT: "patient-0815"}),
        ("MS-J116", {}, {LAYOUT: [["a", ["patient-0815"]]]}),
        ("MS-J116", {}, {LAYOUT: [["a", [2, 3]], ["a", [2, 3]]]}),
    ],
)
def test_a_packed_update_is_looked_into(code, data, meta):
    packed, _ = pack(weights(), "top_k", keep=0.3)
    with pytest.raises(OutgoingError, match=code):
        released("WEIGHT_DIFF", {**packed.data, **data}, {**packed.meta, **meta}, ALLOWED, packing="top_k")


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


@given(st.sampled_from(["WEIGHT_DIFF", "METRICS", "STATISTICS"]), plain, plain)
def test_whatever_comes_is_either_known_or_refused(kind, data, meta):
    """No text gets through, and no other error than the one that says so."""
    try:
        found = released(kind, data, meta, ALLOWED)
    except OutgoingError:
        return
    assert all(type(value) is float for value in found.data.values())
    assert set(found.data) <= {"loss", "dice", "cases", "steps", "seconds", "drift", "val_mean_dice"}
