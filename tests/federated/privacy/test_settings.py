"""Privacy settings: the shipped ones, one's own, and the filters that they mean."""

from __future__ import annotations

import json

import pytest

from medseg.errors import UsageError
from medseg.federated.privacy.settings import (
    Privacy,
    data_filters,
    filters,
    load_privacy,
    privacy_json,
    shipped_privacy,
)

AUDIT, CLIP, PACK = "AuditFilter", "ClipNoiseFilter", "PackFilter"


def names(privacy: Privacy) -> list[str]:
    return [one["path"].rsplit(".", 1)[1] for one in filters(privacy)]


def test_the_shipped_ones_are_understood_and_all_end_with_the_audit():
    found = {name: load_privacy(name) for name in shipped_privacy()}
    assert {"none", "clip_noise", "fp16", "top_k", "he"} <= set(found)
    assert found["none"] == Privacy("none")
    assert names(found["none"]) == [AUDIT]
    assert names(found["clip_noise"]) == [CLIP, AUDIT]
    assert names(found["he"]) == [AUDIT]
    assert filters(found["he"])[-1]["args"] == {"packing": "none", "encrypted": True}
    assert [name for name, one in found.items() if data_filters(one)] == ["he"]
    assert names(found["fp16"]) == names(found["top_k"]) == [PACK, AUDIT]
    assert found["clip_noise"].noisy
    assert not found["fp16"].noisy
    assert found["fp16"].feedback
    assert not found["top_k"].feedback  # docs/federated-privacy.md has the measurement


def test_noise_comes_before_packing_and_the_audit_last():
    both = Privacy("both", clip_norm=1.0, noise_multiplier=1.0, packing="top_k", keep=0.2)
    assert names(both) == [CLIP, PACK, AUDIT]
    assert filters(both)[-1]["args"] == {"packing": "top_k"}


def test_nvflare_builds_the_filters_of_a_sites_file(tmp_path):
    """Read by NVFLARE's own reader of `local/privacy.json`."""
    pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')
    from nvflare.apis.workspace import Workspace
    from nvflare.private.fed.app.fl_conf import create_privacy_manager

    both = Privacy("both", clip_norm=2.0, noise_multiplier=0.5, max_epsilon=9.0, packing="fp16")
    for folder in ("startup", "local"):
        (tmp_path / folder).mkdir()
    (tmp_path / "local" / "privacy.json").write_text(json.dumps(privacy_json(both)))
    manager = create_privacy_manager(Workspace(str(tmp_path), "site-1"), names_only=False)
    scope = manager.get_scope(None)  # of a job that names none
    assert manager.get_scope("another") is None
    found = scope.task_result_filters["out"]
    assert [type(one).__name__ for one in found] == [CLIP, PACK, AUDIT]
    assert (found[0].clip_norm, found[0].noise_multiplier, found[0].max_epsilon) == (2.0, 0.5, 9.0)
    assert found[1].packing == found[2].packing == "fp16"


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text("clip_norm: 2\nnoise_multiplier: 5\nmax_epsilon: 8\n")
    assert load_privacy(path) == Privacy("ours", clip_norm=2, noise_multiplier=5, max_epsilon=8)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("noise: 1", "unknown key 'noise'; accepted: clip_norm"),
        ("clip_norm: 0", "above 0"),
        ("clip_norm: -1", "above 0"),
        ("clip_norm: .nan", "above 0"),
        ("clip_norm: true", "not a number"),
        ("clip_norm: much", "not a number"),
        ("noise_multiplier: 1", "noise needs clip_norm"),
        ("clip_norm: 1\nmax_epsilon: 3", "max_epsilon needs"),
        ("delta: 1", "delta is below 1"),
        ("packing: zip", "accepted: none, fp16, top_k"),
        ("keep: 1.5", "keep at most 1"),
        ("keep: null", "not a number"),
        ("feedback: 1", "not true or false"),
        ("encrypted: 1", "not true or false"),
        ("encrypted: true\npacking: fp16", "packing fp16 cannot be encrypted"),
        ("- none", "a list, not a table"),
        ("", "a NoneType, not a table"),
        ("a: [", "is not understood"),
    ],
)
def test_what_is_not_understood_is_told(tmp_path, text, why):
    path = tmp_path / "ours.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=rf"MS-J100 [\s\S]*{why}"):
        load_privacy(path)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UsageError, match=r"MS-J100 no privacy setting is called 'dp'[\s\S]*clip_noise, fp16"):
        load_privacy("dp")
