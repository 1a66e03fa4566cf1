"""A project's file: the example is one, and every way of getting it wrong is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import UsageError
from medseg.federated.kits.project import load_project

EXAMPLE = Path(__file__).parents[3] / "configs" / "federation" / "project.example.yaml"


def said() -> dict:
    return yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))


def written(folder: Path, content: object) -> Path:
    path = folder / "project.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_example_is_a_project():
    project = load_project(EXAMPLE)
    assert project.names == ("hospital-a", "hospital-b", "hospital-c")
    assert (project.server.host, project.server.port) == ("fl.example.org", 8002)
    assert [(one.email, one.role) for one in project.admins] == [("lead@example.org", "lead")]


def test_what_is_not_said_has_a_default(tmp_path):
    content = {key: value for key, value in said().items() if key in ("name", "server", "sites", "admins")}
    project = load_project(written(tmp_path, content))
    assert (project.privacy, project.heart_beat_timeout_s, project.valid_days) == ("none", 60, 360)


@pytest.mark.parametrize("gone", ["name", "server", "sites", "admins"])
def test_what_is_missing_is_named(tmp_path, gone):
    content = said()
    del content[gone]
    with pytest.raises(UsageError, match=gone if gone != "server" else "server is no mapping") as caught:
        load_project(written(tmp_path, content))
    assert caught.value.code == "MS-J050"


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("quorum", 2, "accepted"),
        ("privasy", "none", "did you mean `privacy`"),
        ("heart_beat_timeout_s", 5, "from 10 to 3600"),
        ("heart_beat_timeout_s", "60", "not a whole number"),
        ("valid_days", True, "not a whole number"),
        ("privacy", 3, "not text"),
        ("sites", [], "at least one"),
        ("sites", [{"name": "a"}], "lacks `organisation`"),
        ("sites", [{"name": "a", "organisation": "b", "data": "/scans"}], "the key `data`"),
        ("server", {"host": "fl.example.org", "organisation": "u", "port": 0}, "from 1 to 65535"),
        ("admins", [{"email": "a@b.org", "organisation": "u", "role": "super"}], "role 'super'"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path, key, value, word):
    with pytest.raises(UsageError, match=word) as caught:
        load_project(written(tmp_path, {**said(), key: value}))
    assert caught.value.code == "MS-J050"
    assert "project.example.yaml" in caught.value.mend


@pytest.mark.parametrize(
    "change",
    [
        {"name": "liver ct"},
        {"name": "../up"},
        {"server": {"host": "10.0.0.7", "organisation": "u"}},
        {"server": {"host": "fl_server.example.org", "organisation": "u"}},
        {"server": {"host": "fl.example.org", "organisation": "the university"}},
        {"sites": [{"name": "a", "organisation": "x"}, {"name": "A", "organisation": "y"}]},
        {"sites": [{"name": "server", "organisation": "x"}]},
        {"sites": [{"name": "hospital/a", "organisation": "x"}]},
        {"sites": [{"name": "h" * 51, "organisation": "x"}]},
        {"admins": [{"email": "lead", "organisation": "u"}]},
    ],
)
def test_names_that_certificates_do_not_take_are_refused(tmp_path, change):
    with pytest.raises(UsageError) as caught:
        load_project(written(tmp_path, {**said(), **change}))
    assert caught.value.code == "MS-J051"


def test_somebody_must_be_able_to_submit(tmp_path):
    admins = [{"email": "a@example.org", "organisation": "u", "role": "member"}]
    with pytest.raises(UsageError) as caught:
        load_project(written(tmp_path, {**said(), "admins": admins}))
    assert caught.value.code == "MS-J052"


@pytest.mark.parametrize("content", ["[1, 2", "- a\n- b\n", "", "text"])
def test_what_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "project.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_project(path)
    assert caught.value.code == "MS-J050"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError) as caught:
        load_project(tmp_path / "none.yaml")
    assert caught.value.code == "MS-J050"


@given(st.text(max_size=70))
def test_every_site_name_is_taken_or_refused_by_name(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("project")
    content = {**said(), "sites": [{"name": name, "organisation": "x"}]}
    try:
        project, refused = load_project(written(folder, content)), ""
    except UsageError as error:
        project, refused = None, error.code
    from nvflare.apis.utils.format_check import name_check

    if project is None:
        assert refused == "MS-J051"
    else:
        assert project.names == (name,)
        assert name_check(name, "client")[0] is False  # NVFLARE takes it too
