"""Pseudonyms: stable, salted, apart; the key is its user's alone, made once, and never among results."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import OutputError, UsageError
from medseg.workflows.identity import key as keys
from medseg.workflows.identity.key import FILE, Key, find_key, is_pseudonym, open_key, read_key

KEY = Key(b"k" * 32)


def test_a_pseudonym_is_the_hmac_of_rfc_2104():
    wanted = hmac.new(b"k" * 32, b"case\0anna", hashlib.sha256).hexdigest()[:12]
    assert KEY.case("Anna") == f"case-{wanted}"  # names that are one file on some system are one case


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_names_have_one_pseudonym_and_others_another(a, b):
    first, second = KEY.case(a), KEY.case(b)
    assert is_pseudonym(first)
    assert first == Key(b"k" * 32).case(a)
    assert (first == second) == (keys.collision_key(a) == keys.collision_key(b))
    assert first != Key(b"l" * 32).case(a)
    assert len({KEY.case(a)[5:], KEY.subject(a)[8:], KEY.path(a)[5:], KEY.uid(a)[4:], KEY.mark}) == 5


@pytest.mark.parametrize(
    "name", ["case-", "case-1", "case-0123456789aG", "Case-0123456789ab", "case-0123456789abc", "mueller"]
)
def test_other_names_are_no_pseudonyms(name):
    assert not is_pseudonym(name)


def test_the_key_is_made_once_beside_the_input_and_found_from_below(tmp_path):
    scans = tmp_path / "study" / "scans"
    (scans / "deep").mkdir(parents=True)
    made = open_key(scans, tmp_path / "out")
    assert made.file == tmp_path / "study" / FILE
    assert len(made.salt) == 32
    for place in (scans, scans / "deep", scans / "deep" / "x.nii.gz", tmp_path / "study"):
        assert open_key(place, tmp_path / "out") == made
    assert open_key(tmp_path / "else" / "scans", tmp_path / "out", write=False).salt != made.salt
    content = json.loads(made.file.read_text())
    assert (content["schema"], bytes.fromhex(content["salt"])) == ("medseg-key/1", made.salt)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no modes")
def test_nobody_else_may_read_it(tmp_path):
    made = open_key(tmp_path / "scans", tmp_path / "out")
    made.remember({"case-1": {"name": "anna"}}, {})
    assert made.file is not None
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600


def test_many_processes_agree_on_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: open_key(tmp_path / "scans", tmp_path / "out"), range(24)))
    assert len({key.salt for key in found}) == 1
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_a_run_that_writes_nothing_makes_none(tmp_path):
    assert open_key(tmp_path / "scans", tmp_path / "out", write=False).file is None
    assert list(tmp_path.iterdir()) == []


def test_the_table_grows_and_the_salt_stays(tmp_path):
    made = open_key(tmp_path / "scans", tmp_path / "out")
    made.remember({"case-1": {"name": "anna"}}, {})
    made.remember({"case-2": {"name": "bert"}}, {"file-1": "/x"})
    assert made.file is not None
    content = json.loads(made.file.read_text())
    assert content["cases"] == {"case-1": {"name": "anna"}, "case-2": {"name": "bert"}}
    assert content["files"] == {"file-1": "/x"}
    assert read_key(made.file) == made


@pytest.mark.parametrize("out", [".", "study"])
def test_it_never_lies_among_results(tmp_path, out):
    with pytest.raises(UsageError, match="folder of results") as caught:
        open_key(tmp_path / "study" / "scans", tmp_path / out)
    assert caught.value.code == "MS-U402"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON"), ("[]", "no medseg-key/1"), ('{"schema": "medseg-key/1"}', "no salt"),
        ('{"schema": "medseg-key/1", "salt": "zz"}', "no salt"), ('{"schema": "medseg-key/1", "salt": "00"}', "no salt"),
    ],
)  # fmt: skip
def test_a_broken_key_is_refused_and_kept(tmp_path, text, why):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError, match=why) as caught:
        open_key(tmp_path / "scans", tmp_path / "out")
    assert caught.value.code == "MS-U401"
    assert (tmp_path / FILE).read_text() == text


def test_where_it_cannot_be_written_the_message_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--case-key") as caught:
        open_key(tmp_path / "scans", tmp_path / "out", tmp_path / "file" / "key.json")
    assert caught.value.code == "MS-O330"
    assert str(tmp_path) not in str(caught.value)


def test_a_place_of_ones_own_is_used(tmp_path):
    file = tmp_path / "home" / "my.json"
    made = open_key(tmp_path / "scans", tmp_path / "out", file)
    assert made.file == file
    assert open_key(tmp_path / "other", tmp_path / "out", file) == made


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows knows no owners")
def test_a_key_that_somebody_else_put_there_is_passed_over(tmp_path, monkeypatch):
    def owned(file: int, folder: int):
        return SimpleNamespace(
            stat=lambda: SimpleNamespace(st_uid=file),
            parent=SimpleNamespace(stat=lambda: SimpleNamespace(st_uid=folder)),
        )

    monkeypatch.setattr(keys.os, "getuid", lambda: 1000)
    found = {
        (file, folder): keys._is_ours(owned(file, folder)) for file in (0, 1000, 1001) for folder in (0, 1000, 1001)
    }
    assert [pair for pair, ours in found.items() if not ours] == [(1001, 0), (1001, 1000)]
    monkeypatch.undo()
    made = open_key(tmp_path / "scans", tmp_path / "out")
    assert find_key(tmp_path / "scans") == made
    monkeypatch.setattr(keys, "_is_ours", lambda file: False)
    assert find_key(tmp_path / "scans") is None
