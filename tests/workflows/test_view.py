"""What `medseg view` opens: the scene with Slicer, the page without, and a clear word where there is neither."""

from __future__ import annotations

import json
import sys
import time
import webbrowser
from pathlib import Path

import pytest

from medseg.errors import ChoiceError, InputError, UsageError
from medseg.workflows.record import SCHEMA
from medseg.workflows.view import Opening, find_results, open_result, what_to_view

SLICER = Path("/opt/Slicer/Slicer")


def there():
    return SLICER


def nowhere():
    return None


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("SLICER_EXECUTABLE", raising=False)


def made(out, *names, files=("scene.mrml", "report.html"), base="."):
    """A run's folder with a record, and cases with the given files."""
    out.mkdir(exist_ok=True)
    (out / "record.json").write_text(json.dumps({"schema": SCHEMA, "cases": dict.fromkeys(names, "done")}))
    for name in names:
        folder = out / base / name
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("x", encoding="utf-8")
        (folder / "record.json").write_text(json.dumps({"schema": SCHEMA, "case": name}))
    (out / "logs").mkdir()
    return out


def test_one_case_needs_no_name(tmp_path):
    out = made(tmp_path / "out", "a")
    scene = (out / "a" / "scene.mrml").resolve()
    assert what_to_view(out, slicer=there) == Opening(scene, SLICER)
    assert what_to_view(out, "a", slicer=there) == Opening(scene, SLICER)
    assert what_to_view(out / "a", slicer=there) == Opening(scene, SLICER)
    assert what_to_view(out / "a", "a", slicer=there) == Opening(scene, SLICER)


def test_without_slicer_the_page_and_why(tmp_path, monkeypatch):
    out = made(tmp_path / "out", "a", "b")
    found = what_to_view(out, "b", slicer=nowhere)
    assert (found.path, found.slicer) == ((out / "b" / "report.html").resolve(), None)
    assert found.note.startswith("3D Slicer was not found")
    monkeypatch.setenv("SLICER_EXECUTABLE", "/gone/Slicer")
    assert "SLICER_EXECUTABLE names no file (/gone/Slicer)" in what_to_view(out, "b", slicer=nowhere).note


def test_flat_results(tmp_path):
    out = made(tmp_path / "out", "a", "b", base="details")
    assert list(find_results(out)) == ["a", "b"]
    assert what_to_view(out, "b", slicer=there).path == (out / "details" / "b" / "scene.mrml").resolve()


def test_several_cases_open_the_index_or_are_listed(tmp_path):
    out = made(tmp_path / "out 1", "a", "b c")
    with pytest.raises(ChoiceError, match="results of 2 cases") as caught:
        what_to_view(out, slicer=there)
    assert caught.value.code == "MS-U342"
    assert caught.value.candidates == (f"medseg view '{out}' a", f"medseg view '{out}' 'b c'")
    (out / "index.html").write_text("x", encoding="utf-8")
    assert what_to_view(out, slicer=there) == Opening((out / "index.html").resolve())
    assert what_to_view(out, "a", slicer=there).slicer == SLICER


@pytest.mark.parametrize("kind", ["missing", "empty", "foreign", "file"])
def test_a_folder_without_results(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("x", encoding="utf-8")
    elif kind != "missing":
        out.mkdir()
    if kind == "foreign":
        (out / "a").mkdir()
        (out / "a" / "record.json").write_text('{"case": "of another program"}', encoding="utf-8")
    with pytest.raises(UsageError, match="no results" if kind != "missing" else "does not exist") as caught:
        what_to_view(out, slicer=there)
    assert (caught.value.code, caught.value.exit_code) == ("MS-U340", 2)


def test_an_unknown_case_hears_the_near_names(tmp_path):
    out = made(tmp_path / "out", "hippocampus_001", "hippocampus_002", "liver", *(f"z{n}" for n in range(20)))
    with pytest.raises(UsageError, match="hippocampus_001, hippocampus_002 and 21 others") as caught:
        what_to_view(out, "hipocampus_01", slicer=there)
    assert caught.value.code == "MS-U341"
    assert caught.value.mend == f"medseg view {out} hippocampus_001"
    with pytest.raises(UsageError, match="hippocampus_001, hippocampus_002, liver, z0"):
        what_to_view(out, "XXXX", slicer=there)


@pytest.mark.parametrize("slicer", [there, nowhere])
def test_an_old_result(tmp_path, slicer):
    out = made(tmp_path / "out", "a", files=("preview.png",))
    with pytest.raises(InputError, match="neither a scene") as caught:
        what_to_view(out, slicer=slicer)
    assert (caught.value.code, caught.value.file) == ("MS-U343", str(out / "a"))
    assert "--overwrite" in caught.value.mend


def test_a_result_with_a_page_and_no_scene(tmp_path):
    found = what_to_view(made(tmp_path / "out", "a", files=("report.html",)), slicer=there)
    assert (found.path.name, found.slicer) == ("report.html", None)
    assert "no scene" in found.note


def test_a_scene_and_nothing_to_show_it(tmp_path):
    out = made(tmp_path / "out", "a", files=("scene.mrml",))
    with pytest.raises(UsageError, match="3D Slicer was not found") as caught:
        what_to_view(out, slicer=nowhere)
    assert caught.value.code == "MS-U344"
    assert "scene.mrml" in caught.value.file


def test_the_page_opens_as_a_url(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    open_result(Opening(tmp_path / "a b" / "report.html"))
    assert opened == [(tmp_path / "a b" / "report.html").as_uri()]
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    with pytest.raises(UsageError, match="no browser") as caught:
        open_result(Opening(tmp_path / "report.html"))
    assert caught.value.code == "MS-U345"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for Slicer")
def test_slicer_is_given_the_scene_and_not_waited_for(tmp_path):
    program, scene = tmp_path / "Slicer", tmp_path / "a b" / "scene.mrml"
    program.write_text(
        f'#!/bin/sh\nprintf "%s" "$1" > "{tmp_path}/heard.part"\nmv "{tmp_path}/heard.part" "{tmp_path}/heard"\nsleep 3\n'
    )
    program.chmod(0o755)
    start = time.monotonic()
    open_result(Opening(scene, program))
    assert time.monotonic() - start < 2
    while not (tmp_path / "heard").exists():
        assert time.monotonic() - start < 30
        time.sleep(0.02)
    assert (tmp_path / "heard").read_text() == str(scene)


def test_slicer_that_cannot_be_started(tmp_path):
    with pytest.raises(UsageError, match="cannot be started") as caught:
        open_result(Opening(tmp_path / "scene.mrml", tmp_path / "gone"))
    assert caught.value.code == "MS-U345"
    assert "scene.mrml" in caught.value.mend
