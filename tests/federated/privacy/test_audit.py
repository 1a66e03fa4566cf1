"""Manifests read back, and `medseg federate audit`."""

from __future__ import annotations

import json

import pytest

from medseg.cli.app import run
from medseg.errors import InputError
from medseg.federated.privacy.accountant import spent
from medseg.federated.privacy.audit import read_audits
from medseg.federated.privacy.ledger import LEDGER
from medseg.federated.privacy.manifest import append_row


@pytest.fixture
def sites(tmp_path):
    sent = {"task": "train", "verdict": "sent", "arrays": 2, "bytes": 4000, "types": ["float32"], "norm": 1.5}
    for name in ("one", "two"):
        append_row(tmp_path / name / "audit.jsonl", sent | {"scalars": {"loss": 0.25}})
    append_row(
        tmp_path / "one" / "audit.jsonl", {"task": "train", "verdict": "refused", "code": "MS-J112", "what": "\x1b[2J"}
    )
    append_row(tmp_path / "one" / "audit.jsonl", sent)
    for _ in range(2):
        append_row(tmp_path / "one" / LEDGER, {"multiplier": 10.0})
    return tmp_path


def test_every_manifest_below_a_folder_is_read(sites):
    one, two = read_audits(sites)
    assert (one.count("sent"), one.count("refused"), one.bytes_sent) == (2, 1, 8000)
    assert (two.count("sent"), two.spent) == (1, None)
    assert one.spent == spent([10.0] * 2, 1e-5)
    assert read_audits(sites / "two" / "audit.jsonl") == [two]
    assert read_audits(sites / "two") == [two]


def test_what_was_spent_is_told_also_where_nothing_left_after_all(sites):
    (sites / "one" / "audit.jsonl").unlink()
    one, _ = read_audits(sites)
    assert (one.rows, one.spent) == ((), spent([10.0] * 2, 1e-5))


def test_a_place_without_a_manifest_is_told(tmp_path):
    with pytest.raises(InputError, match="MS-J123"):
        read_audits(tmp_path)


def test_the_command_prints_what_left_and_what_it_cost(sites, capsys):
    assert run(["federate", "audit", str(sites), "--json"]) == 0
    printed = capsys.readouterr()
    for words in ("loss 0.25", "MS-J112", "2 sent, 1 refused, 0 without a result", "no noise was added: no epsilon"):
        assert words in printed.err
    epsilon = spent([10.0] * 2, 1e-5).epsilon
    assert f"epsilon {epsilon:.4g} at delta 1e-05 after 2 updates; level: site" in printed.err
    assert "\x1b[2J" not in printed.err  # what was refused may be anything
    one, two = json.loads(printed.out)
    assert one["spent"]["epsilon"] == pytest.approx(epsilon)
    assert (len(one["rows"]), two["spent"]) == (3, None)


def test_the_command_prints_a_fingerprint_as_json_alone(tmp_path, capsys):
    told = {"fingerprint": {"cases": 6, "structures": [{"name": "Left lung"}]}, "held_out": False}
    row = {"task": "statistics", "verdict": "sent", "kind": "STATISTICS", "scalars": {}, "fingerprint_cases": 6, **told}
    append_row(tmp_path / "audit.jsonl", row)
    assert run(["federate", "audit", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    assert "1 sent, 0 refused, 0 without a result" in printed.err
    (found,) = json.loads(printed.out)
    assert found["rows"][0]["fingerprint"] == told["fingerprint"]
    assert found["broken"] == 0


def test_the_command_tells_of_lines_that_cannot_be_read(sites, capsys):
    with (sites / "two" / "audit.jsonl").open("a") as file:
        file.write("half a li")
    assert run(["federate", "audit", str(sites / "two")]) == 0
    assert "1 lines cannot be read" in capsys.readouterr().err


def test_the_command_without_a_manifest_exits_3(tmp_path, capsys):
    assert run(["federate", "audit", str(tmp_path)]) == 3
    assert "MS-J123" in capsys.readouterr().err
