"""Whole trainings with encrypted updates in one process: controller, executors, and the sites' own filters around them.

What passes between them is written out and read again, as NVFLARE does. The oracle is the same training in the clear.
"""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
import yaml

pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')
if importlib.util.find_spec("tenseal") is None:
    pytest.skip('no tenseal (pip install "medseg[encrypted]")', allow_module_level=True)

from typing import TYPE_CHECKING

from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.apis.utils.task_utils import apply_filters
from nvflare.apis.workspace import Workspace
from nvflare.private.fed.app.fl_conf import create_privacy_manager

from medseg.bundle.load import load_bundle
from medseg.federated.algorithm import Algorithm
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.executor import GLOBAL, MedsegExecutor
from medseg.federated.privacy.encryption import EncryptionError, decrypted, make_keys
from medseg.federated.privacy.sealing import CIPHERTEXTS, KEY, KEY_FILE, checked, key_id
from medseg.federated.privacy.settings import load_privacy, privacy_json
from medseg.federated.server_state import load_state, read_rounds
from medseg.training.random_state import random_state, set_random_state

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # seven trainings; each of them is small

#: Training cases of the sites; a fifth of what they hold validates.
CASES = {"a": 7, "b": 3, "c": 3}


@pytest.fixture(scope="module")
def keys():
    return make_keys()


@pytest.fixture(scope="module")
def data(cubes, tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    return {name: cubes(root / name, range(10 * n, 10 * n + count)) for n, (name, count) in enumerate(CASES.items())}


class Site:
    """A kit's folder, and what NVFLARE's process of the site does with a task."""

    def __init__(self, root: Path, recipe: Path, data: Path, how: Algorithm, privacy: str, key: bytes | None, **said):
        local = root / "local"
        local.mkdir(parents=True)
        (root / "startup").mkdir()
        (local / "privacy.json").write_text(json.dumps(privacy_json(load_privacy(privacy))), encoding="utf-8")
        content = {"data": str(data), "bundle": str(recipe), **said}
        (local / "medseg_site.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        if key is not None:
            (local / KEY_FILE).write_bytes(key)
        self.root = root
        self.workspace = Workspace(str(root), root.name)
        self.scope = create_privacy_manager(self.workspace, names_only=False).get_scope(None)
        self.executor = MedsegExecutor(recipe.name, bundle_hash(recipe), how.to_json())
        self.sent: list[Shareable] = []
        self.opened: list[dict[str, torch.Tensor]] = []
        self.trained: list[dict[str, torch.Tensor]] = []
        self.random = random_state()

    def __call__(self, task, dxo):
        """With random numbers of its own, as in a process of its own."""
        set_random_state(self.random)
        try:
            return self.answer(task, dxo)
        finally:
            self.random = random_state()

    def answer(self, task, dxo):
        context = FLContext()
        context.set_prop(ReservedKey.RUN_NUM, "job-1", private=False)
        context.set_prop(FLContextKey.TASK_NAME, task, private=True)
        context.set_prop(FLContextKey.WORKSPACE_OBJECT, self.workspace, private=True)
        context.set_prop(FLContextKey.SCOPE_OBJECT, self.scope, private=True)
        came = Shareable.from_bytes(dxo.to_shareable().to_bytes())
        try:
            came = apply_filters("task_data_filters", came, context, {}, task, "in")
        except EncryptionError:
            return make_reply(ReturnCode.TASK_DATA_FILTER_ERROR)
        weights = dict(from_shareable(came).data)
        result = self.executor.execute(task, came, context, Signal())
        if task != "count" and result.get_return_code() == ReturnCode.OK:
            self.opened.append(weights)
            diff = from_shareable(result).data
            self.trained += [{name: weights[name] + value for name, value in diff.items()}] if task == "train" else []
        try:
            result = apply_filters("task_result_filters", result, context, {}, task, "out")
        except EncryptionError:
            return make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR)
        self.sent.append(result)
        return Shareable.from_bytes(result.to_bytes())

    def audit(self) -> list[dict]:
        return [json.loads(line) for line in (self.root / "audit.jsonl").read_text(encoding="utf-8").splitlines()]


def how_of(**said):
    plain = {"rounds": 2, "local_epochs": None, "local_steps": 2, "quorum": 2, "deadline_s": 60.0, "grace_s": 5.0}
    return Algorithm("test", **{**plain, "share_cap": 0.5, **said})


@pytest.fixture
def sites(tmp_path, small_recipe, data, keys):
    """`sites(algorithm, privacy, ...)`: all of them; `key={"c": other}` gives one another key."""

    def make(how, privacy="he", *, key=None, folder="sites"):
        given = dict.fromkeys(CASES, keys.sites if privacy == "he" else None) | (key or {})
        return {
            name: Site(tmp_path / folder / name, small_recipe, data[name], how, privacy, given[name]) for name in CASES
        }

    return make


def furthest(first, second):
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def test_the_result_is_that_of_plain_averaging_and_the_server_reads_nothing(sites, server, keys, tmp_path):
    """After one round against the same training in the clear; later rounds, whose training enlarges differences of the
    last bit, against the mean of what the sites really had."""
    plain = sites(how_of(), "none", folder="plain")
    folder, told = server(how_of(), plain)
    assert told == []
    shares = {name: one["share"] for name, one in read_rounds(folder)[0]["sites"].items()}
    folder.rename(folder.with_name("clear"))

    closed = sites(how_of())
    folder, told = server(how_of(), closed, encrypted=True)
    assert told == []
    rows = read_rounds(folder)
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert {name: one["share"] for name, one in rows[1]["sites"].items()} == pytest.approx(shares)
    assert max(shares.values()) == 0.5  # the cap is at work
    for one in closed.values():
        first, second, last = one.opened
        assert furthest(first, plain["a"].opened[0]) == 0.0
        assert furthest(second, plain["a"].opened[1]) < 1e-6
        for found, number in ((second, 0), (last, 1)):
            assert furthest(found, mean_of(closed, shares, number)) < 1e-6
        assert load_bundle(one.root / "medseg_work" / "run" / GLOBAL).labels
    wanted = last
    assert rows[1]["sites"]["a"]["metrics"].keys() >= {"loss", "val_mean_dice"}

    # what left were ciphertexts, and the site's own manifest says what is in them
    for one in closed.values():
        kinds = [from_shareable(result).data_kind for result in one.sent]
        assert kinds == [DataKind.METRICS, DataKind.WEIGHTS, DataKind.WEIGHTS, DataKind.METRICS]
        assert set(from_shareable(one.sent[1]).data) == {"medseg_ciphertexts", "medseg_lengths"}
        train = [row for row in one.audit() if row["task"] == "train"]
        assert [(row["verdict"], row["types"]) for row in train] == [("sent", ["ckks"])] * 2
        assert train[0]["norm"] > 0
        assert train[0]["bytes"] > 4 * train[0]["values"]

    the_server_has_no_key_and_cannot_open_anything(folder, tmp_path, keys, wanted)


def mean_of(sites, shares, number):
    """Of the sites' own weights after a round, which nobody else sees."""
    held = {name: site.trained[number] for name, site in sites.items() if name in shares}
    return {
        key: sum(shares[name] * one[key].double() for name, one in held.items()) for key in next(iter(held.values()))
    }


def the_server_has_no_key_and_cannot_open_anything(folder, tmp_path, keys, wanted):
    state = load_state(folder)
    assert state.rounds == 2
    assert state.said[KEY] == key_id(keys.sites)
    places = [folder, tmp_path / "job", tmp_path / "local"]
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"round.safetensors", "rounds.jsonl", "medseg_site.yaml"}
    assert not [path for path in files if path.name.startswith("model.")]  # no bundle of the global model
    biggest = max((value.numpy() for value in wanted.values()), key=lambda value: value.size)
    pattern = biggest.ravel()[:16].tobytes()
    for path in files:
        held = path.read_bytes()
        assert keys.sites not in held
        assert keys.sites[:200] not in held
        assert pattern not in held
    total = sum(value.numel() for value in wanted.values())
    chunks = checked(state.state, total)
    with pytest.raises(EncryptionError, match="MS-J141"):
        decrypted(chunks, make_keys().server, total)
    flat = torch.cat([wanted[name].reshape(-1) for name in sorted(wanted)]).double().numpy()
    guess = decrypted(chunks, make_keys().sites, total)  # with a key of its own
    assert abs(guess - flat).max() > 1
    assert decrypted(chunks, keys.sites, total) / float(state.said["medseg_share"]) == pytest.approx(flat, abs=1e-6)


def test_a_site_that_was_away_comes_back_and_what_is_missing_is_made_up_for(sites, server):
    """Two of three in round 1; the message of round 2 is whole, so the third opens it too."""
    how = how_of(share_cap=1.0)
    asked, closed = [], sites(how)

    def after_round_one(site):
        def answer(task, dxo):
            asked.append(task)
            return None if asked.count("train") == 1 and task == "train" else site(task, dxo)

        return answer

    folder, told = server(how, {**closed, "c": after_round_one(closed["c"])}, encrypted=True)
    rows = read_rounds(folder)
    assert [row["sites"]["c"]["outcome"] for row in rows] == ["missing", "used", "tested"]
    assert any("site c is missing" in line for line in told)
    shares = {name: rows[0]["sites"][name]["share"] for name in ("a", "b")}
    assert shares == pytest.approx({"a": 0.75, "b": 0.25})
    for one in closed.values():
        assert furthest(one.opened[-2], mean_of(closed, shares, 0)) < 1e-6


def test_it_goes_on_from_an_encrypted_state(sites, server, tmp_path):
    how = how_of(rounds=2)
    one_round = sites(how_of(rounds=1))
    folder, _ = server(how_of(rounds=1), one_round, encrypted=True)
    assert load_state(folder).rounds == 1
    _, told = server(how, sites(how, folder="plain", privacy="none"), resume=True)
    assert "MS-J016" in told[-1]
    assert "encrypted" in told[-1]
    again = sites(how, folder="again")
    _, told = server(how, again, resume=True, encrypted=True)
    assert told == []
    assert load_state(folder).rounds == 2
    assert load_state(folder).state[CIPHERTEXTS].dtype == torch.uint8


def test_another_key_is_told_by_the_server_and_by_the_site(sites, server):
    how = how_of()
    folder, told = server(how, sites(how, key={"c": make_keys().sites}), encrypted=True)
    rows = read_rounds(folder)
    assert rows[0]["sites"]["c"]["outcome"] == "refused"
    assert "MS-J143" in rows[0]["sites"]["c"]["why"]
    assert rows[1]["sites"]["c"]["outcome"] == "failed"  # it cannot open what came
    assert "no key, or another one" in rows[1]["sites"]["c"]["why"]
    assert any("site c is refused" in line for line in told)


def test_the_first_site_to_answer_does_not_settle_the_key(sites, server, keys):
    how = how_of(rounds=1)
    folder, told = server(how, sites(how, key={"a": make_keys().sites}), encrypted=True)
    row = read_rounds(folder)[0]["sites"]
    assert {name: one["outcome"] for name, one in row.items()} == {"a": "refused", "b": "used", "c": "used"}
    assert "MS-J143" in row["a"]["why"]
    assert any("site a is refused" in line for line in told)
    assert load_state(folder).said[KEY] == key_id(keys.sites)


def test_plain_and_encrypted_do_not_meet(sites, server):
    how = how_of(rounds=1)
    folder, told = server(how, sites(how, "none"), encrypted=True)
    assert "MS-J145" in read_rounds(folder)[0]["sites"]["a"]["why"]
    assert "MS-J018" in told[-1]
    folder.rename(folder.with_name("first"))
    closed = sites(how, folder="closed")
    folder, told = server(how, closed)
    assert read_rounds(folder)[0]["sites"]["a"]["outcome"] == "failed"  # nothing left it
    assert [row["code"] for row in closed["a"].audit()[:1]] == ["MS-J145"]


def test_a_site_without_a_key_sends_nothing(sites, server):
    how = how_of(rounds=1)
    folder, _ = server(how, sites(how, key={"b": None}), encrypted=True)
    assert read_rounds(folder)[0]["sites"]["b"]["outcome"] == "failed"


def test_what_needs_a_server_that_reads_is_refused(server):
    _, told = server(how_of(control_variates=True), {"a": None}, encrypted=True)
    assert "MS-J144" in told[-1]
